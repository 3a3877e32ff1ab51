"use strict";
// The list of lines of every page: filters, pages of rows, and what a row opens to; and the colours. What the rows are, the
// page's own script says. Texts of models and datasets go in as text, never as HTML.
const Lines = (() => {
  const PAGE = 50;
  const SIGNS = { correct: "✓", wrong: "✗", invalid: "?", unanswered: "–", failed: "!" };
  const $ = (id) => document.getElementById(id);
  const rows = $("rows"), filters = $("filters");
  const chunks = new Map();
  let own, index, lines, among = [], shown = [], page = 0;

  function make(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  const letter = (place) => (place < 26 ? String.fromCharCode(65 + place) : String(place));

  async function unpacked(id) {
    const letters = atob($(id).textContent);
    const bytes = new Uint8Array(letters.length);
    for (let place = 0; place < letters.length; place++) bytes[place] = letters.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function details(place) {
    const chunk = Math.floor(place / index.chunk);
    if (!chunks.has(chunk)) chunks.set(chunk, unpacked(`chunk-${chunk}`));
    return chunks.get(chunk).then((found) => found[place % index.chunk]);
  }

  // ---- filtering

  const chosen = () => Object.fromEntries(new FormData(filters));

  function filter() {
    const { outcome, subject, text, ...others } = chosen();
    const wanted = text.trim().toLowerCase();
    among = own.among ? own.among(lines, others) : lines;
    shown = among.filter((line) =>
      (!outcome || own.outcome(line) === outcome) && (subject === "" || line.subject === Number(subject)) &&
      (!wanted || own.texts(line).some((each) => each.includes(wanted))));
    page = 0;
    show();
  }

  function narrow(values) {
    filters.reset();
    for (const [name, value] of Object.entries(values)) filters.elements[name].value = value;
    filter();
  }

  function show() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    rows.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(row));
    rows.hidden = shown.length === 0;
    const count = shown.length.toLocaleString("en");
    $("found").textContent = shown.length === among.length ? `${count} lines` : `${count} of ${among.length.toLocaleString("en")} lines`;
    $("page").textContent = `Page ${page + 1} of ${pages}`;
    $("previous").disabled = page === 0;
    $("next").disabled = page === pages - 1;
    $("pages").hidden = pages === 1;
  }

  function turn(step) {
    page += step;
    show();
    $("lines").scrollIntoView();
    rows.querySelector("summary").focus({ preventScroll: true });
  }

  // ---- a line

  function row(line) {
    const found = make("details", {}, make("summary", {},
      make("span", { className: "number" }, String(line.number)), ...own.summary(line)));
    found.addEventListener("toggle", async () => {
      if (!found.open || found.children.length > 1) return;
      const opened = make("div", { className: "opened" });
      found.append(opened);
      try {
        opened.append(...own.opened(line, await details(line.place), index));
      } catch (problem) {
        opened.append(make("p", { className: "note" }, `This line cannot be unpacked: ${problem.message}`));
      }
    });
    return make("li", { id: `line-${line.number}` }, found);
  }

  const question = (line) => make("span", { className: "question", dir: "auto" }, line.question);
  const outcome = (name) => make("span", { className: `outcome ${name}` }, `${SIGNS[name]} ${name}`);

  function asked(line, found, told) {
    const head = [index.subjects[line.subject].replaceAll("_", " "), `line ${line.number}`].filter(Boolean).join(" · ");
    return make("div", {}, make("h3", {}, make("bdi", {}, head)),
      make("div", { className: "text", dir: "auto" }, text(found.question)),
      make("ol", { className: "choices" }, ...found.choices.map((choice, place) => {
        const { className, words } = told(place);
        return make("li", { className }, make("b", {}, letter(place)), make("span", { dir: "auto" }, text(choice)),
          make("span", { className: "told" }, words));
      })));
  }

  function evidence(found, spelling) {
    const more = Object.keys(found.more).length ? make("details", {},
      make("summary", { className: "plain" }, "All other keys of the line"),
      make("pre", { dir: "auto", tabIndex: 0 }, text(found.more))) : null;
    const left = found.calls_left_out ? make("p", { className: "note" }, `${found.calls_left_out} more calls are in calls.jsonl`) : null;
    return [
      found.error ? message("error", `${found.error.kind} · ${found.error.error_type}`, found.error.message, found.error) : null,
      ...found.calls.map((call, place) => callPart(call, place, found, spelling)),
      found.calls.length ? null : make("p", { className: "note" }, "No model call of this line is in the run folder."),
      left, more,
    ].filter(Boolean);
  }

  function message(role, title, content, all) {
    return make("div", { className: `message ${role === "assistant" || role === "error" ? role : ""}` },
      make("h4", {}, make("bdi", {}, title)),
      make("pre", { dir: "auto", tabIndex: 0 }, text(content)),
      all && Object.keys(all).length > 4 ? make("pre", { dir: "auto", tabIndex: 0, className: "plain" }, text(all)) : null);
  }

  function callPart(call, place, found, spelling) {
    const usage = call.usage || {};
    const facts = [
      call.served_model, call.strategy && `select by ${call.strategy}`, call.finish_reason && `finish reason ${call.finish_reason}`,
      usage.prompt_tokens !== undefined && `${usage.prompt_tokens} + ${usage.completion_tokens} tokens`,
      typeof call.latency_s === "number" && `${call.latency_s.toFixed(3)} s`, call.attempts > 1 && `${call.attempts} attempts`,
    ].filter(Boolean).join(" · ");
    return make("div", {},
      make("h3", {}, found.calls.length > 1 ? `Call ${place + 1} of ${found.calls.length}` : "Call"),
      make("p", { className: "plain" }, make("bdi", {}, facts)),
      ...(call.messages || []).map((sent) => message(String(sent.role) === "assistant" ? "" : sent.role, `sent as ${sent.role}`, sent.content)),
      call.error ? message("error", "error", call.error) : null,
      call.text === null || call.text === undefined ? null : message("assistant", "answer", call.text),
      call.distribution ? probabilities(call.distribution, found.choices, spelling) : null);
  }

  function probabilities(distribution, options, spelling) {
    const spelt = { index: (place) => String(place), number: (place) => String(place + 1), letter, choice: (place) => text(options[place]).trim() }[spelling];
    const meaning = new Map(spelt && spelling !== "choice" ? options.map((choice, place) => [spelt(place), `${letter(place)}: ${text(choice)}`]) : []);
    return make("table", { className: "probabilities" },
      make("caption", { className: "unseen" }, "Probability of each option"),
      make("tbody", {}, ...Object.entries(distribution).map(([option, value]) => {
        const meter = make("span", { className: "meter" });
        meter.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
        return make("tr", {}, make("th", { scope: "row", dir: "auto" }, make("code", {}, option)),
          make("td", {}, meter), make("td", {}, percent(value)),
          make("td", { className: "words", dir: "auto" }, meaning.get(option.trim()) || ""));
      })));
  }

  // ---- the page

  function addressed() {
    const number = Number(/^#line-(\d+)$/.exec(location.hash)?.[1]);
    const line = lines.find((each) => each.number === number);
    if (!line) return;
    narrow(own.narrowed ? own.narrowed(line) : {});
    page = Math.floor(shown.indexOf(line) / PAGE);
    show();
    const found = $(`line-${number}`);
    found.firstChild.open = true;
    found.scrollIntoView();
    found.querySelector("summary").focus({ preventScroll: true });
  }

  function theme() {
    const chosen = $("theme"), root = document.documentElement, key = "mmlu-pipe-theme";
    const use = (value) => { if (value === "light" || value === "dark") root.dataset.theme = value; else delete root.dataset.theme; };
    try { chosen.value = localStorage.getItem(key) || "light dark"; } catch { /* a page from a file may have no storage */ }
    use(chosen.value);
    chosen.closest("label").hidden = false;
    chosen.addEventListener("change", () => {
      use(chosen.value);
      try { localStorage.setItem(key, chosen.value); } catch { /* as above */ }
    });
  }

  async function start(page) {
    own = page;
    theme();
    try {
      index = await unpacked("index");
    } catch (problem) {
      $("found").textContent = `The lines cannot be unpacked (${problem.message}); a browser of 2023 or later can, and they are in the files of the run folder too.`;
      return;
    }
    lines = index.rows.map((packed, place) => ({ ...own.line(packed, index), place }));
    const names = index.subjects.map((name, place) => [name, place]).sort(([one], [other]) => (one < other ? -1 : 1));
    $("subject").append(...names.map(([name, place]) => make("option", { value: String(place) }, name.replaceAll("_", " ") || "none")));
    filters.hidden = false;
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.addEventListener("input", filter);
    $("previous").addEventListener("click", () => turn(-1));
    $("next").addEventListener("click", () => turn(1));
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a.lines");
      if (link) narrow(link.dataset);
    });
    addEventListener("hashchange", addressed);
    filter();
    addressed();
  }

  return { $, asked, evidence, letter, make, outcome, question, start };
})();
