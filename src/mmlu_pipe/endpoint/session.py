"""What belongs to one line while it is worked on: its place in the dataset and the model calls made for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.records import Call

__all__ = ["LineSession"]


@dataclass
class LineSession:
    """The calls of one line, in order.

    Attributes:
        line_number: 1-based line of the dataset.
        shard: which part of a cassette the line's recordings belong to (its subject).
        calls: finished calls, good or not.
        stopped: what ends the run, whatever the program makes of it.
    """

    line_number: int
    shard: str = "default"
    calls: list[Call] = field(default_factory=list)
    stopped: MmluPipeError | None = None
    _asked: Counter[str] = field(default_factory=Counter)

    def occurrence(self, request_hash: str) -> int:
        """How many equal requests this line has made before; tells repeated questions apart."""
        seen = self._asked[request_hash]
        self._asked[request_hash] += 1
        return seen
