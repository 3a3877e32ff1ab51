import threading
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.engine.workers import WorkerPool

WAIT_S = 30


def never():
    return False


def ran(function, items, workers):
    with WorkerPool(function, items, workers) as pool:
        assert pool.wait(never)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.data())
def test_every_item_is_worked_on_once_whatever_ends_first(workers, data):
    number = data.draw(st.integers(0, 40))
    order = data.draw(st.permutations(range(number)))
    gates = [threading.Event() for _ in range(number)]
    done = []

    def work(item):
        assert gates[item].wait(WAIT_S)
        done.append(item)

    opener = threading.Thread(target=lambda: [gates[item].set() for item in order])
    opener.start()
    ran(work, range(number), workers)
    opener.join()
    assert sorted(done) == list(range(number))


def test_an_item_that_takes_long_holds_no_other_up():
    gate, rest, done = threading.Event(), threading.Event(), []

    def work(item):
        if item == 0:
            assert gate.wait(WAIT_S)
        done.append(item)
        if len(done) == 999:
            rest.set()

    with WorkerPool(work, range(1000), 2) as pool:
        assert rest.wait(WAIT_S)
        assert done == list(range(1, 1000))
        gate.set()
        assert pool.wait(never)
    assert done[-1] == 0


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_no_more_items_are_taken_than_are_worked_on(workers):
    lock, running, most, taken = threading.Lock(), set(), [], []

    def items():
        for item in range(200):
            taken.append(item)
            yield item

    def work(item):
        with lock:
            running.add(item)
            most.append(len(running))
            assert len(taken) <= item + 1 + workers
        threading.Event().wait(0.002)
        with lock:
            running.remove(item)

    ran(work, items(), workers)
    assert max(most) <= workers
    assert len(taken) == 200


def test_items_begin_in_their_order():
    begun = []
    ran(begun.append, range(500), 1)
    assert begun == list(range(500))


def test_each_item_runs_in_a_context_of_its_own():
    variable, seen = ContextVar("variable", default=0), []

    def work(_item):
        seen.append(variable.get())
        variable.set(1)

    ran(work, range(50), 2)
    assert seen == [0] * 50


def test_after_a_halt_what_is_under_way_ends_and_nothing_else_begins():
    under_way, gate, begun, ended = threading.Barrier(5), threading.Event(), [], []

    def work(item):
        begun.append(item)
        under_way.wait(WAIT_S)
        assert gate.wait(WAIT_S)
        ended.append(item)

    with WorkerPool(work, range(100), 4) as pool:
        under_way.wait(WAIT_S)
        pool.halt()
        gate.set()
        assert pool.wait(never)
    assert sorted(begun) == sorted(ended) == [0, 1, 2, 3]


def test_a_wait_that_is_interrupted_says_so_at_once():
    gate = threading.Event()
    with WorkerPool(lambda _item: gate.wait(WAIT_S), range(3), 2) as pool:
        assert pool.wait(lambda: True) is False
        gate.set()
        assert pool.wait(never) is True


def test_what_the_function_raises_is_raised_to_who_waits_and_nothing_else_begins():
    begun = []

    def work(item):
        begun.append(item)
        raise KeyError(item)

    with WorkerPool(work, range(300), 1) as pool, pytest.raises(KeyError):
        pool.wait(never)
    assert begun == [0]


def test_an_iterator_that_fails_raises_to_who_waits():
    def items():
        yield 1
        raise OSError("gone")

    with WorkerPool(lambda _item: None, items(), 2) as pool, pytest.raises(OSError, match="gone"):
        pool.wait(never)


def test_after_the_pool_is_left_its_threads_end():
    with WorkerPool(lambda _item: None, range(100), 3) as pool:
        threads = list(pool._threads)
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert thread.daemon
