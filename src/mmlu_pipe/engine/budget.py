"""How many failed lines a run survives (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from mmlu_pipe.errors import ConfigError

__all__ = ["ErrorBudget"]

_FORM = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<percent>%)?")


@dataclass(frozen=True)
class ErrorBudget:
    """At most `allowed` lines may fail; a percentage is of all lines, rounded down.

    Attributes:
        text: as the user gave it.
        allowed: failed lines that are still fine.
        filtered_count: whether lines that the content filter blocked are counted.
    """

    text: str
    allowed: int
    filtered_count: bool = False

    @classmethod
    def parse(cls, text: str, total: int, *, filtered_count: bool = False) -> ErrorBudget:
        """Read `10` or `5%` for a run of `total` lines.

        Raises:
            ConfigError: it is neither a whole number nor a percentage up to 100.
        """
        found = _FORM.fullmatch(text.strip())
        number = Fraction(found["number"]) if found else Fraction(-1)
        if found is None or (number > 100 if found["percent"] else "." in text):
            raise ConfigError(
                f"--max-errors {text!r}: give a whole number such as 10, or a percentage such as 5%", key="max_errors"
            )
        return cls(text.strip(), int(total * number / 100 if found["percent"] else number), filtered_count)

    def exceeded(self, failed: int) -> bool:
        """Whether that many failed lines end the run."""
        return failed > self.allowed
