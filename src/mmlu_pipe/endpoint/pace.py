"""How fast and how many at once: what an endpoint admits, learnt from what it refuses. Pure: the clock is an argument.

Two things are learnt, for a bound on concurrency alone cannot meet a server that admits R requests a second. Goodput
comes first: a refusal (429) costs next to nothing, and an idle second is lost for ever.

The *pace*, in requests a second, is unlimited until more is refused than chance explains. From then on it stays a
little above what was let in during the last second, so that a few per cent are refused at the limit and every request
that the server would admit is there. While nothing is refused for longer than is usual, it grows ever faster. A refusal
also shuts the gate: for half an interval of the pace, and longer each time that the first to knock again is refused.

The *concurrency* follows by additive increase and multiplicative decrease, and is never below what the pace needs by
Little's law (requests in flight = requests a second x seconds each).

What counts as let in is what was sent and has not been refused: refusals come fast, and answers may take long.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

__all__ = ["Pace"]

# What is counted as recent. Services count by the second, and over one second any of their windows admits R times 1 s.
_SPAN_S = 1.0
_LONG_SPAN_S, _FEW = 2.0, 20  # where fewer than this were let in

# How much above what is let in: enough to meet every opening, by share and, where R is small, in requests a second.
_PROBE, _PROBE_PER_S, _MOST_PROBE = 0.03, 0.5, 0.12

# How many refusals lower the pace: more than this share, and so many standard deviations (Poisson) above it. Where no
# limit is known, chance must not make one: it takes more, or so many in a row, which is all that few workers can show.
_TOLERATED = 0.06
_DEVIATIONS, _DEVIATIONS_UNLIMITED, _IN_A_ROW = 1.2, 4.0, 5

# Growth of the pace a second (exponential). Windows refuse once a second, so only a longer quiet says that R rose;
# where refusals are closer together, half as long again as between them is enough.
_GROWTH, _MOST_GROWTH = 0.02, 3.0
_ACCELERATION = 4.0  # of the growth, for each second of quiet that is more than usual
_LEAST_QUIET_S, _MOST_QUIET_S, _QUIET_GAPS = 0.3, 1.1, 1.5
_GAP_MEMORY_S = 3.0
_STEP_BACK = 0.7  # when fast growth meets a refusal: it went too far by about this much
_ENOUGH_S, _ENOUGH = 0.1, 5  # after that (and after the start), before the rate let in is known again

# How long the gate is shut, in intervals of the pace: at first, and each time as much longer. Twice as long would
# overshoot the opening of a window by up to half of the time that it was shut.
_SHUT, _LONGER = 0.5, 1.35

_CREDIT_S = 0.1  # a late wake-up is made up for; one who is later was not waiting
_STALL_S = 0.25  # of no more than so much time at once is growth made up for
_LITTLE = 1.5  # times what Little's law says, for latencies that vary
_SLOWEST = 0.5  # requests a second
_SMOOTHING = 1 / 16
_REMAINING = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")


class Pace:
    """Decides when the next request may go and how many may be under way; tell it what became of each.

    Args:
        workers: the most requests under way at once.

    Attributes:
        pace: requests a second, infinite until refusals are believed.
        lowest: the lowest concurrency that was ever allowed.
    """

    def __init__(self, workers: int) -> None:
        self.pace = math.inf
        self.lowest = workers
        self._workers = workers
        self._window = float(workers)
        self._latency = 0.0
        self._trouble = 0.0
        self._sent = 0
        self._recent = _Recent()
        self._next = 0.0  # when the next may go
        self._held_back = False  # by the pace, since it last grew
        self._grown_at = 0.0
        self._shut_at = 0  # the last request that was sent before the gate was shut
        self._in_a_row = 0  # times that it was shut again by the first to knock
        self._calm_since = 0.0
        self._gap, self._gap_since = 0.0, -math.inf  # the longest lately between refusals, in seconds
        self._tells_remaining = False

    @property
    def concurrency(self) -> int:
        """How many requests may be under way."""
        needed = self.pace * self._latency * _LITTLE + 1 if self.pace < math.inf else 1.0
        return min(self._workers, max(1, int(self._window), math.ceil(needed)))

    def delay(self, now: float) -> float:
        """Seconds until the next request may go."""
        left = self._next - now
        if self.pace == math.inf or left <= 0:
            return 0.0
        self._held_back = True
        return left

    def sent(self, now: float) -> int:
        """A request goes out; its number is to be given back with what became of it."""
        self._sent += 1
        self._recent.sent(now, self._sent)
        if self.pace < math.inf:
            if now - self._next > _CREDIT_S:  # nobody asked: that is no calm
                self._calm_since += now - self._next
            self._next = max(self._next, now - _CREDIT_S) + 1 / self.pace
        return self._sent

    def admitted(self, now: float, latency: float, headers: Mapping[str, str]) -> None:
        """A request was let in, whatever the answer."""
        self._trouble -= self._trouble * _SMOOTHING
        self._latency += (latency - self._latency) * (_SMOOTHING if self._latency else 1.0)
        self._window = min(self._workers, self._window + 1 / max(1.0, self._window))
        if self.pace == math.inf:
            return
        elapsed, self._grown_at = min(_STALL_S, now - self._grown_at), now
        if self._exhausted(headers):
            self._calm_since = now
        if self._held_back:
            self.pace *= math.exp(elapsed * self._growth(now))
            self._held_back = False

    def refused(self, now: float, number: int, asked: float) -> None:
        """It was answered by 429, which asks to wait so many seconds."""
        sent_at = self._recent.refused(now, number)
        if number <= self._shut_at:
            self._follow(now)
            return  # it was sent before the gate was shut
        # Among the first to knock is what was sent before the answer to the first was known.
        first = number == self._shut_at + 1 or sent_at - self._calm_since <= now - sent_at
        again = first and self._shut_at > 0
        grew_fast = self.pace < math.inf and self._growth(now) > _GROWTH
        if not again:  # a gate that stays shut says nothing of the pace
            if self._follow(now):
                self._shrink()
            gap, self._gap_since = min(_GAP_MEMORY_S, now - self._gap_since), now
            self._gap = max(gap, self._gap * (1 - gap / _GAP_MEMORY_S))
        if self.pace == math.inf:
            return
        if grew_fast:
            self._recent.begin(now)
            known = self._recent.average(now) * self._above
            self.pace = min(self.pace, max(_SLOWEST, known, self.pace * _STEP_BACK))
        self._in_a_row = self._in_a_row + 1 if again else 0
        self._shut_at = self._sent
        longest = max(asked, _SHUT / self.pace)
        self._next = self._calm_since = now + min(longest, _SHUT * _LONGER ** min(self._in_a_row, 99) / self.pace)

    def troubled(self) -> None:
        """A request came to nothing: 5xx, a reset, a time-out. Only where that is the rule, fewer are sent at once."""
        self._trouble += (1 - self._trouble) * _SMOOTHING
        if self._trouble > 0.5:
            self._trouble = 0.25
            self._shrink()

    @property
    def _above(self) -> float:
        """The pace, in times what is let in."""
        return 1 + min(_MOST_PROBE, max(_PROBE, _PROBE_PER_S / self.pace))

    def _growth(self, now: float) -> float:
        usual = min(_MOST_QUIET_S, max(_LEAST_QUIET_S, _QUIET_GAPS * self._gap))
        return min(_MOST_GROWTH, _GROWTH + _ACCELERATION * max(0.0, now - self._calm_since - usual))

    def _follow(self, now: float) -> bool:
        """Lower the pace to what is let in, where too many are refused; whether it was lowered."""
        recent = self._recent
        if self.pace == math.inf:
            if recent.in_a_row < _IN_A_ROW and not recent.too_many_refused(_DEVIATIONS_UNLIMITED):
                return False
            self.pace = max(float(self._workers), recent.average(now))  # what it is nobody knows yet
            self._grown_at = now
            recent.begin(now)
            return True
        if not recent.too_many_refused(_DEVIATIONS):
            return False
        lowered = max(_SLOWEST, recent.rate(now) * self._above)
        is_lower = lowered < self.pace
        self.pace = min(self.pace, lowered)
        return is_lower

    def _shrink(self) -> None:
        self._window = max(1.0, self._window / 2)
        self.lowest = min(self.lowest, self.concurrency)

    def _exhausted(self, headers: Mapping[str, str]) -> bool:
        """Whether the endpoint says that nothing is left. Some say 0 or -1 always: believed is one that said more."""
        told = [headers.get(name, "") for name in _REMAINING]
        left = [int(text) for text in told if text.isascii() and text.isdecimal() and len(text) < 20]
        self._tells_remaining = self._tells_remaining or any(left)
        return self._tells_remaining and 0 in left


class _Recent:
    """What was sent within the last second or two, and whether it was refused.

    Attributes:
        in_a_row: how many, sent one after the other, were refused last.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self._last_refused = 0
        self._let_in: dict[int, float] = {}  # when, by number; the oldest first
        self._refused: deque[float] = deque()
        self._begun = -math.inf

    def begin(self, now: float) -> None:
        """What was before this says little of what is let in from now on."""
        self._begun = now

    def sent(self, now: float, number: int) -> None:
        """It counts as let in until it is refused."""
        self._let_in[number] = now
        self._forget(now)

    def refused(self, now: float, number: int) -> float:
        """It was refused; returned is when it was sent, or now if that was long ago."""
        sent_at = self._let_in.pop(number, now)
        self._refused.append(sent_at)
        self.in_a_row = self.in_a_row + 1 if number == self._last_refused + 1 else 1
        self._last_refused = number
        self._forget(now)
        return sent_at

    def average(self, now: float) -> float:
        """Requests a second let in, over all that is remembered."""
        return len(self._let_in) / self._span(now)

    def rate(self, now: float) -> float:
        """Requests a second let in; infinite while it cannot be told."""
        average, elapsed = self.average(now), now - self._begun
        if elapsed >= _SPAN_S:
            return average
        since = sum(moment > self._begun for moment in self._let_in.values())
        return max(average, since / elapsed) if since >= _ENOUGH and elapsed >= _ENOUGH_S else math.inf

    def too_many_refused(self, deviations: float) -> bool:
        """Whether so many were refused that it is neither the tolerated share nor chance."""
        tolerated = _TOLERATED * (len(self._let_in) + len(self._refused))
        return len(self._refused) > tolerated + deviations * math.sqrt(tolerated)

    def _forget(self, now: float) -> None:
        while self._let_in:
            oldest = next(iter(self._let_in))
            age = now - self._let_in[oldest]
            if age <= (_SPAN_S if len(self._let_in) > _FEW else _LONG_SPAN_S):
                break
            del self._let_in[oldest]
        start = now - self._span(now)
        while self._refused and self._refused[0] < start:
            self._refused.popleft()

    def _span(self, now: float) -> float:
        return max(_SPAN_S, now - next(iter(self._let_in.values()))) if self._let_in else _LONG_SPAN_S
