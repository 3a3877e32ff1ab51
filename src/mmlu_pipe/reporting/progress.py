"""Progress of a run on stderr: a live bar in a terminal, a line now and then in a log. A plugin like any other."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from mmlu_pipe.plugins import hookimpl
from mmlu_pipe.records import LineAnswer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Progress"]

_log = logging.getLogger("mmlu_pipe.progress")
LOG_EVERY_S = 30.0


class Progress:
    """Watches a run through the observer hooks; console is stderr's."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._total = 0
        self._done = 0
        self._failed = 0
        self._started = self._logged = 0.0

    @hookimpl
    def run_started(self, dataset: str, total: int) -> None:
        """Show the bar, or remember when the log last heard of the run."""
        self._total = total
        self._started = self._logged = time.monotonic()
        if self._console.is_terminal:
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[failed]} failed"),
                progress.TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(dataset, total=total, failed=0)
            self._bar.start()

    @hookimpl
    def line_finished(self, answer: LineAnswer) -> None:
        """Move on by one line."""
        self._done += 1
        self._failed += answer.error is not None
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, failed=self._failed)
        elif time.monotonic() - self._logged >= LOG_EVERY_S:
            self._logged = time.monotonic()
            rate = self._done / (self._logged - self._started)
            left = (self._total - self._done) / rate
            _log.info(
                "%d of %d lines, %d failed, %.1f a second, %.0f s left",
                self._done,
                self._total,
                self._failed,
                rate,
                left,
            )

    @hookimpl
    def run_finished(self, status: str) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
