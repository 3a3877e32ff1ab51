import random
from math import isclose, sqrt
from statistics import NormalDist, fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from mmlu_pipe.records import Interval
from mmlu_pipe.scoring.intervals import macro_average, stderr, wilson

counts = st.integers(1, 1_000_000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))


@pytest.mark.parametrize(
    ("n_correct", "count", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
)
def test_published_values_of_newcombe_1998_are_met(n_correct, count, low, high):
    # R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, score method without continuity correction.
    found = wilson(n_correct, count)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("n_correct", "count", "confidence", "low", "high"),
    [
        (1, 29, 0.95, 0.006113214292762667, 0.17175521879320294),
        (29, 29, 0.95, 0.8830302015002592, 1.0),
        (430, 1000, 0.95, 0.3996409199186558, 0.4608948262693219),
        (7, 50, 0.99, 0.05614371860633749, 0.30820578743035476),
        (7, 50, 0.8, 0.08851935972566856, 0.21437868848183156),
    ],
)
def test_the_values_of_statsmodels_are_met(n_correct, count, confidence, low, high):
    # proportion_confint(n_correct, count, 1 - confidence, "wilson")
    found = wilson(n_correct, count, confidence)
    assert isclose(found.low, low, rel_tol=1e-9)
    assert isclose(found.high, high, rel_tol=1e-9)


@given(counts, st.floats(0.5, 0.999))
@settings(deadline=None)
def test_the_interval_is_that_of_statsmodels(numbers, confidence):
    n_correct, count = numbers
    low, high = proportion_confint(n_correct, count, 1 - confidence, "wilson")
    found = wilson(n_correct, count, confidence)
    assert isclose(found.low, low, rel_tol=1e-9, abs_tol=1e-12)
    assert isclose(found.high, high, rel_tol=1e-9, abs_tol=1e-12)


@given(counts)
def test_ends_lie_in_order_in_0_to_1_around_the_proportion(numbers):
    n_correct, count = numbers
    found = wilson(n_correct, count)
    assert 0.0 <= found.low <= n_correct / count <= found.high <= 1.0
    assert found.low < found.high


@given(st.integers(1, 10**9), st.floats(0.001, 0.999))
def test_none_right_starts_at_exactly_0_and_all_right_ends_at_exactly_1(count, confidence):
    assert wilson(0, count, confidence).low == 0.0
    assert wilson(count, count, confidence).high == 1.0


@given(counts)
def test_right_and_wrong_are_mirror_images(numbers):
    n_correct, count = numbers
    found, mirrored = wilson(n_correct, count), wilson(count - n_correct, count)
    assert isclose(found.low, 1 - mirrored.high, abs_tol=1e-12)
    assert isclose(found.high, 1 - mirrored.low, abs_tol=1e-12)


@given(counts)
def test_an_end_is_where_the_score_test_just_fails_to_reject(numbers):
    """Wilson's definition: |p - end| = z·√(end·(1 - end)/n)."""
    n_correct, count = numbers
    z = NormalDist().inv_cdf(0.975)
    found = wilson(n_correct, count)
    for end in (found.low, found.high):
        distance = abs(n_correct / count - end)
        assert isclose(distance, z * sqrt(end * (1 - end) / count), rel_tol=1e-6, abs_tol=1e-9)


@given(counts)
def test_more_confidence_means_a_wider_interval(numbers):
    narrow, wide = wilson(*numbers, 0.8), wilson(*numbers, 0.99)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


def test_the_interval_is_the_record_of_the_score():
    assert isinstance(wilson(1, 2), Interval)


def test_stderr_is_the_binomial_one():
    assert stderr(50, 100) == 0.05
    assert isclose(stderr(430, 1000), sqrt(0.43 * 0.57 / 1000))


def test_stderr_is_0_when_none_or_all_are_right():
    assert stderr(0, 10) == 0.0
    assert stderr(10, 10) == 0.0


@pytest.mark.parametrize(("n_correct", "count"), [(0, 0), (0, -1), (-1, 5), (6, 5)])
@pytest.mark.parametrize("function", [wilson, stderr])
def test_impossible_counts_are_refused(function, n_correct, count):
    with pytest.raises(ValueError, match="must"):
        function(n_correct, count)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.5, float("nan")])
def test_impossible_confidences_are_refused(confidence):
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        wilson(1, 2, confidence)


def test_in_the_macro_average_each_subject_counts_alike():
    found = macro_average([(1, 2), (300, 300), (0, 5)])
    assert (found.subjects, found.accuracy) == (3, 0.5)
    # each subject's lines as ones and zeros: the variance of their mean is s²/n
    lines = [[1, 0], [1] * 300, [0] * 5]
    assert isclose(found.stderr, sqrt(sum(stdev(each) ** 2 / len(each) for each in lines)) / 3)


def test_a_subject_of_one_line_tells_of_no_spread():
    assert macro_average([(1, 1), (3, 5)]).stderr is None


def test_no_subjects_have_no_macro_average():
    assert macro_average([]) is None


def test_the_standard_error_of_the_macro_average_is_how_far_it_strays_in_repeated_runs():
    chooser = random.Random(3)
    sizes = {2: 0.4, 3: 0.7, 40: 0.5, 100: 0.9}
    found = [
        macro_average([(sum(chooser.random() < p for _ in range(size)), size) for size, p in sizes.items()])
        for _ in range(4000)
    ]
    told = sqrt(fmean(each.stderr**2 for each in found))
    assert isclose(told, stdev(each.accuracy for each in found), rel_tol=0.04)
