"""What came of a sweep: the figures of each cell, and how it differs from the first one on its dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mmlu_pipe.backends.base import Status
from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.grid.cells import Cell
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.records import Interval, JsonObject, Score
from mmlu_pipe.runfolder import RunFolder
from mmlu_pipe.scoring.compare import ALLOWED, compare
from mmlu_pipe.scoring.paired import holm
from mmlu_pipe.scoring.runs import CompletedRun

__all__ = ["CellResult", "Difference", "Sweep", "cell_result", "compared"]


@dataclass(frozen=True)
class Difference:
    """A cell beside the first completed one on the same dataset, line by line; see scoring/compare.py.

    Attributes:
        cell: name of that one.
        n: lines that both evaluated.
        delta: accuracy of this cell minus accuracy of that one.
        ci95: 95 % interval of `delta` by the paired bootstrap.
        p_value: of McNemar's exact test.
        p_holm: the same, adjusted for the number of cells that are compared with that one.
    """

    cell: str
    n: int
    delta: float
    ci95: Interval
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class CellResult:
    """One cell of a sweep.

    Attributes:
        name: of its folder.
        options: what is particular to it: option → value in a few words.
        run_dir: its run folder.
        status: how its run stands.
        error: why it failed or was cancelled, or why its end was not seen.
        job: name of its job, if it has one.
        score: its result; None before it has completed.
        calls: model calls.
        tokens: kind of token → number, as the endpoint counts them.
        difference: to the first completed cell on its dataset; None for that one.
        not_compared: why there is no difference.
    """

    name: str
    options: Mapping[str, str]
    run_dir: Path
    status: Status
    error: MmluPipeError | None = None
    job: str | None = None
    score: Score | None = None
    calls: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    difference: Difference | None = None
    not_compared: str | None = None

    def to_json(self) -> JsonObject:
        """One JSON object; the run folder is named as in the folder of the sweep."""
        score, error = self.score, self.error
        return {
            "cell": self.name,
            "options": dict(self.options),
            "run_dir": self.run_dir.name,
            "status": self.status,
            "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
            "job": self.job,
            "lines": score and score.count,
            "answered": score and score.answered,
            "failed": score and score.failed,
            "accuracy": score and score.accuracy,
            "ci95": score and score.ci95 and asdict(score.ci95),
            "calls": self.calls,
            "tokens": dict(self.tokens),
            "difference": self.difference and asdict(self.difference),
            "not_compared": self.not_compared,
        }


@dataclass(frozen=True)
class Sweep:
    """A sweep and its cells.

    Attributes:
        run_dir: its folder.
        over: its axes, each `KEY=VALUE,VALUE`.
        cells: in the order of the grid.
    """

    run_dir: Path
    over: Sequence[str]
    cells: Sequence[CellResult]

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """The cells that have an error."""
        return tuple(cell for cell in self.cells if cell.error is not None)

    @property
    def status(self) -> Status:
        """`failed` if a cell has an error, `running` if the end of one was not waited for, else `completed`."""
        if self.failed:
            return "failed"
        return "running" if any(cell.status == "running" for cell in self.cells) else "completed"

    def to_json(self) -> JsonObject:
        """What `mmlu-pipe sweep --json` prints."""
        told = {"status": self.status, "cells": [cell.to_json() for cell in self.cells]}
        return {"run_dir": str(self.run_dir), "over": list(self.over), **told}


def cell_result(cell: Cell, status: Status, error: MmluPipeError | None) -> CellResult:
    """A cell whose run stands like that, with the figures of one that has completed.

    Raises:
        RunFolderError: its run folder is not as the run left it.
    """
    assert cell.config.output_dir is not None
    manifest = RunFolder(cell.config.output_dir).manifest
    job = (Manifest.reopen(manifest).job or {}).get("name") if manifest.is_file() else None
    found = CellResult(cell.name, cell.options, manifest.parent, status, error, job)
    if status != "completed":
        return found
    run = CompletedRun.read(found.run_dir)
    tokens, calls = run.facts.get("tokens") or {}, run.facts.get("calls") or 0
    return replace(found, score=run.folder.read_score(), calls=calls, tokens=tokens)


def compared(cells: Iterable[CellResult]) -> tuple[CellResult, ...]:
    """The cells with their differences to the first completed one on the same dataset.

    They may differ in program, model, strategy and settings, which is what a sweep is for.
    """
    found = list(cells)
    places: dict[str, list[int]] = {}
    for place, cell in enumerate(found):
        if cell.status == "completed":
            places.setdefault(CompletedRun.read(cell.run_dir).dataset[1], []).append(place)
    for first, *others in places.values():
        for place in others:
            found[place] = _beside(found[first], found[place])
        told = {place: known for place in others if (known := found[place].difference) is not None}
        for (place, known), p_holm in zip(told.items(), holm([each.p_value for each in told.values()]), strict=True):
            found[place] = replace(found[place], difference=replace(known, p_holm=p_holm))
    return tuple(found)


def _beside(first: CellResult, other: CellResult) -> CellResult:
    try:
        (found,) = compare((first.run_dir, other.run_dir), allow=ALLOWED)
    except MmluPipeError as error:  # no line in common, or scored by another key
        return replace(other, not_compared=str(error))
    difference = Difference(first.name, found.cells.n, found.delta, found.ci95, found.p_value, found.p_value)
    return replace(other, difference=difference)
