import pytest
from benchmarks.coverage import GRID, PAIRS, SIZES, bootstrap_coverage, false_positives, probabilities, wilson_coverage
from scipy import stats


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("accuracy", GRID)
def test_the_wilson_interval_holds_the_accuracy_in_93_to_97_of_100_cases(n, accuracy):
    assert 0.93 <= wilson_coverage(n, accuracy) <= 0.97


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("n", SIZES)
def test_two_runs_of_one_accuracy_are_told_apart_in_at_most_5_of_100_cases(n, share):
    assert false_positives(n, share) <= 0.05


@pytest.mark.parametrize("pair", PAIRS)
def test_the_paired_bootstrap_holds_the_difference_in_about_95_of_100_cases(pair):
    assert 0.91 <= bootstrap_coverage(400, pair, simulated=300) <= 0.985


def test_the_probabilities_of_the_simulation_are_those_of_scipy():
    assert probabilities(60, 0.3) == pytest.approx(list(stats.binom.pmf(range(61), 60, 0.3)))
