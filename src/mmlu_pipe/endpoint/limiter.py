"""The gate before every attempt: worker threads wait here for their turn (endpoint/pace.py decides when that is)."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mmlu_pipe.endpoint.pace import Pace
from mmlu_pipe.endpoint.retry import retry_after
from mmlu_pipe.errors import RunCancelled
from mmlu_pipe.records import JsonObject

__all__ = ["Limiter", "Quota", "Slot"]

_CHARACTERS_PER_TOKEN = 4
_UNTOLD_S = 8.0  # the longest that the gate is shut by a refusal that names no time


@dataclass(frozen=True, slots=True)
class Slot:
    """Leave for one attempt.

    Attributes:
        number: which one it is, for the pace.
        since: when it was given, by the limiter's clock.
        tokens: how many the attempt may cost; 0 where they are not limited.
    """

    number: int
    since: float
    tokens: int


class Quota:
    """So many a minute and no more, evenly spread: what is taken now puts off the next."""

    def __init__(self, per_minute: float) -> None:
        self._seconds_each = 60.0 / per_minute
        self._next = -math.inf

    def delay(self, now: float) -> float:
        """Seconds until something may be taken; however much it is, it has its turn."""
        return max(0.0, self._next - now)

    def take(self, now: float, amount: float) -> None:
        """Take it, although it may be more than was thought."""
        self._next = max(self._next, now) + amount * self._seconds_each

    def settle(self, difference: float) -> None:
        """It was so much more, or less, than was taken."""
        self._next += difference * self._seconds_each


class Limiter:
    """Gives worker threads leave to send; shared by all of them.

    One thread at a time stands at the gate and the others queue behind it, so a slot that gets free wakes one thread,
    however many wait.

    Args:
        workers: the most attempts under way at once.
        rpm: requests a minute at most, evenly spread.
        tpm: tokens a minute at most: estimated before an attempt, four characters each, and settled by its `usage`.
        max_wait: seconds that one call may wait for a rate limit in all.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        workers: int,
        *,
        rpm: int | None = None,
        tpm: int | None = None,
        max_wait: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_wait = max_wait
        self._clock = clock
        self._pace = Pace(workers)
        self._requests = None if rpm is None else Quota(rpm)
        self._tokens = None if tpm is None else Quota(tpm)
        self._turn = threading.Lock()
        self._ready = threading.Condition(threading.Lock())
        self._stopping = threading.Event()
        self._under_way = 0
        self._rate_limited = 0
        self._waited = 0.0

    @property
    def concurrency(self) -> int:
        """How many attempts may be under way now."""
        return self._pace.concurrency  # asked for after every line, so without the lock: it is only shown

    @property
    def facts(self) -> JsonObject:
        """What the limits did to this run; the seconds are summed over all calls."""
        with self._ready:
            return {
                "lowest_concurrency": self._pace.lowest,
                "rate_limited": self._rate_limited,
                "waited_s": round(self._waited, 3),
            }

    def stop(self) -> None:
        """End all waits, now and later; who waits gets RunCancelled."""
        self._stopping.set()
        with self._ready:
            self._ready.notify_all()

    def acquire(self, body: JsonObject) -> Slot:
        """Wait for leave to send this body; give the slot back with what came of it.

        Raises:
            RunCancelled: the run was stopped.
        """
        tokens = 0 if self._tokens is None else _estimate(body)
        with self._turn, self._ready:
            now = arrived = self._clock()
            while True:
                if self._stopping.is_set():
                    raise _cancelled()
                if self._under_way >= self._pace.concurrency:
                    self._ready.wait()
                elif delay := self._delay(now):
                    self._ready.wait(delay)
                else:
                    break
                now = self._clock()
            self._waited += now - arrived
            self._under_way += 1
            if self._requests:
                self._requests.take(now, 1)
            if self._tokens:
                self._tokens.take(now, tokens)
            return Slot(self._pace.sent(now), now, tokens)

    def release(self, slot: Slot, status: int, headers: Mapping[str, str]) -> None:
        """The attempt is over: its HTTP status, or 0 where there was no response."""
        with self._ready:
            now = self._clock()
            self._under_way -= 1
            if status == 429:
                self._rate_limited += 1
                self._pace.refused(now, slot.number, retry_after(headers) or _UNTOLD_S)
                if self._tokens:
                    self._tokens.settle(-slot.tokens)
            elif status in (0, 408) or status >= 500:
                self._pace.troubled()
            else:
                self._pace.admitted(now, now - slot.since, headers)
            self._ready.notify()

    def spent(self, slot: Slot, usage: Mapping[str, object] | None) -> None:
        """Settle what an answer cost, where tokens are limited and it says so."""
        total = (usage or {}).get("total_tokens")
        if self._tokens and isinstance(total, int):
            with self._ready:
                self._tokens.settle(total - slot.tokens)

    def pause(self, seconds: float) -> None:
        """Wait between two attempts of a call, holding no slot.

        Raises:
            RunCancelled: the run was stopped.
        """
        with self._ready:
            self._waited += seconds
        if self._stopping.wait(seconds):
            raise _cancelled()

    def _delay(self, now: float) -> float:
        quotas = [quota.delay(now) for quota in (self._requests, self._tokens) if quota]
        return max(self._pace.delay(now), *quotas, 0.0)


def _estimate(body: JsonObject) -> int:
    """Tokens that a request may cost, before its answer tells."""
    text = sum(len(str(message.get("content") or "")) for message in body.get("messages", ()))
    return text // _CHARACTERS_PER_TOKEN + 1


def _cancelled() -> RunCancelled:
    return RunCancelled("the run was stopped while it waited", signal_number=signal.SIGINT)
