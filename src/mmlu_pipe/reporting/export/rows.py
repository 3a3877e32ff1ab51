"""The lines, calls and errors of a run as rows of a table.

A column that a run adds begins with an underscore, as the reserved key `_error` does; all other columns are the keys
of the dataset and of the program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import ERROR_KEY, JsonObject
from mmlu_pipe.reporting.export.columns import Kind, cell, kinds_of, plain
from mmlu_pipe.reporting.export.source import Source
from mmlu_pipe.scoring.accuracy import Outcome, correct_index, positions
from mmlu_pipe.scoring.calibration import SPELLINGS, distribution_of
from mmlu_pipe.scoring.positions import letter
from mmlu_pipe.scoring.runs import ScoredLine

__all__ = ["Judged", "Table", "call_table", "error_table", "judged", "line_table"]

_ERROR = {"_error_kind": Kind.TEXT, "_error_type": Kind.TEXT, "_error_message": Kind.TEXT}
_LINE = {
    "_line_number": Kind.INTEGER,
    "_outcome": Kind.TEXT,
    "_correct": Kind.BOOLEAN,
    "_chosen_letter": Kind.TEXT,
    "_correct_letter": Kind.TEXT,
    "_correct_probability": Kind.NUMBER,
    **_ERROR,
    "_calls": Kind.INTEGER,
    "_prompt_tokens": Kind.INTEGER,
    "_completion_tokens": Kind.INTEGER,
    "_latency_s": Kind.NUMBER,
}
_FAILED = {"_line_number": Kind.INTEGER, **_ERROR, "_error_details": Kind.JSON}


@dataclass(frozen=True)
class Table:
    """Rows that can be read more than once.

    Attributes:
        kinds: key of the rows → kind of its column.
        read: gives the rows anew.
    """

    kinds: dict[str, Kind]
    read: Callable[[], Iterator[JsonObject]]

    @classmethod
    def of(cls, read: Callable[[], Iterator[JsonObject]], known: dict[str, Kind]) -> Table:
        """Read the rows once to find the columns."""
        return cls(kinds_of(read(), known), read)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [plain(key) for key in self.kinds]

    def rows(self) -> Iterator[list[Any]]:
        """Yield the cells of each row, in the order of the columns."""
        for row in self.read():
            yield [cell(row.get(key), kind) for key, kind in self.kinds.items()]


@dataclass(frozen=True)
class Judged:
    """What the score says of one line.

    Attributes:
        correct: index of the correct choice; None where the correct answer is no index of the choices.
        chosen: index of the chosen one; None where there is no response, or it is no index of the choices.
        probability: of the correct choice, of 1 over all choices; None where the calls do not tell.
    """

    correct: int | None
    chosen: int | None
    probability: float | None


def judged(source: Source, scored: ScoredLine, calls: list[JsonObject]) -> Judged:
    """What is told of a line beside its outcome."""
    keys = {"response_key": source.score.response_key, "correct_key": source.score.correct_key}
    line, calibration = scored.line, source.score.calibration
    choices = line.get("choices")
    pair = None if scored.outcome is Outcome.FAILED else positions(line, **keys)[1]
    if pair is None:
        return Judged(correct_index(line, correct_key=keys["correct_key"]), None, None)
    if calibration is None or not isinstance(choices, list):
        return Judged(*pair, None)
    return Judged(*pair, _probability(calls, choices, pair, calibration.options))


def line_table(source: Source) -> Table:
    """One row a line, in the order of the dataset.

    Raises:
        ConfigError: a line has a key that is the name of one of the run's own columns.
    """

    def read() -> Iterator[JsonObject]:
        for scored, calls in source.lines():
            told = judged(source, scored, calls)
            yield {
                "_line_number": scored.number,
                "_outcome": str(scored.outcome),
                "_correct": scored.outcome is Outcome.CORRECT,
                "_chosen_letter": _letter(told.chosen),
                "_correct_letter": _letter(told.correct),
                "_correct_probability": told.probability,
                **_error(scored.line),
                "_calls": len(calls),
                "_prompt_tokens": _tokens(calls, "prompt_tokens"),
                "_completion_tokens": _tokens(calls, "completion_tokens"),
                "_latency_s": sum(call.get("latency_s") or 0.0 for call in calls) if calls else None,
                **_own(scored, _LINE),
            }

    return Table.of(read, _LINE)


def error_table(source: Source) -> Table:
    """One row a failed line, with everything that is known of its failure.

    Raises:
        ConfigError: a line has a key that is the name of one of the run's own columns.
    """
    told = {"line_number", "kind", "error_type", "message"}

    def read() -> Iterator[JsonObject]:
        for scored, _ in source.lines():
            if scored.outcome is Outcome.FAILED:
                error = scored.line[ERROR_KEY]
                details = {name: value for name, value in error.items() if name not in told}
                head = {"_line_number": scored.number, **_error(scored.line), "_error_details": details or None}
                yield head | _own(scored, _FAILED)

    return Table.of(read, _FAILED)


def call_table(source: Source) -> Table:
    """One row a model call, with the keys of `calls.jsonl`."""
    return Table.of(source.calls, {})


def _own(scored: ScoredLine, reserved: dict[str, Kind]) -> JsonObject:
    if taken := reserved.keys() & scored.line.keys():
        raise ConfigError(
            f"line {scored.number} has the key {min(taken)!r}, which is a column of every table; rename it in the "
            "dataset or in the program",
            key=min(taken),
        )
    return {name: value for name, value in scored.line.items() if name != ERROR_KEY}


def _error(line: JsonObject) -> JsonObject:
    error = line.get(ERROR_KEY)
    keys = ("kind", "error_type", "message")
    values = [error.get(key) for key in keys] if isinstance(error, dict) else [None] * 3
    return dict(zip(_ERROR, (None if value is None else _shown(value) for value in values), strict=True))


def _tokens(calls: list[JsonObject], name: str) -> int | None:
    usages = [usage for call in calls if isinstance(usage := call.get("usage"), dict)]
    return sum(usage.get(name) or 0 for usage in usages) if usages else None


def _probability(calls: list[JsonObject], choices: list[Any], pair: tuple[int, int], spelling: str) -> float | None:
    """As the calibration reads the calls of a line (scoring/calibration.py)."""
    spelt = [SPELLINGS[spelling](index, choices) for index in range(len(choices))]
    correct, chosen = (spelt[index] for index in pair)
    options, _ = distribution_of([call for call in calls if call.get("error") is None], set(spelt), chosen)
    return None if options is None else options.get(correct, 0.0) / sum(options.values())


def _letter(index: int | None) -> str | None:
    return None if index is None else letter(index)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
