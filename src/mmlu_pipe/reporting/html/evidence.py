"""The lines of a run as its report holds them: an index to filter by, the details, and what was counted on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.records import ERROR_KEY, JsonObject, Score
from mmlu_pipe.reporting.html.pieces import CHUNK, Pieces, bounded, packed, told
from mmlu_pipe.scoring.accuracy import Outcome
from mmlu_pipe.scoring.runs import CompletedRun

__all__ = ["Evidence", "gather"]

_ABSURD = 1e12


@dataclass(frozen=True)
class Evidence:
    """What the page tells beyond the score.

    Attributes:
        index: packed rows to filter by.
        chunks: packed details, `CHUNK` lines each, in the order of the rows.
        latencies: seconds of every call that was answered.
        tokens: name of a count → that count of every call that was answered.
        first_failures: kind → the message of the first line that failed so.
    """

    index: str
    chunks: list[str]
    latencies: list[float]
    tokens: Mapping[str, list[int]]
    first_failures: Mapping[str, str]


def gather(run: CompletedRun, score: Score) -> Evidence:
    """Read every line with its calls, once.

    Raises:
        RunFolderError: the files of the run do not fit together.
        DatasetError: one of them cannot be read.
    """
    subjects: dict[str, int] = {}
    outcomes = {outcome: place for place, outcome in enumerate(Outcome)}
    rows: list[list[Any]] = []
    pieces = Pieces()
    latencies: list[float] = []
    tokens: dict[str, list[int]] = {"prompt_tokens": [], "completion_tokens": []}
    first_failures: dict[str, str] = {}
    for scored, calls in run.lines_with_calls():
        subject = scored.line.get("subject")
        place = subjects.setdefault(subject if isinstance(subject, str) else "", len(subjects))
        row, details = told(run, scored, calls)
        rows.append([scored.number, place, outcomes[scored.outcome], *row])
        pieces.add(bounded(details))
        error = scored.line.get(ERROR_KEY)
        if isinstance(error, dict):
            first_failures.setdefault(str(error.get("kind")), str(error.get("message")))
        for call in calls:
            _count(call, latencies, tokens)
    index = {
        "subjects": list(subjects),
        "outcomes": [str(outcome) for outcome in Outcome],
        "chunk": CHUNK,
        "spelling": score.calibration and score.calibration.options,
        "rows": rows,
    }
    return Evidence(packed(json.dumps(index)), pieces.chunks(), latencies, tokens, first_failures)


def _count(call: JsonObject, latencies: list[float], tokens: Mapping[str, list[int]]) -> None:
    if call.get("error") is not None or call.get("text") is None:
        return
    if isinstance(latency := call.get("latency_s"), int | float) and 0 <= latency < _ABSURD:
        latencies.append(latency)
    usage = call.get("usage")
    for name, counts in tokens.items():
        if isinstance(usage, dict) and isinstance(count := usage.get(name), int) and 0 <= count < _ABSURD:
            counts.append(count)
