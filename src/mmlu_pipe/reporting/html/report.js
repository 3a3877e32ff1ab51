// A line of a run: what became of it, and what was said.
Lines.start({
  line: ([number, subject, outcome, question, options, response, correct, answers], index) => ({
    number, subject, outcome: index.outcomes[outcome], question, response, correct,
    texts: [`${question}\n${options}\n${answers}`.toLowerCase()],
  }),
  outcome: (line) => line.outcome,
  texts: (line) => line.texts,
  summary(line) {
    const { make } = Lines;
    const said = make("span", { className: "said", dir: "auto" });
    if (line.response) said.append("said ", make("b", {}, make("bdi", {}, line.response)), " · ");
    said.append("correct ", make("b", {}, make("bdi", {}, line.correct)));
    return [Lines.outcome(line.outcome), Lines.question(line), said];
  },
  opened(line, found, index) {
    const told = (place) => ({
      className: `${place === found.chosen ? "chosen" : ""} ${place === found.correct ? "right" : ""}`,
      words: [place === found.chosen && "chosen", place === found.correct && "correct"].filter(Boolean).join(", "),
    });
    return [Lines.asked(line, found, told), ...Lines.evidence(found, index.spelling)];
  },
});
