"""What was found out: one entry a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from mmlu_pipe.records import JsonObject

__all__ = ["Check", "Diagnosis", "State"]

State = Literal["ok", "failed", "skipped", "warning"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        state: `failed` has to be mended; `warning` does not stop a run.
        found: what is there; holds no token, and of tenant and subscription no more than the last four letters.
        advice: what to change, and where; None where there is nothing to say.
        seconds: how long it took.
    """

    name: str
    state: State
    found: str
    advice: str | None
    seconds: float


@dataclass(frozen=True)
class Diagnosis:
    """All checks, in order."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether none failed."""
        return all(check.state != "failed" for check in self.checks)

    def to_json(self) -> JsonObject:
        """One JSON object."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}
