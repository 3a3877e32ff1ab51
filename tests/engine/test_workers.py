import threading
from contextvars import ContextVar
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.engine.workers import OrderedPool

WAIT_S = 30


def never():
    return False


def skipped(item):
    return ("skipped", item)


def in_background(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.data())
def test_results_come_in_order_whatever_ends_first(workers, data):
    count = data.draw(st.integers(0, 40))
    order = data.draw(st.permutations(range(count)))
    gates = [threading.Event() for _ in range(count)]

    def work(item):
        assert gates[item].wait(WAIT_S)
        return item * item

    with OrderedPool(work, range(count), workers) as pool:
        opener = in_background(lambda: [gates[item].set() for item in order])
        assert list(pool.results(never)) == [item * item for item in range(count)]
        opener.join()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.data())
def test_results_and_drain_give_every_item_exactly_once(workers, data):
    """Whatever is done, running, waiting or not yet taken when the run is interrupted."""
    count = data.draw(st.integers(0, 120))
    done = data.draw(st.sets(st.integers(0, count - 1), max_size=20)) if count else set()
    yielded = data.draw(st.integers(0, count))
    gates = [threading.Event() for _ in range(count)]
    ran = []

    def work(item):
        ran.append(item)
        assert gates[item].wait(WAIT_S)
        return ("ran", item)

    for item in done | set(range(yielded)):
        gates[item].set()
    found = []
    with OrderedPool(work, range(count), workers) as pool:
        for result in islice(pool.results(lambda: len(found) >= yielded), yielded):
            found.append(result)
        in_background(lambda: [gate.set() for gate in gates])
        found += pool.drain(skipped)
    assert [item for _, item in found] == list(range(count))
    assert sorted(item for how, item in found if how == "ran") == sorted(ran)
    assert {("ran", item) for item in range(yielded)} <= set(found)


@pytest.mark.parametrize("workers", [1, 4, 20])
def test_a_bounded_window_is_taken_ahead_of_the_oldest(workers):
    window = max(64, 8 * workers)
    taken, peak, gate = 0, [], threading.Event()

    def items():
        nonlocal taken
        for item in range(10 * window):
            taken += 1
            yield item

    def probe():
        """Called while the pool waits for the oldest item, so with a full window."""
        peak.append(taken)
        gate.set()
        return False

    def work(item):
        assert gate.wait(WAIT_S)
        return item

    with OrderedPool(work, items(), workers) as pool:
        for position, result in enumerate(pool.results(probe)):
            assert result == position
            assert taken - position <= window
    assert peak[0] == window
    assert taken == 10 * window


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_as_many_items_run_at_once_as_there_are_workers(workers):
    together = threading.Barrier(workers)
    lock, running, most = threading.Lock(), 0, 0

    def work(item):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(WAIT_S)
        with lock:
            running -= 1
        together.wait(WAIT_S)
        return item

    with OrderedPool(work, range(5 * workers), workers) as pool:
        assert list(pool.results(never)) == list(range(5 * workers))
    assert most == workers


def test_an_interrupt_ends_the_wait_for_a_result_that_does_not_come():
    gate, started = threading.Event(), threading.Event()

    def work(item):
        started.set()
        assert gate.wait(WAIT_S)
        return ("ran", item)

    with OrderedPool(work, range(500), 1) as pool:
        assert list(pool.results(lambda: started.wait(WAIT_S))) == []
        drained = pool.drain(skipped)
        opener = in_background(gate.set)
        assert next(drained) == ("ran", 0)
        rest = list(drained)
        opener.join()
    assert [item for _, item in rest] == list(range(1, 500))
    assert ("skipped", 499) in rest


def test_where_the_user_of_the_results_fails_nothing_more_is_started():
    all_taken, failed, ran = threading.Event(), threading.Event(), []

    def items():
        yield from range(40)
        all_taken.set()

    def work(item):
        ran.append(item)
        assert (failed if item else all_taken).wait(WAIT_S)
        return item

    def use():
        with OrderedPool(work, items(), 1) as pool:
            for result in pool.results(never):
                raise OSError(result)

    with pytest.raises(OSError, match="0"):
        use()
    failed.set()
    for thread in threading.enumerate():
        if thread.name.startswith("mmlu-pipe"):
            thread.join(WAIT_S)
    assert ran in ([0], [0, 1])  # one may have been under way


def test_items_that_fail_are_the_callers_error_and_the_taken_ones_are_not_lost():
    def items():
        yield 1
        yield 2
        raise OSError("the file is gone")

    with OrderedPool(lambda item: ("ran", item), items(), 2) as pool:
        found = []
        with pytest.raises(OSError, match="gone"):
            found.extend(pool.results(never))
        found += pool.drain(skipped)
    assert [item for _, item in found] == [1, 2]


def test_what_an_item_leaves_in_its_context_does_not_reach_the_next():
    left = ContextVar("left", default=0)

    def work(item):
        before = left.get()
        left.set(item)
        return before

    with OrderedPool(work, range(1, 20), 1) as pool:
        assert list(pool.results(never)) == [0] * 19


def test_its_threads_end_with_it_and_never_hold_a_process():
    with OrderedPool(lambda item: item, range(10), 3) as pool:
        assert list(pool.results(never)) == list(range(10))
        assert all(thread.daemon for thread in pool._threads)
        assert 1 <= len(pool._threads) <= 3
    for thread in pool._threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_no_items():
    with OrderedPool(lambda item: item, [], 4) as pool:
        assert list(pool.results(never)) == []
        assert list(pool.drain(skipped)) == []
