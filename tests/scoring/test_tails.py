import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmlu_pipe.scoring.tails import binomial_cdf, chi_squared_tail

trials = st.integers(1, 200_000).flatmap(lambda n: st.tuples(st.integers(-1, n), st.just(n)))


def close(found, expected):
    return math.isclose(found, expected, rel_tol=1e-8, abs_tol=1e-290)


@given(st.floats(0, 1000), st.integers(1, 60))
@settings(deadline=None)
def test_the_chi_squared_tail_is_that_of_scipy(statistic, degrees):
    expected = float(stats.chi2.sf(statistic, degrees))
    assert close(chi_squared_tail(statistic, degrees), expected)


@pytest.mark.parametrize(("statistic", "degrees", "tail"), [(3.841, 1, 0.05), (7.815, 3, 0.05), (16.266, 3, 0.001)])
def test_the_chi_squared_tail_meets_the_printed_tables(statistic, degrees, tail):
    assert chi_squared_tail(statistic, degrees) == pytest.approx(tail, rel=2e-3)


@given(st.floats(0, 200), st.floats(0, 200), st.integers(1, 20))
@settings(deadline=None)
def test_a_larger_statistic_is_never_more_probable(one, other, degrees):
    low, high = sorted((one, other))
    assert 0 <= chi_squared_tail(high, degrees) <= chi_squared_tail(low, degrees) * (1 + 1e-12) <= 1 + 1e-12


@given(trials, st.floats(0.001, 0.999))
@settings(deadline=None)
def test_the_binomial_distribution_is_that_of_scipy(numbers, p):
    k, n = numbers
    assert math.isclose(binomial_cdf(k, n, p), float(stats.binom.cdf(k, n, p)), rel_tol=1e-7, abs_tol=1e-12)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_the_binomial_distribution_of_a_coin_is_the_sum_of_its_terms(numbers):
    k, n = numbers
    exact = sum(math.comb(n, each) for each in range(k + 1)) / 2**n
    assert close(binomial_cdf(k, n, 0.5), exact)


def test_a_small_tail_of_many_throws_keeps_its_digits():
    exact = sum(math.comb(2_000, each) for each in range(801)) / 2**2_000
    assert exact < 1e-18
    assert math.isclose(binomial_cdf(800, 2_000, 0.5), exact, rel_tol=1e-10)


def test_none_and_all_have_their_probabilities():
    assert (binomial_cdf(-1, 5, 0.3), binomial_cdf(5, 5, 0.3), binomial_cdf(0, 0, 0.3)) == (0.0, 1.0, 1.0)
    assert chi_squared_tail(0, 3) == 1.0


@pytest.mark.parametrize(("statistic", "degrees"), [(-1.0, 1), (1.0, 0), (1.0, -3)])
def test_an_impossible_chi_squared_variable_is_refused(statistic, degrees):
    with pytest.raises(ValueError, match="no chi-squared variable"):
        chi_squared_tail(statistic, degrees)


@pytest.mark.parametrize(("n", "p"), [(-1, 0.5), (3, 0.0), (3, 1.0), (3, float("nan"))])
def test_an_impossible_binomial_distribution_is_refused(n, p):
    with pytest.raises(ValueError, match="no binomial distribution"):
        binomial_cdf(0, n, p)
