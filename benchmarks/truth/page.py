"""The tables of docs/truth.md, as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from benchmarks.markdown import accuracy, difference, table
from benchmarks.truth.figures import (
    OPENING_AND_TIE,
    TIE,
    Choices,
    Pair,
    Shift,
    by_kind,
    differing,
    lead,
    margin,
    paired,
    rates,
    shape,
    shift,
    why,
    why_inspect,
)
from benchmarks.truth.reading import Findings, menu

BEGIN = "<!-- measured; written by: python -m benchmarks truth --write=docs/truth.md -->"
NAMES = {
    "native": "guidance's own `select`",
    "in_json": 'guidance\'s own, after `{"choice":"`',
    "json_schema": "`json_schema`",
    "logprob": "`logprob`",
    "text": "`text`",
    "lettered_text": "`text`, lettered prompt",
    "inspect": "inspect-ai, lettered prompt",
}
LEADS = (0.0, 0.02, 0.05, 0.1, 0.2, 1.0)
MANY = 12


def report(found: Findings) -> str:
    """Everything that was measured."""
    strategies = [name for name in ("json_schema", "logprob", "text") if name in found.runs]
    shifts = {
        "json_schema": shift(_told(found.in_json), _told(found.runs["json_schema"])),
        "logprob": shift(_told(found.native), _told(found.runs["logprob"])),
    }
    slack = {name: each.lead for name, each in shifts.items()}

    def reason(strategy: str) -> Callable[[int], str]:
        other = found.runs[strategy]
        return lambda line: why(strategy, found.native[line], other[line], found.in_json[line].options or (), slack)

    def reason_inspect(line: int) -> str:
        return why_inspect(found.runs["lettered_text"][line], found.inspect[line], menu("lettered", 4))

    parts = [
        _setting(found),
        "### Each by itself",
        _alone({"native": found.native, "in_json": found.in_json, **found.runs, "inspect": found.inspect}),
        "### Beside guidance's own `select`, on the same prompts",
        _beside({name: paired(found.native, found.runs[name]) for name in strategies}),
        'Beside guidance\'s own engine that is given `{"choice":"` as the beginning of the answer, and then chooses:',
        _beside({"json_schema": paired(found.in_json, found.runs["json_schema"])}),
        "The same prompts: " + _same(found) + ".",
        "### Why choices differ from guidance's own",
        *(
            _kinds(f"{NAMES[name]}: ", differing(found.native, found.runs[name]), reason(name), len(found.runs[name]))
            for name in strategies
        ),
        _ties(found, {name: by_kind(differing(found.native, found.runs[name]), reason(name)) for name in strategies}),
        *([_shapes(found.runs["text"])] if "text" in found.runs else []),
        "Lines with another choice, by the lead of guidance's own choice over its next best option:",
        _by_lead(found.native, {name: found.runs[name] for name in strategies}),
        "The same probabilities, told by two engines (each option's share of what the options have together):",
        _shifts(shifts),
        "### Beside inspect-ai, on the same messages",
        _beside({"lettered_text": paired(found.inspect, found.runs["lettered_text"])}, "inspect-ai"),
        f"The same messages, byte for byte, for {found.same_messages} of {len(found.inspect)} lines. Beside them a "
        + f"request has `{found.fields['inspect']}` by inspect-ai, and `{found.fields['lettered_text']}` by us.",
        _kinds("", differing(found.inspect, found.runs["lettered_text"]), reason_inspect, len(found.inspect)),
    ]
    return "\n\n".join(parts)


def _setting(found: Findings) -> str:
    study, facts = found.study, found.facts
    return (
        f"{study.count} lines of `{study.dataset.stem}` (SHA-256 `{facts['dataset'][:12]}…`), drawn with seed "
        f"{study.seed}; weights {facts['weights']}; {facts['date']}, {facts['machine']}; {facts['versions']}."
    )


def _alone(series: Mapping[str, Choices]) -> str:
    rows = []
    for name, choices in series.items():
        each = rates(choices)
        outside = "" if each.outside is None else f"{each.outside:.1%}"
        rows.append(
            (
                NAMES[name],
                each.lines,
                accuracy(each.right / each.lines, each.accuracy),
                f"{each.off_menu} ({each.off_menu / each.lines:.1%})",
                each.without,
                outside,
            )
        )
    head = ("", "lines", "accuracy (95 %, Wilson)", "first answer no option", "no choice", "probability outside")
    return table(head, rows)


def _beside(pairs: Mapping[str, Pair], first: str = "guidance") -> str:
    head = ("", "same choice", f"only {first} right", "only this right", "difference in points (95 %)", "McNemar p")
    return table(
        head,
        [
            (
                NAMES[name],
                f"{pair.agree} of {pair.cells.n} ({pair.agree / pair.cells.n:.1%})",
                pair.cells.only_a,
                pair.cells.only_b,
                difference(pair.cells.delta, pair.ci95),
                f"{pair.p_value:.2g}",
            )
            for name, pair in pairs.items()
        ],
    )


def _same(found: Findings) -> str:
    counts = ", ".join(f"{NAMES[name]} {count}" for name, count in found.same_counts.items())
    return (
        f"{found.same_tokens} of {len(found.native)} token for token (guidance's engine, and the server's template and "
        f"tokenizer); by the number of tokens that the server counted while it answered: {counts}"
    )


def _kinds(title: str, lines: Sequence[int], kind: Callable[[int], str], total: int) -> str:
    said = f"{title}another choice on {len(lines)} of {total} lines."
    if not lines:
        return said[0].upper() + said[1:]
    rows = [(reason, len(each), _numbers(each)) for reason, each in by_kind(lines, kind).items()]
    return said[0].upper() + said[1:] + "\n\n" + table(("why", "lines", "which"), rows)


def _numbers(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:MANY]))
    return shown if len(lines) <= MANY else f"{shown} …"


def _ties(found: Findings, kinds: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    leads = [
        lead((found.in_json if kind == OPENING_AND_TIE else found.native)[line].options or (), chosen)
        for name, told in kinds.items()
        for kind, lines in told.items()
        if kind in (TIE, OPENING_AND_TIE)
        for line in lines
        if (chosen := found.runs[name][line].chosen) is not None
    ]
    return f"The largest lead in these ties is {100 * max(leads, default=0):.1f} points (shares of the options)."


def _shapes(choices: Choices) -> str:
    off = [line for line, each in choices.items() if not each.on_menu]
    kinds = by_kind(off, lambda line: shape(choices[line], menu("text", 4)))
    rows = [(kind, len(lines), _numbers(lines)) for kind, lines in kinds.items()]
    head = ("what `text` got first, where that was no option", "lines", "which")
    return table(head, rows)


def _by_lead(native: Choices, others: Mapping[str, Choices]) -> str:
    differ = {name: set(differing(native, other)) for name, other in others.items()}
    leads = {line: margin(each.options or ()) for line, each in native.items()}
    rows = []
    for low, high in pairwise(LEADS):
        inside = {line for line, lead in leads.items() if low <= lead < high or lead == high == LEADS[-1]}
        rows.append(
            (f"{100 * low:.0f} to {100 * high:.0f} points", len(inside), *(len(inside & differ[n]) for n in others))
        )
    return table(("lead", "lines", *(NAMES[name] for name in others)), rows)


def _shifts(shifts: Mapping[str, Shift]) -> str:
    names = {
        "logprob": "the first token of the answer: guidance's engine, and `logprob`",
        "json_schema": 'the token after `{"choice":"`: guidance\'s engine, and `json_schema`',
    }
    head = ("in points", "mean difference", "largest", "largest shift of a lead where the best option is the same")
    rows = [(names[name], *(f"{100 * each:.1f}" for each in (s.mean, s.most, s.lead))) for name, s in shifts.items()]
    return table(head, rows)


def _told(choices: Choices) -> dict[int, tuple[float, ...]]:
    return {line: each.options for line, each in choices.items() if each.options and sum(each.options)}
