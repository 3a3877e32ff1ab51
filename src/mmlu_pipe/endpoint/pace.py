"""How fast and how many at once: what an endpoint admits, learnt from what it refuses. Pure: the clock is an argument.

A server that admits R requests a second cannot be met by a bound on concurrency alone: with fast answers even one
worker is too many. So two things are learnt. The *pace* (requests a second) is unlimited until the first believed
refusal (429). It falls to what was admitted in the last second, and grows again: slowly at first, ever faster while
nothing is refused. The *concurrency* follows by additive increase and multiplicative decrease, and is never below what
the pace needs by Little's law (requests in flight = requests a second x seconds each).

A lone 429 proves little: the next request goes out at once, and only if it is refused too, or if many workers wait
already, is a refusal believed. Each believed refusal closes the gate for half an interval of the pace, and each further
one in a row for twice as long, up to what `retry-after` asks: few knock at a closed door, and its opening is seen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

__all__ = ["Pace", "Quota"]

_SPAN_S, _LEAST, _MAX_SPAN_S = 1.0, 20, 3.0  # what is counted as recent: one second, longer where answers are few
_LEAST_CUT, _MOST_CUT = 0.02, 0.3  # of the pace at a refusal, between them the share that was refused
_GROWTH, _E_FOLD_S, _TOP_GROWTH = 0.01, 0.5, 3.0  # relative growth a second: at first, its own growth, and at most
_CREDIT_S = 0.03  # a late wake-up is made up for
_MANY_WAIT = 0.35  # of the workers wait after a refusal: enough not to doubt the next one
_SLOWEST = 0.5  # requests a second
_PATIENCE_S = 5.0  # for the answer to the request that decides
_SMOOTHING = 1 / 16
_REMAINING = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")


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


class Pace:
    """Decides when the next request may go and how many may be under way; tell it what became of each.

    Args:
        workers: the most requests under way at once.

    Attributes:
        pace: requests a second, infinite until the first believed refusal.
        resting: calls that wait after a refusal now; kept by the caller.
        lowest: the lowest concurrency that was ever allowed.
    """

    def __init__(self, workers: int) -> None:
        self.pace = math.inf
        self.resting = 0
        self.lowest = workers
        self._workers = workers
        self._window = float(workers)
        self._latency = 0.0
        self._trouble = 0.0
        self._next = -math.inf
        self._sent = self._believed = self._trial = 0
        self._asks_again = self._trial_out = self._held_back = False
        self._trial_at = 0.0
        self._shut = 0  # believed refusals in a row
        self._recent: deque[tuple[float, bool]] = deque()
        self._recent_admitted = 0
        self._calm_since = self._grown_at = 0.0
        self._tells_remaining = False

    @property
    def concurrency(self) -> int:
        """How many requests may be under way."""
        needed = self.pace * self._latency * 1.5 + 1 if self.pace < math.inf else 1.0
        return min(self._workers, max(1, int(self._window), math.ceil(needed)))

    def delay(self, now: float) -> float:
        """Seconds until the next request may go."""
        if self.pace == math.inf or (self._asks_again and not self._shut):
            return 0.0
        left = self._next - now
        if left <= 0:
            return 0.0
        self._held_back = True
        return left

    def sent(self, now: float) -> int:
        """A request goes out; its number is to be given back with what became of it."""
        self._sent += 1
        if self.pace < math.inf:
            self._next = max(self._next, now - _CREDIT_S) + 1 / self.pace
        if self._asks_again:
            self._asks_again, self._trial_out = False, True
            self._trial, self._trial_at = self._sent, now
        return self._sent

    def admitted(self, now: float, number: int, latency: float, headers: Mapping[str, str]) -> None:
        """It was let in, whatever the answer."""
        self._note(now, True)
        self._trouble -= self._trouble * _SMOOTHING
        self._latency += (latency - self._latency) * (_SMOOTHING if self._latency else 1.0)
        self._settle_trial(now, number)
        self._window = min(self._workers, self._window + 1 / max(1.0, self._window))
        if self.pace == math.inf:
            return
        elapsed, self._grown_at = min(0.25, now - self._grown_at), now
        if self._exhausted(headers):
            self._calm_since = now
        if self._held_back and not self._asks_again and not self._trial_out:
            calm = min(20.0, (now - self._calm_since) / _E_FOLD_S)
            self.pace *= 1 + elapsed * min(_TOP_GROWTH, _GROWTH * math.exp(calm))
            self._held_back = False

    def refused(self, now: float, number: int, asked: float) -> None:
        """It was answered by 429, which asks to wait so many seconds."""
        self._note(now, False)
        decides = self._trial_out and number == self._trial
        if number <= self._believed:
            return  # sent before the pace fell
        if decides or (self._is_calm(now) and self.resting + 1 > _MANY_WAIT * self._workers and self.pace < math.inf):
            self._lower(now)
            self._next = now + min(asked, 0.5 * 2.0 ** min(self._shut, 60) / self.pace)
            self._shut += 1
            self._trial_out, self._asks_again = False, True
        elif self._is_calm(now):
            self._trial_out, self._asks_again = False, True

    def troubled(self, now: float, number: int) -> None:
        """It came to nothing: 5xx, a reset, a time-out. Only where that is the rule, fewer are sent at once."""
        self._settle_trial(now, number)
        self._trouble += (1 - self._trouble) * _SMOOTHING
        if self._trouble > 0.5:
            self._trouble = 0.25
            self._shrink()

    def _is_calm(self, now: float) -> bool:
        """Whether nothing has to be found out first."""
        return not self._asks_again and (not self._trial_out or now - self._trial_at > _PATIENCE_S)

    def _settle_trial(self, now: float, number: int) -> None:
        if self._trial_out and (number == self._trial or now - self._trial_at > _PATIENCE_S):
            self._trial_out, self._shut = False, 0

    def _note(self, now: float, let_in: bool) -> None:
        recent = self._recent
        recent.append((now, let_in))
        self._recent_admitted += let_in
        while (age := now - recent[0][0]) > _MAX_SPAN_S or (age > _SPAN_S and len(recent) > _LEAST):
            self._recent_admitted -= recent.popleft()[1]

    def _lower(self, now: float) -> None:
        rate = self._recent_admitted / max(_SPAN_S, now - self._recent[0][0])
        if self.pace == math.inf:  # how far off it is nobody knows: grow at full speed from here
            self.pace = max(float(self._workers), rate)
            self._calm_since = now - 5 * _E_FOLD_S
        else:
            share = 1 - self._recent_admitted / len(self._recent)
            lowered = self.pace * (1 - min(_MOST_CUT, max(_LEAST_CUT, share)))
            self.pace = max(_SLOWEST, min(self.pace, max(rate, lowered)))
            self._calm_since = now
        self._grown_at = now
        self._believed = self._sent
        if not self._shut:
            self._shrink()

    def _shrink(self) -> None:
        self._window = max(1.0, self._window / 2)
        self.lowest = min(self.lowest, self.concurrency)

    def _exhausted(self, headers: Mapping[str, str]) -> bool:
        """Whether the endpoint says that nothing is left. Some say 0 or -1 always: believed is one that said more."""
        told = [headers.get(name, "") for name in _REMAINING]
        left = [int(text) for text in told if text.isascii() and text.isdecimal() and len(text) < 20]
        self._tells_remaining = self._tells_remaining or any(left)
        return self._tells_remaining and 0 in left
