"""How fast and how many at once: whole runs against servers in virtual time, and the gate with real threads."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.endpoint.limiter import Limiter
from mmlu_pipe.endpoint.pace import Pace, Quota
from mmlu_pipe.errors import RunCancelled
from tests.endpoint.simulation import Simulation
from tests.servers.rate_limited import FixedWindow, Rule, SlidingWindow, TokenBucket, Told, whole_seconds

BODY = {"messages": [{"role": "user", "content": "Which?"}]}
RULES: dict[str, Callable[[float], Rule]] = {
    "a bucket of one second": TokenBucket,
    "a bucket of a fifth of a second": lambda rate: TokenBucket(rate, 0.2),
    "a fixed window": FixedWindow,
    "a sliding window": SlidingWindow,
}
TOLD: dict[str, Told] = {
    "seconds": whole_seconds,
    "milliseconds": lambda wait: {"retry-after": "1", "retry-after-ms": str(int(wait * 1000) + 1)},
    "nothing": lambda _wait: {},
}
EVERY_RULE = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
EVERY_WORD = pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)


# What a server admits is used


@EVERY_RULE
@EVERY_WORD
@pytest.mark.parametrize(("rate", "latency"), [(10, 0.0), (10, 0.3), (50, 0.05), (50, 0.3), (200, 0.0), (200, 0.05)])
def test_nearly_all_that_a_server_admits_is_used(
    rule: Callable[[float], Rule], told: Told, rate: float, latency: float
) -> None:
    done = Simulation(rule(rate), workers=64, latency=latency, told=told).run(24)
    assert done.rate(4, 24) >= (0.9 if rate == 10 else 0.94) * rate
    assert done.refused_share(4) < 0.35
    assert done.most_refusals < 40


@EVERY_RULE
@pytest.mark.parametrize(("rate", "then"), [(50, 200), (200, 50), (10, 40), (40, 10)])
def test_a_rate_that_changes_in_mid_run_is_followed(rule: Callable[[float], Rule], rate: float, then: float) -> None:
    done = Simulation(rule(rate), workers=64, latency=0.05).run(32, changes=[(10, then)])
    assert done.rate(14, 32) >= 0.9 * then
    assert done.most_refusals < 40


@EVERY_RULE
@pytest.mark.parametrize(("rate", "latency"), [(10, 0.0), (10, 0.3), (50, 0.05)])
def test_eight_workers_are_enough_where_little_says_so(
    rule: Callable[[float], Rule], rate: float, latency: float
) -> None:
    done = Simulation(rule(rate), workers=8, latency=latency).run(24)
    assert done.rate(4, 24) >= 0.9 * rate


@EVERY_RULE
def test_remaining_headers_cost_nothing_and_save_refusals(rule: Callable[[float], Rule]) -> None:
    told, untold = (
        Simulation(rule(50), workers=64, latency=0.05, tell_remaining=tell).run(24) for tell in (True, False)
    )
    assert told.rate(4, 24) >= 0.93 * 50
    assert told.refused_share(4) <= untold.refused_share(4) + 0.02


def test_refusals_that_come_as_late_as_answers_do_no_harm() -> None:
    done = Simulation(TokenBucket(50, 0.5), workers=64, latency=0.3, slow_refusals=True).run(30)
    assert done.rate(6, 30) >= 0.9 * 50


def test_without_refusals_all_workers_are_used_from_the_start() -> None:
    done = Simulation(TokenBucket(1e9), workers=64, latency=0.3).run(5)
    assert done.rate(0, 5) > 0.95 * 64 / 0.302 * 0.95
    assert done.lowest_concurrency == 64


# Faults that are no overload


@pytest.mark.parametrize("workers", [8, 64])
def test_now_and_then_a_429_that_is_no_limit_does_not_collapse_the_run(workers: int) -> None:
    fault = lambda dice: 429 if dice.random() < 0.02 else 0  # noqa: E731
    done = Simulation(TokenBucket(1e9), workers, latency=0.05, fault=fault).run(30)
    assert done.rate(0, 30) > 0.6 * workers / (0.052 + 0.02)


@pytest.mark.parametrize("workers", [8, 64])
def test_a_fifth_of_all_requests_failing_does_not_collapse_the_run(workers: int) -> None:
    def fault(dice: random.Random) -> int:
        draw = dice.random()
        return 429 if draw < 0.04 else 503 if draw < 0.2 else 0

    done = Simulation(TokenBucket(1e9), workers, latency=0.05, fault=fault).run(30)
    assert done.rate(0, 30) > 0.4 * workers / (0.052 + 0.04 + 0.16 * 0.44)


def test_a_lone_503_costs_no_concurrency_and_a_server_that_only_fails_is_asked_by_few() -> None:
    pace = Pace(16)
    for number in range(100):
        if number == 50:
            pace.troubled(number, pace.sent(number))
        pace.admitted(number, pace.sent(number), 0.1, {})
    assert pace.concurrency == 16
    for _ in range(200):
        pace.troubled(200, pace.sent(200))
    assert pace.concurrency == 1
    for _ in range(400):
        pace.admitted(201, pace.sent(201), 0.1, {})
    assert pace.concurrency == 16


def test_a_429_alone_is_not_believed_and_two_in_a_row_are() -> None:
    pace = Pace(64)
    pace.admitted(1.0, pace.sent(1.0), 0.1, {})
    pace.refused(1.1, pace.sent(1.1), 1.0)
    pace.admitted(1.2, pace.sent(1.2), 0.1, {})
    assert pace.delay(1.2) == 0
    pace.refused(1.3, pace.sent(1.3), 1.0)
    pace.refused(1.4, pace.sent(1.4), 1.0)
    assert pace.delay(1.4) > 0
    assert pace.pace == 64
    assert pace.concurrency < 64


def test_a_closed_door_is_knocked_at_ever_less_often_but_within_what_it_asks() -> None:
    pace, now, knocks = Pace(64), 0.0, []
    while now < 30:
        now += pace.delay(now)
        pace.refused(now, pace.sent(now), 20.0)
        knocks.append(now)
        now += 0.001
    assert len(knocks) < 30
    pace.resting = 0
    assert pace.delay(now) <= 20


def test_an_answer_that_never_comes_does_not_hold_the_decision_for_ever() -> None:
    pace = Pace(8)
    pace.refused(0.0, pace.sent(0.0), 1.0)
    pace.sent(0.1)  # it decides, and hangs
    for moment in (10.0, 10.1, 10.2):
        pace.refused(moment, pace.sent(moment), 1.0)
    assert pace.delay(10.2) > 0


@pytest.mark.parametrize("value", ["0", "-1", "", "soon", "1e3", "²", "9" * 5000])
def test_remaining_headers_that_say_the_same_for_ever_change_nothing(value: str) -> None:
    def grown(headers: dict[str, str]) -> float:
        pace = Pace(8)
        for moment in (0.0, 0.1):
            pace.refused(moment, pace.sent(moment), 0.1)
        for step in range(100):
            now = 1 + step / 50
            pace.delay(now)
            pace.admitted(now, pace.sent(now), 0.01, headers)
        return pace.pace

    assert grown({"x-ratelimit-remaining-requests": value, "x-ratelimit-remaining-tokens": value}) == grown({})


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.lists(st.tuples(st.sampled_from(["ok", "429", "500"]), st.floats(0, 10)), max_size=80))
def test_whatever_happens_the_concurrency_stays_within_the_workers_and_the_wait_is_finite(
    workers: int, events: list[tuple[str, float]]
) -> None:
    pace, now = Pace(workers), 0.0
    for what, passed in events:
        now += passed
        number = pace.sent(now)
        now += passed
        if what == "ok":
            pace.admitted(now, number, passed, {})
        elif what == "429":
            pace.refused(now, number, 5.0)
        else:
            pace.troubled(now, number)
        assert 1 <= pace.lowest <= workers
        assert 1 <= pace.concurrency <= workers
        assert 0 <= pace.delay(now) <= 8
        assert pace.pace >= 0.5


# A user's own bounds


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6000), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_no_minute_has_more_than_its_quota(per_minute: int, gaps: list[float]) -> None:
    quota, now, taken = Quota(per_minute), 0.0, []
    for gap in gaps:
        now += gap
        now += quota.delay(now)
        quota.take(now, 1)
        taken.append(now)
    for start in taken:
        assert sum(start <= moment < start + 60 - 1e-6 for moment in taken) <= per_minute


def test_one_call_larger_than_the_quota_goes_and_the_next_pays_for_it() -> None:
    quota = Quota(100)
    assert quota.delay(0) == 0
    quota.take(0, 1000)
    assert quota.delay(0) == pytest.approx(600)
    quota.settle(-900)  # it was less than was thought
    assert quota.delay(0) == pytest.approx(60)


def test_tokens_are_estimated_by_the_text_settled_by_usage_and_free_where_refused() -> None:
    clock = iter([0.0, 0.0, 1000.0, 1000.0]).__next__
    limiter = Limiter(8, tpm=60, clock=clock)
    slot = limiter.acquire({"messages": [{"content": "x" * 400}, {"content": None}]})
    assert slot.tokens == 101
    limiter.release(slot, 200, {})
    limiter.spent(slot, {"total_tokens": 150})
    limiter.spent(slot, None)
    assert limiter._delay(0.0) == pytest.approx(150)
    slot = limiter.acquire({"messages": [{"content": [{"type": "text", "text": "many parts"}]}]})
    limiter.release(slot, 429, {"retry-after": "1"})
    assert limiter._tokens
    assert limiter._tokens.delay(1000.0) == 0


# The gate


def test_no_more_go_at_once_than_workers_and_each_gets_its_turn() -> None:
    limiter, at_once, most, lock = Limiter(4), 0, 0, threading.Lock()

    def work(_number: int) -> None:
        nonlocal at_once, most
        slot = limiter.acquire(BODY)
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.001)
        with lock:
            at_once -= 1
        limiter.release(slot, 200, {})

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(500)))
    assert most == 4


def test_256_waiting_threads_are_woken_one_by_one() -> None:
    limiter = Limiter(1)
    slot, woken = limiter.acquire(BODY), 0
    waits = limiter._ready.wait

    def wait(timeout: float | None = None) -> bool:
        nonlocal woken
        found = waits(timeout)
        woken += 1
        return found

    limiter._ready.wait = wait  # type: ignore[method-assign]

    def work(_number: int) -> None:
        limiter.release(limiter.acquire(BODY), 200, {})

    with ThreadPoolExecutor(256) as pool:
        done = pool.map(work, range(256))
        limiter.release(slot, 200, {})
        list(done)
    assert woken <= 2 * 256


def test_stop_wakes_everybody_who_waits_for_a_slot_a_quota_or_a_pause() -> None:
    limiter = Limiter(1, rpm=1)
    limiter.acquire(BODY)
    with ThreadPoolExecutor(32) as pool:
        waiting = [pool.submit(limiter.acquire, BODY) for _ in range(16)]
        waiting += [pool.submit(limiter.pause, 3600.0, rate_limited=True) for _ in range(16)]
        limiter.stop()
        for future in waiting:
            assert isinstance(future.exception(timeout=30), RunCancelled)
    with pytest.raises(RunCancelled):
        limiter.acquire(BODY)


def test_the_facts_count_refusals_and_waits() -> None:
    limiter = Limiter(8)
    for _ in range(3):
        limiter.release(limiter.acquire(BODY), 429, {"retry-after-ms": "1"})
    limiter.pause(0.01, rate_limited=True)
    facts = limiter.facts
    assert facts["rate_limited"] == 3
    assert facts["waited_s"] >= 0.01
    assert facts["lowest_concurrency"] == limiter.concurrency < 8
