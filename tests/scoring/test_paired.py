import random
from bisect import bisect
from itertools import product
from math import isclose

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from mmlu_pipe.records import Interval
from mmlu_pipe.scoring.paired import Cells, bootstrap_interval, holm, lines_for_power, mcnemar_exact

counts = st.integers(0, 3000)


@given(counts, counts)
@settings(deadline=None)
def test_mcnemars_exact_test_is_that_of_statsmodels_and_scipy(only_a, only_b):
    found = mcnemar_exact(only_a, only_b)
    known = mcnemar([[0, only_a], [only_b, 0]], exact=True)
    assert isclose(found, min(1.0, float(known.pvalue)), rel_tol=1e-7, abs_tol=1e-290)
    if only_a + only_b:
        assert isclose(found, stats.binomtest(only_a, only_a + only_b).pvalue, rel_tol=1e-7, abs_tol=1e-290)


def test_mcnemars_exact_test_worked_by_hand():
    assert mcnemar_exact(1, 8) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar_exact(0, 0) == mcnemar_exact(4, 4) == 1.0


def test_a_million_lines_that_differ_are_tested_too():
    known = stats.binomtest(499_000, 1_000_000).pvalue
    assert isclose(mcnemar_exact(499_000, 501_000), known, rel_tol=1e-6)


@pytest.mark.parametrize("differing", [*range(60), 100, 1_000, 14_042])
def test_without_a_difference_at_most_5_percent_are_found_to_differ(differing):
    least = bisect(range(differing // 2 + 1), 0.05, key=lambda k: mcnemar_exact(k, differing - k))
    found = 0.0 if least == 0 else 2 * float(stats.binom.cdf(least - 1, differing, 0.5))
    assert found <= 0.05


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
@settings(deadline=None, max_examples=25)
def test_holms_values_are_those_of_statsmodels(p_values):
    known = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(known), abs=1e-12)


def test_holms_values_worked_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


@pytest.mark.parametrize(
    "cells", [Cells(500, 60, 90, 350), Cells(40, 12, 20, 28), Cells(7000, 800, 950, 5292), Cells(90, 0, 5, 5)]
)
def test_the_bootstrap_is_that_of_scipy_on_the_lines_themselves(cells):
    a = np.repeat([1, 1, 0, 0], [cells.both, cells.only_a, cells.only_b, cells.neither])
    b = np.repeat([1, 0, 1, 0], [cells.both, cells.only_a, cells.only_b, cells.neither])
    known = stats.bootstrap(
        (a, b),
        lambda a, b, axis: b.mean(axis) - a.mean(axis),
        paired=True,
        method="percentile",
        batch=500,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = bootstrap_interval(cells, seed=0)
    slack = 0.06 * (known.high - known.low) + 1 / cells.n
    assert found.low == pytest.approx(known.low, abs=slack)
    assert found.high == pytest.approx(known.high, abs=slack)


def exact_interval(cells):
    """The ends of the bootstrap with every possible sample in it, weighted by how probable it is."""
    n, shares = cells.n, (cells.only_a / cells.n, cells.only_b / cells.n)
    weights: dict[int, float] = {}
    for a, b in product(range(n + 1), repeat=2):
        if a + b <= n:
            p = stats.multinomial.pmf([a, b, n - a - b], n, [*shares, 1 - sum(shares)])
            weights[b - a] = weights.get(b - a, 0.0) + p
    values = sorted(weights)
    cumulated = np.cumsum([weights[value] for value in values])
    return tuple(values[int(np.searchsorted(cumulated, share))] / n for share in (0.025, 0.975))


@pytest.mark.parametrize("cells", [Cells(10, 6, 9, 5), Cells(20, 3, 1, 6), Cells(0, 15, 15, 0)])
def test_the_bootstrap_is_the_exact_one_but_for_its_draws(cells):
    low, high = exact_interval(cells)
    found = bootstrap_interval(cells, seed=3)
    assert found.low == pytest.approx(low, abs=1.01 / cells.n)
    assert found.high == pytest.approx(high, abs=1.01 / cells.n)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.integers(1, 400), st.integers())
@settings(max_examples=30, deadline=None)
def test_a_seed_gives_the_same_interval_around_the_difference_every_time(both, only_a, only_b, neither, seed):
    cells = Cells(both, only_a, only_b, neither)
    found = bootstrap_interval(cells, seed=seed, resamples=500)
    assert found == bootstrap_interval(cells, seed=seed, resamples=500)
    assert -1 <= found.low <= cells.delta <= found.high <= 1


def test_another_seed_draws_otherwise_and_comes_close():
    cells = Cells(500, 60, 90, 350)
    found = [bootstrap_interval(cells, seed=seed, resamples=200) for seed in range(8)]
    assert len({(each.low, each.high) for each in found}) > 1
    assert max(each.low for each in found) - min(each.low for each in found) < 0.01


def test_runs_that_never_differ_have_an_interval_without_width():
    assert bootstrap_interval(Cells(5, 0, 0, 5), seed=0) == Interval(0.0, 0.0)


def test_runs_that_always_differ_one_way_have_one_too():
    assert bootstrap_interval(Cells(0, 0, 7, 0), seed=0) == Interval(1.0, 1.0)


def test_a_million_lines_are_resampled_too():
    found = bootstrap_interval(Cells(600_000, 99_000, 101_000, 200_000), seed=0)
    spread = 1.96 * (0.2 / 1_000_000) ** 0.5
    assert found.low == pytest.approx(0.002 - spread, abs=spread / 10)


@pytest.mark.parametrize(("only_a", "only_b"), [(60, 90), (100, 130), (20, 60), (5, 30), (300, 250)])
def test_so_many_lines_show_the_difference_four_times_in_five(only_a, only_b):
    cells = Cells(1000 - only_a - only_b, only_a, only_b, 0)
    needed = lines_for_power(cells)
    chooser = np.random.default_rng(5)
    drawn = chooser.multinomial(needed, [only_a / 1000, only_b / 1000, 1 - (only_a + only_b) / 1000], size=4000)
    shown = [mcnemar_exact(int(a), int(b)) <= 0.05 for a, b, _ in drawn]
    assert 0.74 <= sum(shown) / 4000 <= 0.85


def test_the_number_of_lines_worked_by_hand():
    # Connor 1987: (1.95996·√0.15 + 0.84162·√(0.15 - 0.03²))²/0.03² = 1,305.8
    assert lines_for_power(Cells(500, 60, 90, 350)) == 1306


def test_no_number_of_lines_shows_a_difference_that_is_none():
    assert lines_for_power(Cells(5, 3, 3, 5)) is None


def test_the_draws_do_not_touch_the_draws_of_others():
    random.seed(4)
    expected = random.random()
    random.seed(4)
    bootstrap_interval(Cells(5, 3, 4, 5), seed=0)
    assert random.random() == expected
