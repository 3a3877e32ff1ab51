"""Runs compared line by line: what one has right and the other has not, and how sure their difference is.

A line that failed or was not answered counts as wrong, and is told. Positive differences are in favour of the other
run over the first. The statistics and their sources are in scoring/paired.py.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import ConfigError, RunFolderError
from mmlu_pipe.records import Interval, JsonObject
from mmlu_pipe.scoring.accuracy import Outcome
from mmlu_pipe.scoring.paired import RESAMPLES, Cells, bootstrap_interval, holm, lines_for_power, mcnemar_exact
from mmlu_pipe.scoring.runs import CompletedRun, ScoredLine

__all__ = ["ALLOWED", "ChangedLine", "Comparison", "PairedSubject", "compare"]

ALLOWED = ("program", "model", "strategy", "settings")
"""In what runs may differ if it is asked for."""

_SETTINGS = ("seed", "reasoning_effort", "require")
_CONTENT = ("dataset", "subject", "question", "choices")


@dataclass(frozen=True)
class PairedSubject:
    """The difference on the lines of one subject; `p_holm` is adjusted for the number of subjects."""

    cells: Cells
    p_value: float
    p_holm: float

    def to_json(self) -> JsonObject:
        """The counts, the difference and the two p-values."""
        return _counted(self.cells) | {"p_value": self.p_value, "p_holm": self.p_holm}


@dataclass(frozen=True)
class ChangedLine:
    """A line that one run has right and the other has not."""

    line_number: int
    subject: str | None
    correct: Any
    response_a: Any
    response_b: Any
    outcome_a: str
    outcome_b: str


@dataclass(frozen=True)
class Comparison:
    """One run beside another.

    Attributes:
        run_a: folder of the first run.
        run_b: folder of the other.
        differences: in what the runs differ, as it was asked for → what it is in each.
        cells: the lines by which of the runs has them right.
        ci95: 95 % interval of `delta`, both ends in [-1, 1].
        p_value: of McNemar's exact test.
        p_holm: the same, adjusted for the number of runs that are compared with the first.
        method: how interval and p-value were made.
        no_answer_a: outcome (`failed`, `unanswered`) → lines of the first run, which count as wrong.
        no_answer_b: the same of the other.
        unpaired_a: lines that only the first run evaluated; they do not count.
        unpaired_b: the same of the other.
        lines_for_80_percent_power: lines that would show such a difference four times in five; None without one.
        by_subject: subject → difference.
        changed: the lines that only one run has right.
    """

    run_a: str
    run_b: str
    differences: Mapping[str, tuple[str, str]]
    cells: Cells
    ci95: Interval
    p_value: float
    p_holm: float
    method: str
    no_answer_a: Mapping[str, int]
    no_answer_b: Mapping[str, int]
    unpaired_a: int
    unpaired_b: int
    lines_for_80_percent_power: int | None
    by_subject: Mapping[str, PairedSubject]
    changed: Sequence[ChangedLine]

    @property
    def delta(self) -> float:
        """Accuracy of the other run minus accuracy of the first."""
        return self.cells.delta

    def to_json(self) -> JsonObject:
        """What `mmlu-pipe compare --json` prints."""
        head = _counted(self.cells) | {"ci95": asdict(self.ci95), "p_value": self.p_value, "method": self.method}
        tail = {
            "by_subject": {name: each.to_json() for name, each in self.by_subject.items()},
            "changed": [asdict(each) for each in self.changed],
        }
        return head | {name: value for name, value in vars(self).items() if name not in (*head, "cells")} | tail


def compare(runs: Sequence[str | Path], *, allow: Sequence[str] = (), seed: int = 0) -> tuple[Comparison, ...]:
    """Every other run beside the first, line by line.

    Args:
        runs: two or more folders of completed runs on one dataset.
        allow: in what they may differ: `program`, `model`, `strategy` or `settings`.
        seed: of the bootstrap.

    Raises:
        ConfigError: the runs cannot be compared, saying in what they differ.
        RunFolderError: a folder holds no completed run.
    """
    for name in allow:
        if name not in ALLOWED:
            raise ConfigError(f"--allow {name!r}: use {', '.join(ALLOWED)}", key="allow")
    if len(runs) < 2:
        raise ConfigError("give two or more run folders to compare", key="runs")
    first, *others = (CompletedRun.read(Path(run)) for run in runs)
    differences = [_differences(first, other, allow) for other in others]
    found = [_compared(first, other, told, seed) for other, told in zip(others, differences, strict=True)]
    adjusted = holm([each.p_value for each in found])
    return tuple(replace(each, p_holm=p) for each, p in zip(found, adjusted, strict=True))


def _compared(first: CompletedRun, other: CompletedRun, told: Mapping[str, tuple[str, str]], seed: int) -> Comparison:
    pairs: Counter[tuple[bool, bool]] = Counter()
    subjects: dict[str, Counter[tuple[bool, bool]]] = {}
    without: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    unpaired = [0, 0]
    changed = []
    for a, b in _paired(first, other):
        if a is None or b is None:
            unpaired[a is None] += 1
            continue
        _refuse_another_line(first, other, a, b)
        right = (a.outcome is Outcome.CORRECT, b.outcome is Outcome.CORRECT)
        subject = a.line.get("subject")
        pairs[right] += 1
        if isinstance(subject, str):
            subjects.setdefault(subject, Counter())[right] += 1
        for each, counter in zip((a, b), without, strict=True):
            if each.outcome in (Outcome.FAILED, Outcome.UNANSWERED):
                counter[each.outcome.value] += 1
        if right[0] != right[1]:
            changed.append(_changed(first, other, a, b))
    if not pairs:
        raise ConfigError(f"{other.path}: has no line that {first.path} has too; compare runs on the same lines")
    cells = _cells(pairs)
    by_subject = {name: _cells(counts) for name, counts in sorted(subjects.items())}
    p_values = [mcnemar_exact(each.only_a, each.only_b) for each in by_subject.values()]
    return Comparison(
        run_a=str(first.path),
        run_b=str(other.path),
        differences=told,
        cells=cells,
        ci95=bootstrap_interval(cells, seed=seed),
        p_value=(p_value := mcnemar_exact(cells.only_a, cells.only_b)),
        p_holm=p_value,
        method=f"exact McNemar test; paired bootstrap, percentile interval of {RESAMPLES} resamples, seed {seed}",
        no_answer_a=dict(sorted(without[0].items())),
        no_answer_b=dict(sorted(without[1].items())),
        unpaired_a=unpaired[0],
        unpaired_b=unpaired[1],
        lines_for_80_percent_power=lines_for_power(cells),
        by_subject={
            name: PairedSubject(each, p, adjusted)
            for (name, each), p, adjusted in zip(by_subject.items(), p_values, holm(p_values), strict=True)
        },
        changed=tuple(changed),
    )


def _differences(first: CompletedRun, other: CompletedRun, allow: Sequence[str]) -> dict[str, tuple[str, str]]:
    """In what the runs differ, all of it asked for.

    Raises:
        ConfigError: they are on different datasets, were scored by different keys, or differ in something else.
    """
    if first.dataset[1] != other.dataset[1]:
        names = f"{first.dataset[0]} and {other.dataset[0]}"
        raise ConfigError(f"{first.path} and {other.path} are runs on different datasets ({names}); nothing pairs them")
    if first.correct_key != other.correct_key:
        raise ConfigError(
            f"{first.path} was scored by the key {first.correct_key!r}, {other.path} by {other.correct_key!r}; run one "
            "of them again with the --correct-key of the other"
        )
    ours, theirs = _decided(first), _decided(other)
    if first.program == other.program and first.response_key != other.response_key:
        for run, decided in ((first, ours), (other, theirs)):
            if run.facts.get("answered"):  # without answers it is a guess
                decided["program"] += f", scored by {run.response_key}"
    found = {name: (ours[name], theirs[name]) for name in ALLOWED if ours[name] != theirs[name]}
    if unasked := [name for name in found if name not in allow]:
        told = "".join(f"\n  {name}: {found[name][0]} there, {found[name][1]} here" for name in unasked)
        raise ConfigError(
            f"{other.path} differs from {first.path} in more than was asked for:{told}\n"
            f"  if that is what you want to compare: --allow {','.join(found)}",
            key="allow",
        )
    return found


def _decided(run: CompletedRun) -> dict[str, str]:
    """What decided the answers of a run, beside its dataset, in words."""
    program = [_named(run.program), *run.options.get("program_option", ())]
    if run.examples is not None:
        program.append(f"examples {_named(run.examples)}")
    settings = {name: value for name in _SETTINGS if (value := run.options.get(name)) not in (None, [])}
    return {
        "program": ", ".join(program),
        "model": ", ".join(sorted(run.facts.get("served_models") or [])) or str(run.facts.get("model")),
        "strategy": ", ".join(sorted(run.facts.get("strategies") or [])) or "none",
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items()) or "none",
    }


def _named(source: tuple[str, str]) -> str:
    name, digest = source
    return f"{name} ({digest[:12]})"


def _paired(first: CompletedRun, other: CompletedRun) -> Iterator[tuple[ScoredLine | None, ScoredLine | None]]:
    """The lines of both runs by number, None where one run has not evaluated it."""

    def tagged(run: CompletedRun, side: int) -> Iterator[tuple[int, int, ScoredLine]]:
        return ((scored.number, side, scored) for scored in run.lines())

    merged = heapq.merge(tagged(first, 0), tagged(other, 1), key=lambda entry: entry[:2])
    for _, group in groupby(merged, key=lambda entry: entry[0]):
        found = {side: scored for _, side, scored in group}
        yield found.get(0), found.get(1)


def _refuse_another_line(first: CompletedRun, other: CompletedRun, a: ScoredLine, b: ScoredLine) -> None:
    keys = (*_CONTENT, first.correct_key)
    if any(a.line.get(key) != b.line.get(key) for key in keys):
        raise RunFolderError(
            f"{other.path}: its line {b.number} is not that of {first.path}; the files of one of the runs are not as "
            "it left them",
            path=other.path,
        )


def _changed(first: CompletedRun, other: CompletedRun, a: ScoredLine, b: ScoredLine) -> ChangedLine:
    subject = a.line.get("subject")
    return ChangedLine(
        line_number=a.number,
        subject=subject if isinstance(subject, str) else None,
        correct=a.line.get(first.correct_key),
        response_a=a.line.get(first.response_key),
        response_b=b.line.get(other.response_key),
        outcome_a=a.outcome.value,
        outcome_b=b.outcome.value,
    )


def _cells(pairs: Mapping[tuple[bool, bool], int]) -> Cells:
    return Cells(
        both=pairs.get((True, True), 0),
        only_a=pairs.get((True, False), 0),
        only_b=pairs.get((False, True), 0),
        neither=pairs.get((False, False), 0),
    )


def _counted(cells: Cells) -> JsonObject:
    return {"n": cells.n, **asdict(cells), "delta": cells.delta}
