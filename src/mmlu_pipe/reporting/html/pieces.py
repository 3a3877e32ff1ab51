"""Lines as a page holds them: what is shown and searched of each, and their details in packed pieces."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from mmlu_pipe.records import ERROR_KEY, JsonObject
from mmlu_pipe.scoring.accuracy import Outcome, correct_index, positions
from mmlu_pipe.scoring.positions import letter
from mmlu_pipe.scoring.runs import CompletedRun, ScoredLine

__all__ = ["CHUNK", "Pieces", "bounded", "packed", "told"]

CHUNK = 100
"""Lines in one packed piece; the browser unpacks the piece of a line when that is opened."""

_LONGEST = 20_000
_MOST_CALLS = 40
_SEARCHED = 400


class Pieces:
    """Details of lines, packed `CHUNK` by `CHUNK` as they come."""

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._open: list[str] = []

    def add(self, details: str) -> None:
        """Take the details of the next line, as JSON."""
        self._open.append(details)
        if len(self._open) == CHUNK:
            self._close()

    def chunks(self) -> list[str]:
        """All pieces, in the order of the lines."""
        if self._open:
            self._close()
        return self._chunks

    def _close(self) -> None:
        self._chunks.append(packed(f"[{','.join(self._open)}]"))
        self._open.clear()


def told(run: CompletedRun, scored: ScoredLine, calls: Sequence[JsonObject]) -> tuple[list[str], JsonObject]:
    """What a row shows and is searched by (question, choices, response, correct, answers), and the details of it."""
    line, failed = scored.line, scored.outcome is Outcome.FAILED
    pair = None if failed else positions(line, response_key=run.response_key, correct_key=run.correct_key)[1]
    question, choices = line.get("question"), line.get("choices")
    choices = choices if isinstance(choices, list) else []
    correct, chosen = pair or (correct_index(line, correct_key=run.correct_key), None)
    response = None if failed else line.get(run.response_key)
    error = line.get(ERROR_KEY)
    failure = [f"{error.get('kind')}: {error.get('message')}"] if isinstance(error, dict) else []
    answers = [text for call in calls if isinstance(text := call.get("text"), str)]
    row = [
        question if isinstance(question, str) else json.dumps(question),
        "\n".join(str(choice) for choice in choices),
        "" if response is None else _shown(response) if chosen is None else letter(chosen),
        _shown(line.get(run.correct_key)) if correct is None else letter(correct),
        "\n".join(failure + answers),
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


def bounded(details: JsonObject) -> str:
    """The details as JSON, of no more than what a page can hold; what is left out is counted there."""
    text = json.dumps(details)
    if len(text) <= _LONGEST:
        return text
    calls = details["calls"]
    return json.dumps(_cut(details | {"calls": calls[:_MOST_CALLS], "calls_left_out": len(calls[_MOST_CALLS:])}))


def packed(text: str) -> str:
    """Compressed, in letters that mean nothing to HTML; the same text gives the same bytes."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        left = len(value) - _LONGEST
        return value if left <= 0 else f"{value[:_LONGEST]}\n… {left:,} more characters are in the files of the run"
    if isinstance(value, list):
        return [_cut(member) for member in value]
    if isinstance(value, dict):
        return {key: _cut(member) for key, member in value.items()}
    return value
