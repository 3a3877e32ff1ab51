"""The lines on which compared runs differ, as the page holds them: an index to filter by, and the packed details."""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import JsonObject, SubScore
from mmlu_pipe.reporting.html.pieces import CHUNK, Pieces, bounded, packed, told
from mmlu_pipe.scoring.accuracy import Accumulator, Outcome
from mmlu_pipe.scoring.runs import CompletedRun, ScoredLine

__all__ = ["Changes", "gather_changes"]


@dataclass(frozen=True)
class Changes:
    """What the page tells beyond the comparisons.

    Attributes:
        index: packed rows to filter by.
        chunks: packed details, `CHUNK` lines each, in the order of the rows.
        scores: of each run, over all of its lines.
        subjects: subject → its place in the index.
    """

    index: str
    chunks: list[str]
    scores: list[SubScore]
    subjects: dict[str, int]


def gather_changes(runs: Sequence[CompletedRun], names: Sequence[str], wanted: Collection[int]) -> Changes:
    """Read every line of the runs with its calls, once; the wanted ones are kept.

    Args:
        runs: two or more.
        names: what the page calls them.
        wanted: numbers of lines.

    Raises:
        RunFolderError: the files of a run do not fit together.
        DatasetError: one of them cannot be read.
    """
    counted = [Accumulator() for _ in runs]

    def tagged(side: int, run: CompletedRun) -> Iterator[tuple[int, int, ScoredLine, list[JsonObject]]]:
        for scored, calls in run.lines_with_calls():
            counted[side].add(None, scored.outcome)
            if scored.number in wanted:
                yield scored.number, side, scored, calls

    outcomes = {outcome: place for place, outcome in enumerate(Outcome)}
    subjects: dict[str, int] = {}
    rows: list[list[Any]] = []
    pieces = Pieces()
    merged = heapq.merge(*(tagged(side, run) for side, run in enumerate(runs)), key=lambda entry: entry[:2])
    for number, group in groupby(merged, key=lambda entry: entry[0]):
        said: list[list[Any] | None] = [None] * len(runs)
        details = ["null"] * len(runs)
        shared: list[Any] = []
        for _, side, scored, calls in group:
            (question, choices, response, _, answers), found = told(runs[side], scored, calls)
            said[side] = [outcomes[scored.outcome], response, answers]
            details[side] = bounded(found)
            subject = scored.line.get("subject")
            place = subjects.setdefault(subject if isinstance(subject, str) else "", len(subjects))
            shared = [number, place, question, choices]
        rows.append([*shared, said])
        pieces.add(f"[{','.join(details)}]")
    index = {
        "subjects": list(subjects),
        "outcomes": [str(outcome) for outcome in Outcome],
        "chunk": CHUNK,
        "names": names,
        "spellings": [_spelling(run) for run in runs],
        "rows": rows,
    }
    scores = [each.score(response_key="", correct_key="") for each in counted]
    return Changes(packed(json.dumps(index)), pieces.chunks(), list(scores), subjects)


def _spelling(run: CompletedRun) -> str | None:
    """How the options of the distributions are spelt, where the score tells it."""
    try:
        score = run.folder.read_score()
    except ConfigError:  # of an older version, which can be compared all the same
        return None
    return score.calibration.options if score and score.calibration else None
