"""How fast and how many at once: whole runs against servers in virtual time, and the gate with real threads."""

from __future__ import annotations

import functools
import itertools
import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.endpoint.limiter import Limiter, Quota
from mmlu_pipe.endpoint.pace import Pace
from mmlu_pipe.errors import RunCancelled
from tests.endpoint.simulation import Simulation
from tests.servers.rate_limited import FixedWindow, Rule, SlidingWindow, TokenBucket, Told, whole_seconds

BODY = {"messages": [{"role": "user", "content": "Which?"}]}
RULES: dict[str, Callable[[float], Rule]] = {
    "a bucket of one second": TokenBucket,
    "a bucket of a fifth of a second": lambda rate: TokenBucket(rate, 0.2),
    "a bucket of a tenth of a second": lambda rate: TokenBucket(rate, 0.1),
    "a fixed window": FixedWindow,
    "a sliding window": SlidingWindow,
}
TOLD: dict[str, Told] = {
    "seconds": whole_seconds,
    "milliseconds": lambda wait: {"retry-after": "1", "retry-after-ms": str(int(wait * 1000) + 1)},
    "nothing": lambda _wait: {},
}
CLOCKS = {"punctual": (0.0005, 0.0003), "late": (0.005, 0.003)}  # how late threads wake, and the way to the server
RATES = (10, 50, 200)
LATENCIES = (0.02, 0.3)
EVERY_RULE = pytest.mark.parametrize("rule", RULES)
EVERY_WORD = pytest.mark.parametrize("told", TOLD)


def workers_for(rate: float, latency: float) -> int:
    """The rule of docs/limits.md, where a refusal asks for a second."""
    return math.ceil(1.5 * rate * latency + 0.15 * rate) + 8


@functools.cache
def steady(rule: str, told: str, rate: float, latency: float, clock: str = "punctual", workers: int = 0) -> Simulation:
    late, way = CLOCKS[clock]
    workers = workers or max(64, workers_for(rate, latency))
    return Simulation(RULES[rule](rate), workers, latency, told=TOLD[told], late=late, way=way).run(24)


# What a server admits is used


@EVERY_RULE
@pytest.mark.parametrize(("told", "clock"), [*((told, "punctual") for told in TOLD), ("seconds", "late")])
@pytest.mark.parametrize("rate", RATES)
def test_nearly_all_that_a_server_admits_is_used(rule: str, told: str, clock: str, rate: float) -> None:
    for latency in LATENCIES:
        done = steady(rule, told, rate, latency, clock)
        assert done.rate(4, 24) >= 0.95 * rate
        assert done.most_refusals < 20


@pytest.mark.parametrize(("rate", "most"), [(10, 0.15), (50, 0.08), (200, 0.08)])
def test_few_requests_are_refused_at_the_limit(rate: float, most: float) -> None:
    shares = [
        steady(rule, told, rate, latency).refused_share(4)
        for rule, told, latency in itertools.product(RULES, TOLD, (*LATENCIES, 0.1))
    ]
    assert sum(shares) / len(shares) <= most
    assert max(shares) <= 0.2


@EVERY_RULE
@EVERY_WORD
@pytest.mark.parametrize(("rate", "then"), [(50, 200), (200, 50), (10, 40), (40, 10)])
def test_a_rate_that_changes_in_mid_run_is_used_three_seconds_later(
    rule: str, told: str, rate: float, then: float
) -> None:
    changed = Simulation(RULES[rule](rate), workers=64, latency=0.05, told=TOLD[told])
    done = changed.run(25, changes=[(9.9, then)])
    assert done.rate(13, 25) >= 0.95 * then
    assert done.rate(10, 25) >= 0.86 * then
    assert done.most_refusals < 20


@EVERY_RULE
@pytest.mark.parametrize("rate", RATES)
def test_as_many_workers_as_the_rule_asks_for_are_enough(rule: str, rate: float) -> None:
    for latency in LATENCIES:
        done = steady(rule, "seconds", rate, latency, workers=workers_for(rate, latency))
        assert done.rate(4, 24) >= 0.95 * rate


@EVERY_RULE
def test_remaining_headers_cost_nothing(rule: str) -> None:
    told, untold = (
        Simulation(RULES[rule](50), workers=64, latency=0.05, tell_remaining=tell).run(24) for tell in (True, False)
    )
    assert told.rate(4, 24) >= 0.95 * 50
    assert told.refused_share(4) <= untold.refused_share(4) + 0.02


def test_refusals_that_come_as_late_as_answers_do_no_harm() -> None:
    done = Simulation(TokenBucket(50, 0.5), workers=64, latency=0.3, slow_refusals=True).run(30)
    assert done.rate(6, 30) >= 0.9 * 50


def test_without_refusals_all_workers_are_used_from_the_start() -> None:
    done = Simulation(TokenBucket(1e9), workers=64, latency=0.3).run(5)
    assert done.rate(0, 5) > 0.95 * 64 / 0.302 * 0.95
    assert done.lowest_concurrency == 64


# Faults that are no overload


@pytest.mark.parametrize(("workers", "latency", "least"), [(64, 0.05, 0.85), (64, 0.3, 0.85), (8, 0.05, 0.7)])
def test_one_in_twenty_refused_whatever_the_load_costs_little_more_than_its_waits(
    workers: int, latency: float, least: float
) -> None:
    fault = lambda dice: 429 if dice.random() < 0.05 else 0  # noqa: E731
    done = Simulation(TokenBucket(1e9), workers, latency=latency, fault=fault).run(30)
    waits = 0.05 / 0.95 * 1.05
    assert done.rate(2, 30) > least * workers / (latency + 0.002 + waits)


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
            pace.sent(number)
            pace.troubled()
        pace.sent(number)
        pace.admitted(number, 0.1, {})
    assert pace.concurrency == 16
    for _ in range(200):
        pace.troubled()
    assert pace.concurrency == 1
    for _ in range(400):
        pace.admitted(201, 0.1, {})
    assert pace.concurrency == 16


def limited(workers: int) -> Pace:
    pace = Pace(workers)
    for number in [pace.sent(0.0) for _ in range(max(12, workers))]:
        pace.refused(0.01, number, 1.0)
    return pace


def test_refusals_that_chance_explains_limit_nothing_and_more_do() -> None:
    pace = Pace(64)
    numbers = [pace.sent(1.0) for _ in range(64)]
    for number in numbers[:4]:
        pace.refused(1.01, number, 1.0)
    assert (pace.pace, pace.delay(1.01), pace.concurrency) == (math.inf, 0.0, 64)
    for number in numbers[4:]:
        pace.refused(1.02, number, 1.0)
    assert pace.pace == 64
    assert pace.delay(1.02) > 0
    assert pace.concurrency == 32


def test_the_concurrency_rises_again_by_one_for_each_round_of_answers() -> None:
    pace = limited(64)
    for _ in range(40):
        pace.admitted(0.1, 0.0, {})
    assert pace.concurrency == 33


def test_the_concurrency_is_never_below_what_the_pace_needs() -> None:
    pace = limited(64)
    for _ in range(200):
        pace.admitted(0.1, 1.0, {})
    for _ in range(200):
        pace.troubled()
    assert pace.concurrency == 64


def test_a_closed_door_is_knocked_at_ever_less_often_but_within_what_it_asks() -> None:
    pace, now, knocks = Pace(64), 0.0, []
    while now < 60:
        now += pace.delay(now)
        pace.refused(now, pace.sent(now), 10.0)
        knocks.append(now)
        now += 0.001
    assert len(knocks) < 45
    assert pace.delay(now) <= 10


def test_a_gate_where_few_workers_are_all_refused_is_limited() -> None:
    pace = Pace(8)
    numbers = [pace.sent(second / 100) for second in range(60)]
    for number in numbers[-5:]:
        pace.refused(1.0, number, 1.0)
    assert pace.pace < math.inf


@pytest.mark.parametrize("value", ["0", "-1", "", "soon", "1e3", "²", "9" * 5000])
def test_remaining_headers_that_say_the_same_for_ever_change_nothing(value: str) -> None:
    def grown(headers: dict[str, str]) -> float:
        pace = limited(8)
        for step in range(100):
            now = 1 + step / 50
            pace.delay(now)
            pace.sent(now)
            pace.admitted(now, 0.01, headers)
        return pace.pace

    assert grown({"x-ratelimit-remaining-requests": value, "x-ratelimit-remaining-tokens": value}) == grown({})


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.lists(st.tuples(st.sampled_from(["ok", "429", "500"]), st.floats(0, 10)), max_size=80))
def test_whatever_happens_the_concurrency_stays_within_the_workers_and_the_wait_is_finite(
    workers: int, events: list[tuple[str, float]]
) -> None:
    pace, now = Pace(workers), 0.0
    for what, passed in events:
        now += pace.delay(now)
        number = pace.sent(now)
        now += passed
        if what == "ok":
            pace.admitted(now, passed, {})
        elif what == "429":
            pace.refused(now, number, 5.0)
        else:
            pace.troubled()
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
        waiting += [pool.submit(limiter.pause, 3600.0) for _ in range(16)]
        limiter.stop()
        for future in waiting:
            assert isinstance(future.exception(timeout=30), RunCancelled)
    with pytest.raises(RunCancelled):
        limiter.acquire(BODY)


def test_the_facts_count_refusals_and_waits() -> None:
    limiter = Limiter(8)
    for _ in range(12):
        limiter.release(limiter.acquire(BODY), 429, {"retry-after-ms": "1"})
    limiter.pause(0.01)
    facts = limiter.facts
    assert facts["rate_limited"] == 12
    assert facts["waited_s"] >= 0.01
    assert facts["lowest_concurrency"] == limiter.concurrency < 8
