"""The seam between a model call and its recording: the smallest interface that the endpoint needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["NO_TAPE", "Tape", "TapeCall"]


class TapeCall(Protocol):
    """One call under way."""

    def keep(self) -> None:
        """Keep the last exchange: it ended the call."""


class Tape(Protocol):
    """Plays or records the exchanges of calls."""

    @property
    def replays(self) -> bool:
        """Whether answers come from recordings alone."""

    def call(self, identity: str, occurrence: int, shard: str, line_number: int) -> AbstractContextManager[TapeCall]:
        """Enter before the first attempt of a call; equal calls of other lines wait, and then share it."""


class _NoTape:
    replays = False

    @contextmanager
    def call(self, identity: str, occurrence: int, shard: str, line_number: int) -> Iterator[TapeCall]:
        yield self

    def keep(self) -> None: ...


NO_TAPE: Tape = _NoTape()
"""Live answers, nothing kept."""
