"""How sure an accuracy is: standard error and the Wilson score interval of a proportion.

Sources:
    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
    Statistical Association 22 (1927), 209-212: the interval.
    L. D. Brown, T. T. Cai, A. DasGupta, "Interval Estimation for a Binomial Proportion", Statistical Science 16
    (2001), 101-133: why this one and not the textbook's p ± z·stderr, whose coverage is erratic for small counts
    and for proportions near 0 or 1.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from mmlu_pipe.records import Interval

__all__ = ["stderr", "wilson"]


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


def _check(n_correct: int, count: int) -> None:
    if count <= 0:
        raise ValueError(f"count must be positive, not {count}")
    if not 0 <= n_correct <= count:
        raise ValueError(f"n_correct must lie in 0…{count}, not be {n_correct}")
