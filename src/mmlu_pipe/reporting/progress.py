"""Progress of a run on stderr: live in a terminal, a line now and then in a log. A plugin like any other."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mmlu_pipe.plugins import hookimpl
from mmlu_pipe.records import LineAnswer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Figures", "Progress", "TellCost"]

_log = logging.getLogger("mmlu_pipe.progress")
LOG_EVERY_S = 30.0

TellCost = Callable[[Mapping[str, Any]], float]
"""The price of one call by its usage."""


class Figures:
    """What is known of a run while it goes.

    Args:
        clock: seconds.
        cost: the price of one call; None where no prices are known.
        currency: of that price.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cost: TellCost | None = None, currency: str = ""
    ) -> None:
        self._clock = clock
        self._cost = cost
        self._currency = currency
        self._started = clock()
        self._before = 0
        self.total = self.done = self.tokens = 0
        self.failed: Counter[str] = Counter()
        self.money = 0.0
        self.concurrency: int | None = None

    def begin(self, total: int, done: int) -> None:
        """So many lines in all, of which earlier processes did some."""
        self._started = self._clock()
        self.total, self.done, self._before = total, done, done

    def add(self, answer: LineAnswer) -> None:
        """Count a line and its calls."""
        self.done += 1
        if answer.error is not None:
            self.failed[answer.error.kind] += 1
        for call in answer.calls:
            usage = call.usage if isinstance(call.usage, Mapping) else {}
            counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
            self.tokens += sum(count for count in counts if isinstance(count, int))
            if self._cost is not None:
                self.money += self._cost(usage)

    def __str__(self) -> str:
        """In words, what has been found out so far."""
        told = [f"{self.done:,} of {self.total:,} lines"]
        elapsed = self._clock() - self._started
        rate = (self.done - self._before) / elapsed if elapsed > 0 else 0.0
        if rate:
            told += [f"{rate:.1f} a second", f"{_duration((self.total - self.done) / rate)} left"]
        if self.failed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.failed.items()))
            told.append(f"{self.failed.total()} failed ({kinds})")
        if self.tokens:
            told.append(f"{_short(self.tokens)} tokens")
        if self._cost is not None:
            told.append(f"{self.money:.2f} {self._currency}")
        if self.concurrency is not None:
            told.append(f"{self.concurrency} at once")
        return ", ".join(told)


class Progress:
    """Watches a run through the observer hooks.

    Args:
        console: that of stderr.
        figures: what it shows.
    """

    def __init__(self, console: Console, figures: Figures | None = None) -> None:
        self._console = console
        self._figures = figures or Figures()
        self._live: Any = None
        self._logged = 0.0

    @hookimpl
    def run_started(self, total: int, done: int) -> None:
        """Show the bar, or remember when the log last heard of the run."""
        self._figures.begin(total, done)
        self._logged = time.monotonic()
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, get_renderable=self._shown, transient=True)
            self._live.start()

    @hookimpl
    def line_finished(self, answer: LineAnswer) -> None:
        """Move on by one line."""
        self._figures.add(answer)
        if self._live is None and time.monotonic() - self._logged >= LOG_EVERY_S:
            self._logged = time.monotonic()
            _log.info("%s", str(self._figures))

    @hookimpl
    def concurrency_changed(self, limit: int) -> None:
        """Show how many requests may be under way."""
        self._figures.concurrency = limit

    @hookimpl
    def run_finished(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _shown(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        shown = Table.grid()
        width = min(78, self._console.width)
        shown.add_row(ProgressBar(total=self._figures.total, completed=self._figures.done, width=width))
        shown.add_row(Text(str(self._figures)))
        return shown


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(count: int) -> str:
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{sign}"
    return str(count)
