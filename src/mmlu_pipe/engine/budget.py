"""How many failed lines a run survives (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmlu_pipe.errors import ConfigError

__all__ = ["ErrorBudget"]

_FORM = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<percent>%)?")


@dataclass(frozen=True)
class ErrorBudget:
    """At most `allowed` lines may fail; a percentage is of all lines, rounded down.

    Attributes:
        text: as the user gave it.
        allowed: failed lines that are still fine.
    """

    text: str
    allowed: int

    @classmethod
    def parse(cls, text: str, total: int) -> ErrorBudget:
        """Read `10` or `5%` for a run of `total` lines.

        Raises:
            ConfigError: it is neither a whole number nor a percentage up to 100.
        """
        found = _FORM.fullmatch(text.strip())
        if (
            found is None
            or (not found["percent"] and "." in text)
            or (found["percent"] and float(found["number"]) > 100)
        ):
            raise ConfigError(
                f"--max-errors {text!r}: give a whole number such as 10, or a percentage such as 5%", key="max_errors"
            )
        allowed = int(total * float(found["number"]) / 100) if found["percent"] else int(found["number"])
        return cls(text.strip(), allowed)

    def exceeded(self, failed: int) -> bool:
        """Whether that many failed lines end the run."""
        return failed > self.allowed
