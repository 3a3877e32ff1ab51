"""A bounded pool of threads whose results come back in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["OrderedPool"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_S = 0.1


class OrderedPool(Generic[Item, Result]):
    """Runs a function over items, `workers` at a time; a bounded window of items is taken ahead of the oldest one.

    Args:
        function: called in worker threads; it must not raise.
        items: taken one by one as there is room, so a large dataset is never in memory.
        workers: threads.
    """

    def __init__(self, function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> None:
        self._function = function
        self._items = iter(items)
        self._window = max(64, 8 * workers)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="mmlu-pipe")
        self._pending: deque[tuple[Item, Future[Result]]] = deque()

    def results(self, interrupted: Callable[[], bool]) -> Iterator[Result]:
        """Yield the results in order, until all are there or `interrupted()` says to end."""
        for item in self._items:
            self._pending.append((item, self._executor.submit(self._function, item)))
            while self._pending and (len(self._pending) >= self._window or self._pending[0][1].done()):
                if not self._ready(interrupted):
                    return
                yield self._pending.popleft()[1].result()
        while self._pending and self._ready(interrupted):
            yield self._pending.popleft()[1].result()
        self._executor.shutdown(wait=False)

    def drain(self, skipped: Callable[[Item], Result]) -> Iterator[Result]:
        """Start nothing more; yield what is under way as it ends, and `skipped(item)` for all others, in order."""
        for _, future in self._pending:
            future.cancel()
        while self._pending:
            item, future = self._pending.popleft()
            yield skipped(item) if future.cancelled() else future.result()
        self._executor.shutdown(wait=False)
        yield from (skipped(item) for item in self._items)

    def _ready(self, interrupted: Callable[[], bool]) -> bool:
        """Wait for the oldest result; False where the wait was interrupted."""
        while not interrupted():
            try:
                self._pending[0][1].exception(timeout=_POLL_S)
            except TimeoutError:
                continue
            return True
        return False
