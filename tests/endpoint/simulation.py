"""Worker threads, the gate and a server in virtual time: minutes of a run in a moment, and always the same."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmlu_pipe.endpoint.pace import Pace
from mmlu_pipe.endpoint.retry import retry_after, retry_delay
from tests.servers.rate_limited import Rule, Told, whole_seconds


@dataclass
class Simulation:
    """A closed loop: each worker asks again as soon as its last call is answered."""

    rule: Rule
    workers: int
    latency: float = 0.0
    told: Told = whole_seconds
    tell_remaining: bool = False
    slow_refusals: bool = False
    late: float = 0.0005  # seconds that a thread wakes late, on average
    way: float = 0.0003  # to the server, on average
    seed: int = 7
    fault: Callable[[random.Random], int] = lambda _random: 0  # a status that befalls a request, whatever the rule says
    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    most_refusals: int = 0  # of one call
    lowest_concurrency: int = 10**9

    def __post_init__(self) -> None:
        self.pace = Pace(self.workers)
        self._random = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._queue: list[int] = []
        self._under_way = 0
        self._alarm: float | None = None
        self._refusals: Counter[int] = Counter()

    def run(self, seconds: float, changes: Sequence[tuple[float, float]] = ()) -> Simulation:
        """Let it run; `changes` are (second, new rate of the rule)."""
        for worker in range(self.workers):
            self._at(0.0001 * worker, self._arrive, worker)
        for second, rate in changes:
            self._at(second, lambda _now, rate=rate: setattr(self.rule, "rate", rate))
        while self._events and self._events[0][0] < seconds:
            now, _, act, arguments = heapq.heappop(self._events)
            act(now, *arguments)
            self.lowest_concurrency = min(self.lowest_concurrency, self.pace.concurrency)
        return self

    def rate(self, start: float, end: float) -> float:
        """Requests a second that were admitted in this time."""
        return sum(start <= moment < end for moment in self.admitted) / (end - start)

    def refused_share(self, start: float) -> float:
        late = sum(moment >= start for moment in self.refused)
        return late / max(1, late + sum(moment >= start for moment in self.admitted))

    def _at(self, moment: float, act: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (moment, next(self._order), act, arguments))

    def _arrive(self, now: float, worker: int) -> None:
        self._queue.append(worker)
        self._pump(now)

    def _pump(self, now: float) -> None:
        while self._queue and self._under_way < self.pace.concurrency:
            if (delay := self.pace.delay(now)) > 1e-9:
                if self._alarm is None or self._alarm > now + delay + 1e-6:
                    self._alarm = now + delay
                    self._at(self._alarm + self._random.expovariate(1 / self.late), self._wake, self._alarm)
                return
            self._under_way += 1
            number = self.pace.sent(now)
            self._at(now + self._random.expovariate(1 / self.way), self._serve, self._queue.pop(0), number, now)

    def _wake(self, now: float, alarm: float) -> None:
        if alarm == self._alarm:
            self._alarm = None
            self._pump(now)

    def _serve(self, now: float, worker: int, number: int, since: float) -> None:
        wait = self.rule.admit(now)
        status = self.fault(self._random) or (429 if wait else 200)
        headers: dict[str, str] = {"x-ratelimit-remaining-requests": "0"} if self.tell_remaining else {}
        if status == 200:
            self.admitted.append(now)
            if self.tell_remaining:
                headers["x-ratelimit-remaining-requests"] = str(self.rule.remaining())
        elif status == 429:
            self.refused.append(now)
            headers |= self.told(wait or 0.5)
        slow = status == 200 or self.slow_refusals
        answered = now + 0.0005 + (self.latency * self._random.uniform(0.8, 1.2) if slow else 0)
        self._at(answered, self._done, worker, number, since, status, headers)

    def _done(self, now: float, worker: int, number: int, since: float, status: int, headers: dict[str, str]) -> None:
        self._under_way -= 1
        if status == 200:
            self._refusals[worker] = 0
            self.pace.admitted(now, now - since, headers)
            self._at(now + 0.0003, self._arrive, worker)
        elif status == 429:
            self.pace.refused(now, number, retry_after(headers) or 8.0)
            self._refusals[worker] += 1
            self.most_refusals = max(self.most_refusals, self._refusals[worker])
            delay = retry_delay(self._refusals[worker], headers, jitter=self._random.random)
            self._at(now + delay, self._arrive, worker)
        else:
            self.pace.troubled()
            self._at(now + retry_delay(1, {}, jitter=self._random.random), self._arrive, worker)
        self._pump(now)
