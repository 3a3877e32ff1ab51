from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import SquareTable

from mmlu_pipe.scoring.positions import goodness_of_fit, marginal_homogeneity, position_bias

tables = st.integers(2, 6).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 60), min_size=size, max_size=size), min_size=size, max_size=size)
)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 500)), min_size=2, max_size=10))
@settings(deadline=None)
def test_goodness_of_fit_is_that_of_scipy(pairs):
    observed, expected = zip(*pairs, strict=True)
    observed = (*observed, max(0, sum(expected) - sum(observed)) + 1)
    expected = (*expected, sum(observed) - sum(expected))  # equal sums, as the test wants them
    assume(expected[-1] > 0)
    found = goodness_of_fit(observed, expected)
    known = stats.chisquare(observed, expected)
    assert found.statistic == pytest.approx(known.statistic)
    assert found.p_value == pytest.approx(known.pvalue, rel=1e-8, abs=1e-290)
    assert found.degrees == len(expected) - 1


@given(tables)
@settings(deadline=None)
def test_marginal_homogeneity_is_that_of_statsmodels(rows):
    table = np.array(rows)
    assume((table + table.T + np.eye(len(rows)) > 0).all())  # statsmodels inverts: all positions must be mistaken
    known = SquareTable(table, shift_zeros=False).homogeneity(method="stuart_maxwell")
    found = marginal_homogeneity(rows)
    assert found.statistic == pytest.approx(known.statistic, rel=1e-6, abs=1e-9)
    assert found.degrees == known.df
    assert found.p_value == pytest.approx(known.pvalue, rel=1e-6, abs=1e-12)


def test_two_positions_are_mcnemars_test():
    found = marginal_homogeneity([[50, 10], [25, 15]])
    assert (found.statistic, found.degrees) == (pytest.approx((25 - 10) ** 2 / 35), 1)


def test_positions_that_are_never_mistaken_for_others_cost_a_degree_each():
    apart = marginal_homogeneity([[5, 9, 0, 0], [1, 5, 0, 0], [0, 0, 5, 2], [0, 0, 8, 5]])
    assert (apart.statistic, apart.degrees) == (pytest.approx(64 / 10 + 36 / 10), 2)
    one = marginal_homogeneity([[5, 9, 0], [1, 5, 0], [0, 0, 7]])
    assert (one.statistic, one.degrees) == (pytest.approx(64 / 10), 1)


def test_answers_that_are_all_right_show_no_bias():
    found = position_bias(Counter({(0, 0): 5, (3, 3): 7}))
    assert (found.chosen, found.correct, found.marginal_homogeneity) == ((5, 0, 0, 7), (5, 0, 0, 7), None)
    assert (found.goodness_of_fit.statistic, found.goodness_of_fit.p_value) == (0.0, 1.0)


def test_letters_chosen_and_correct_are_counted_by_position():
    found = position_bias(Counter({(0, 2): 3, (1, 2): 4, (2, 2): 5, (1, 0): 1}))
    assert (found.lines, found.chosen, found.correct) == (13, (1, 0, 12), (3, 5, 5))


def test_a_position_chosen_that_is_never_correct_has_no_expected_count_to_go_by():
    found = position_bias(Counter({(0, 1): 3, (0, 0): 5}))
    assert found.goodness_of_fit is None
    assert found.marginal_homogeneity.p_value == pytest.approx(float(stats.chi2.sf(3, 1)))


def test_no_lines_have_no_bias():
    assert position_bias({}) is None


def rate_of_false_alarms(accuracy, test):
    chooser = np.random.default_rng(11)
    alarms = 0
    for _ in range(600):
        correct = chooser.integers(0, 4, 400)
        chosen = np.where(chooser.random(400) < accuracy, correct, chooser.integers(0, 4, 400))
        found = position_bias(Counter(zip(correct.tolist(), chosen.tolist(), strict=True)))
        alarms += getattr(found, test).p_value < 0.05
    return alarms / 600


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.9])
def test_the_paired_test_keeps_its_level_where_there_is_no_bias(accuracy):
    assert 0.02 < rate_of_false_alarms(accuracy, "marginal_homogeneity") < 0.08


def test_goodness_of_fit_finds_too_much_in_guesses_and_too_little_in_right_answers():
    assert rate_of_false_alarms(0.0, "goodness_of_fit") > 0.15
    assert rate_of_false_alarms(0.9, "goodness_of_fit") < 0.01
