"""How sure an accuracy is: standard error and Wilson score interval of a proportion, and averages over subjects.

Sources:
    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
    Statistical Association 22 (1927), 209-212: the interval.
    L. D. Brown, T. T. Cai, A. DasGupta, "Interval Estimation for a Binomial Proportion", Statistical Science 16
    (2001), 101-133: why this one and not the textbook's p ± z·stderr, whose coverage is erratic for small counts
    and for proportions near 0 or 1.
    W. G. Cochran, "Sampling Techniques" (3rd ed., Wiley, 1977), section 5.5: the standard error of a mean over strata.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

from mmlu_pipe.records import Interval, Macro

__all__ = ["macro_average", "stderr", "wilson"]


def wilson(n_correct: int, count: int, confidence: float = 0.95) -> Interval:
    """The two-sided Wilson score interval of `n_correct` out of `count`, without continuity correction.

    With p = n_correct / count, n = count and z the (1 + confidence) / 2 quantile of the standard normal
    distribution, its ends are (p + z²/2n ± z·√(p(1 - p)/n + z²/4n²)) / (1 + z²/n) (Wilson 1927; Brown, Cai and
    DasGupta 2001). The low end of 0 and the high end of `count` out of `count` are exactly 0 and 1.

    Raises:
        ValueError: `count` is not positive, `n_correct` is not in 0…count, or `confidence` is not between 0 and 1.
    """
    _check(n_correct, count)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not be {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    proportion = n_correct / count
    shrink = 1 + z * z / count
    centre = (proportion + z * z / (2 * count)) / shrink
    half = z / shrink * sqrt(proportion * (1 - proportion) / count + z * z / (4 * count * count))
    low = 0.0 if n_correct == 0 else max(0.0, centre - half)
    high = 1.0 if n_correct == count else min(1.0, centre + half)
    return Interval(low, high)


def stderr(n_correct: int, count: int) -> float:
    """The standard error of the proportion `n_correct` out of `count`: √(p(1 - p)/n).

    This is the plug-in estimate that the textbook's interval multiplies by z (Brown, Cai and DasGupta 2001). Tools
    that take the sample standard deviation divide by n - 1 in place of n.

    Raises:
        ValueError: `count` is not positive, or `n_correct` is not in 0…count.
    """
    _check(n_correct, count)
    proportion = n_correct / count
    return sqrt(proportion * (1 - proportion) / count)


def macro_average(subjects: Sequence[tuple[int, int]]) -> Macro | None:
    """The mean of the subjects' accuracies, each of which counts alike however many lines it has.

    The subjects are taken for what they are, a fixed list (strata), not for a sample of subjects. The mean of k
    accuracies p from n lines each then has the standard error √(Σ p(1 - p)/(n - 1))/k (Cochran 1977, 5.13, with
    equal weights and without the correction for finite populations); with n in place of n - 1, as in `stderr`, that
    of many small subjects would be told too small.

    Args:
        subjects: (n_correct, count) of each; no count is 0.

    Returns:
        None without subjects; its `stderr` is None where a subject has a single line, which tells of no spread.
    """
    if not subjects:
        return None
    size = len(subjects)
    spread = None
    if all(count > 1 for _, count in subjects):
        spread = sqrt(sum(n * (count - n) / (count * count * (count - 1)) for n, count in subjects)) / size
    return Macro(size, sum(n / count for n, count in subjects) / size, spread)


def _check(n_correct: int, count: int) -> None:
    if count <= 0:
        raise ValueError(f"count must be positive, not {count}")
    if not 0 <= n_correct <= count:
        raise ValueError(f"n_correct must lie in 0…{count}, not be {n_correct}")
