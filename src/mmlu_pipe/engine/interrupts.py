"""Ctrl-C and SIGTERM as a flag that is looked at between lines, so that no line is torn while it is written."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupts", "StoppedAtOnceError"]

REPEAT_S = 0.3
"""A signal that comes again this soon is the same wish: process managers and terminals send some twice."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedAtOnceError(KeyboardInterrupt):
    """A second signal came.

    Attributes:
        signal_number: the first one, which decides the exit code.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


class Interrupts:
    """While entered, the first signal is only noted; a second one raises StoppedAtOnceError.

    Outside of the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        signal_number: the signal that came, None before.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._noted = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python
        self._previous.clear()

    def _note(self, signal_number: int, _frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = signal_number
            self._noted = time.monotonic()
        elif signal_number != self.signal_number or time.monotonic() - self._noted > REPEAT_S:
            raise StoppedAtOnceError(self.signal_number)
