"""The lines of a run as the page holds them: an index to filter by, and the details of a line in packed pieces."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.records import ERROR_KEY, JsonObject, Score
from mmlu_pipe.scoring.accuracy import Outcome, positions
from mmlu_pipe.scoring.runs import CompletedRun, ScoredLine

__all__ = ["CHUNK", "Evidence", "gather", "letter"]

CHUNK = 100
"""Lines in one packed piece; the browser unpacks the piece of a line when that is opened."""

_LONGEST = 20_000
_MOST_CALLS = 40
_SEARCHED = 400
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
    piece: list[str] = []
    chunks: list[str] = []
    latencies: list[float] = []
    tokens: dict[str, list[int]] = {"prompt_tokens": [], "completion_tokens": []}
    first_failures: dict[str, str] = {}
    keys = {"response_key": score.response_key, "correct_key": score.correct_key}
    for scored, calls in run.lines_with_calls():
        subject = scored.line.get("subject")
        place = subjects.setdefault(subject if isinstance(subject, str) else "", len(subjects))
        row, details = _told(scored, calls, **keys)
        rows.append([scored.number, place, outcomes[scored.outcome], *row])
        piece.append(_bounded(details))
        if len(piece) == CHUNK:
            chunks.append(_packed(f"[{','.join(piece)}]"))
            piece.clear()
        error = scored.line.get(ERROR_KEY)
        if isinstance(error, dict):
            first_failures.setdefault(str(error.get("kind")), str(error.get("message")))
        for call in calls:
            _count(call, latencies, tokens)
    if piece:
        chunks.append(_packed(f"[{','.join(piece)}]"))
    index = {
        "subjects": list(subjects),
        "outcomes": [str(outcome) for outcome in Outcome],
        "chunk": CHUNK,
        "spelling": score.calibration and score.calibration.options,
        "rows": rows,
    }
    return Evidence(_packed(json.dumps(index)), chunks, latencies, tokens, first_failures)


def letter(index: int) -> str:
    """The letter of a choice: A for 0; a number where the letters end."""
    return chr(ord("A") + index) if 0 <= index < 26 else str(index)


def _told(
    scored: ScoredLine, calls: list[JsonObject], *, response_key: str, correct_key: str
) -> tuple[list[str], JsonObject]:
    """What a row shows and is searched by (question, choices, response, correct, answers), and the details of it."""
    line, failed = scored.line, scored.outcome is Outcome.FAILED
    pair = None if failed else positions(line, response_key=response_key, correct_key=correct_key)[1]
    question, choices = line.get("question"), line.get("choices")
    choices = choices if isinstance(choices, list) else []
    correct, chosen = pair or (_index(line.get(correct_key), choices), None)
    response = None if failed else line.get(response_key)
    error = line.get(ERROR_KEY)
    told = [f"{error.get('kind')}: {error.get('message')}"] if isinstance(error, dict) else []
    answers = [text for call in calls if isinstance(text := call.get("text"), str)]
    row = [
        question if isinstance(question, str) else json.dumps(question),
        "\n".join(str(choice) for choice in choices),
        "" if response is None else _shown(response) if chosen is None else letter(chosen),
        _shown(line.get(correct_key)) if correct is None else letter(correct),
        "\n".join(told + answers),
    ]
    own = {"question", "choices", "subject", ERROR_KEY}
    details = {
        "question": question,
        "choices": choices,
        "correct": correct,
        "chosen": chosen,
        "more": {key: value for key, value in line.items() if key not in own},
        "error": error,
        "calls": calls,
    }
    return [text[:_SEARCHED] if place else text[: 10 * _SEARCHED] for place, text in enumerate(row)], details


def _index(value: Any, choices: list[Any]) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices) else None


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _count(call: JsonObject, latencies: list[float], tokens: Mapping[str, list[int]]) -> None:
    if call.get("error") is not None or call.get("text") is None:
        return
    if isinstance(latency := call.get("latency_s"), int | float) and 0 <= latency < _ABSURD:
        latencies.append(latency)
    usage = call.get("usage")
    for name, counts in tokens.items():
        if isinstance(usage, dict) and isinstance(count := usage.get(name), int) and 0 <= count < _ABSURD:
            counts.append(count)


def _bounded(details: JsonObject) -> str:
    """The details as JSON, of no more than what a page can hold; what is left out is counted there."""
    text = json.dumps(details)
    if len(text) <= _LONGEST:
        return text
    calls = details["calls"]
    return json.dumps(_cut(details | {"calls": calls[:_MOST_CALLS], "calls_left_out": len(calls[_MOST_CALLS:])}))


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        left = len(value) - _LONGEST
        return value if left <= 0 else f"{value[:_LONGEST]}\n… {left:,} more characters are in the files of the run"
    if isinstance(value, list):
        return [_cut(member) for member in value]
    if isinstance(value, dict):
        return {key: _cut(member) for key, member in value.items()}
    return value


def _packed(text: str) -> str:
    """Compressed, in letters that mean nothing to HTML; the same text gives the same bytes."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
