"""A bounded pool of threads whose results come back in the order of the items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextvars import Context
from queue import SimpleQueue
from typing import Generic, Self, TypeVar

__all__ = ["OrderedPool"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_S = 0.1


class OrderedPool(Generic[Item, Result]):
    """Runs a function over items, `workers` at a time; a bounded window of items is taken ahead of the oldest one.

    As a context manager it leaves no item waiting behind, also where its user fails. Its threads are daemons, which
    those of the standard library's executor are not: a process that is told twice to end does not wait for answers.

    Args:
        function: called in worker threads, each time in a context of its own; it must not raise.
        items: taken one by one as there is room, so a large dataset is never in memory.
        workers: threads.
    """

    def __init__(self, function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> None:
        self._function = function
        self._items = iter(items)
        self._workers = workers
        self._window = max(64, 8 * workers)
        self._pending: deque[tuple[Item, Future[Result]]] = deque()
        self._jobs: SimpleQueue[tuple[Item, Future[Result]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Start nothing more, whatever happened; what is under way ends on its own."""
        for _, future in self._pending:
            future.cancel()
        for _ in self._threads:
            self._jobs.put(None)

    def results(self, interrupted: Callable[[], bool]) -> Iterator[Result]:
        """Yield the results in order, until all are there or `interrupted()` says to end."""
        for item in self._items:
            self._submit(item)
            while self._pending and (len(self._pending) >= self._window or self._pending[0][1].done()):
                if not self._ready(interrupted):
                    return
                yield self._pending.popleft()[1].result()
        while self._pending and self._ready(interrupted):
            yield self._pending.popleft()[1].result()

    def drain(self, skipped: Callable[[Item], Result]) -> Iterator[Result]:
        """Start nothing more; yield what is under way as it ends, and `skipped(item)` for all others, in order."""
        for _, future in self._pending:
            future.cancel()
        while self._pending and self._ready(lambda: False):
            item, future = self._pending.popleft()
            yield skipped(item) if future.cancelled() else future.result()
        for item in self._items:
            yield skipped(item)

    def _submit(self, item: Item) -> None:
        job = (item, Future[Result]())
        self._pending.append(job)
        self._jobs.put(job)
        if len(self._threads) < self._workers:
            name = f"mmlu-pipe-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            item, future = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(Context().run(self._function, item))
                except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the result
                    future.set_exception(error)

    def _ready(self, interrupted: Callable[[], bool]) -> bool:
        """Wait for the oldest result; False where the wait was interrupted."""
        while not interrupted():
            oldest = self._pending[0][1]
            if oldest.done() or wait([oldest], timeout=_POLL_S).done:
                return True
        return False
