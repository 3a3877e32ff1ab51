"""A bounded pool of threads that take items in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Generic, Self, TypeVar

__all__ = ["WorkerPool"]

Item = TypeVar("Item")

_POLL_S = 0.1


class WorkerPool(Generic[Item]):
    """Runs a function over items, `workers` at a time; each thread takes its next item itself.

    As a context manager it leaves no item waiting behind, also where its user fails. Its threads are daemons, which
    those of the standard library's executor are not: a process that is told twice to end does not wait for answers.

    Args:
        function: called in worker threads, each time in a context of its own.
        items: taken one by one, as a thread has time for it, so a large dataset is never in memory.
        workers: threads.
    """

    def __init__(self, function: Callable[[Item], None], items: Iterable[Item], workers: int) -> None:
        self._function = function
        self._items = iter(items)
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._halted = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"mmlu-pipe-{number}", daemon=True) for number in range(workers)
        ]
        self._working = workers

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Begin nothing more, whatever happened; what is under way ends on its own."""
        self.halt()

    def halt(self) -> None:
        """Begin no further item, from now on; any thread may say so."""
        with self._changed:
            self._halted = True
            self._changed.notify_all()

    def wait(self, interrupted: Callable[[], bool]) -> bool:
        """Wait until nothing is under way; return False as soon as `interrupted()` says to wait no longer.

        Raises:
            BaseException: what the function, or the iterator, raised first; nothing more is begun then.
        """
        with self._changed:
            while self._working and self._error is None:
                if interrupted():
                    return False
                self._changed.wait(_POLL_S)
        if self._error is not None:
            raise self._error
        return True

    def drain(self) -> None:
        """Wait until nothing is under way, whatever was raised."""
        with self._changed:
            while self._working:
                self._changed.wait(_POLL_S)

    def _work(self) -> None:
        try:
            for item in iter(self._take, None):
                Context().run(self._function, *item)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            self._error = self._error or error
            self.halt()
        finally:
            with self._changed:
                self._working -= 1
                if not self._working:
                    # What they hold, an open file and 12 bytes a line, must not wait for a garbage collection.
                    self._items, self._function = iter(()), _nothing
                self._changed.notify_all()

    def _take(self) -> tuple[Item] | None:
        """The next item; None where there is none, or none is to be begun."""
        with self._taking:
            for item in () if self._halted else self._items:
                return (item,)
        return None


def _nothing(_item: object) -> None: ...
