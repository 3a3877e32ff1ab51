// A line that only one of two runs has right: the first run's, and the one that is chosen to be beside it.
(() => {
  const { $, asked, evidence, letter, make } = Lines;
  const SIGNS = { gained: "▲", lost: "▼" };
  let run = 1;

  const right = (line, place) => line.runs[place].outcome === "correct";
  const changed = (line, place) => line.runs[0] && line.runs[place] && right(line, 0) !== right(line, place);
  const outcome = (line) => (right(line, 0) ? "lost" : "gained");
  const badge = (place) => make("b", { className: "badge" }, `run ${letter(place)}`);

  function answer(line, place) {
    const { response, outcome } = line.runs[place];
    return [badge(place), " ", make("b", {}, make("bdi", {}, response || outcome)), right(line, place) ? " ✓" : ""];
  }

  Lines.start({
    line: ([number, subject, question, options, runs], index) => ({
      number, subject, question,
      text: `${question}\n${options}`.toLowerCase(),
      runs: runs.map((each) => each && { outcome: index.outcomes[each[0]], response: each[1], text: each[2].toLowerCase() }),
    }),
    among(lines, chosen) {
      run = Number(chosen.run);
      const found = lines.filter((line) => changed(line, run));
      const gained = found.filter((line) => outcome(line) === "gained").length;
      for (const [name, count] of Object.entries({ all: found.length, gained, lost: found.length - gained }))
        $(`count-${name}`).textContent = count.toLocaleString("en");
      return found;
    },
    narrowed: (line) => ({ run: line.runs.findIndex((each, place) => place && changed(line, place)) }),
    outcome,
    texts: (line) => [line.text, line.runs[0].text, line.runs[run].text],
    summary(line) {
      const name = outcome(line);
      return [
        make("span", { className: `outcome ${name}` }, `${SIGNS[name]} ${name}`),
        Lines.question(line),
        make("span", { className: "said", dir: "auto" }, ...answer(line, 0), " · ", ...answer(line, run)),
      ];
    },
    opened(line, found, index) {
      const sides = [0, run];
      const told = (place) => {
        const by = sides.filter((side) => found[side].chosen === place).map((side) => `run ${letter(side)}`).join(" and ");
        const correct = place === found[0].correct;
        return {
          className: `${by ? "chosen" : ""} ${correct ? "right" : ""}`,
          words: [by && `chosen by ${by}`, correct && "correct"].filter(Boolean).join(", "),
        };
      };
      return [
        asked(line, found[0], told),
        make("div", { className: "sides" }, ...sides.map((side) => make("div", {},
          make("p", { className: "side" }, badge(side), " ", make("bdi", {}, index.names[side]), " ", Lines.outcome(line.runs[side].outcome)),
          ...evidence(found[side], index.spellings[side])))),
      ];
    },
  });
})();
