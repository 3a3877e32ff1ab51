"""Counts of a run: of the lines it finishes, and of those that an earlier process finished."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mmlu_pipe.engine.ledger import Record
from mmlu_pipe.errors import ContentFiltered
from mmlu_pipe.records import ERROR_KEY, JsonObject, LineAnswer, LineError

__all__ = ["NOT_RUN", "Tally"]

NOT_RUN = "not_run"
"""Kind of the lines that a stopped run did not come to."""


@dataclass
class Tally:
    """What a run counts while it goes.

    Attributes:
        first: the failed line of the lowest number.
    """

    answered: int = 0
    failed: int = 0
    failed_by_kind: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    attempts: int = 0
    strategies: Counter[str] = field(default_factory=Counter)
    served_models: Counter[str] = field(default_factory=Counter)
    fingerprints: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    first: LineError | None = None

    @classmethod
    def of(cls, records: Iterable[Record]) -> Tally:
        """The counts of the lines that a ledger has finished."""
        found = cls()
        for record in records:
            if record.fate == "output":
                found.answered += 1
            elif record.fate == "errors":
                error = json.loads(record.line)[ERROR_KEY]
                found.add_failed(LineError(error["line_number"], error["kind"], error["error_type"], error["message"]))
            if record.fate != "stopped":
                for call in record.calls.splitlines():
                    found.add_call(json.loads(call))
        return found

    def add(self, answer: LineAnswer) -> None:
        """Count one line and its calls."""
        if answer.error is None:
            self.answered += 1
        else:
            self.add_failed(answer.error)
        for call in answer.calls:
            self.add_call(vars(call))

    def add_failed(self, error: LineError) -> None:
        """Count a line without an answer."""
        self.failed += 1
        self.failed_by_kind[error.kind] += 1
        if error.kind != NOT_RUN and (self.first is None or error.line_number < self.first.line_number):
            self.first = error

    def add_not_run(self, lines: int) -> None:
        """Count lines that a stopped run did not come to."""
        if lines:
            self.failed += lines
            self.failed_by_kind[NOT_RUN] += lines

    def add_call(self, call: Mapping[str, object]) -> None:
        """Count a call by its record; whatever an endpoint says may stand in it."""
        attempts = call.get("attempts")
        self.calls += 1
        self.attempts += attempts if isinstance(attempts, int) else 0
        for counter, name in (
            (self.strategies, "strategy"),
            (self.served_models, "served_model"),
            (self.fingerprints, "system_fingerprint"),
        ):
            if isinstance(value := call.get(name), str):
                counter[value] += 1
        usage = call.get("usage")
        for name in ("prompt_tokens", "completion_tokens"):
            count = usage.get(name) if isinstance(usage, Mapping) else None
            self.tokens[name] += count if isinstance(count, int) else 0

    def spent(self, *, filtered_count: bool) -> int:
        """Failed lines that count against `--max-errors`: those that ran; filtered ones as the user wishes."""
        free = [NOT_RUN] if filtered_count else [NOT_RUN, ContentFiltered.kind]
        return self.failed - sum(self.failed_by_kind[kind] for kind in free)

    def to_json(self) -> JsonObject:
        """For the manifest; keys sorted, so that the order of answers leaves no trace."""
        return {
            name: dict(sorted(value.items())) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
            if name != "first"
        }

    def mixed(self) -> Iterable[str]:
        """What more than one of served this run, in words."""
        for what, counter in (("models", self.served_models), ("system fingerprints", self.fingerprints)):
            if len(counter) > 1:
                listed = ", ".join(f"{name} ({count} calls)" for name, count in sorted(counter.items()))
                yield f"{len(counter)} {what}: {listed}"
