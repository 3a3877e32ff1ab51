"""Tail probabilities of the tests: the chi-squared and the binomial distribution, by continued fractions.

Sources:
    NIST Digital Library of Mathematical Functions (https://dlmf.nist.gov): 8.7.1 and 8.9.2, the series and the
    continued fraction of the incomplete gamma function; 8.17.22, the continued fraction of the incomplete beta
    function; 8.17.5, the binomial distribution as one.
    W. J. Lentz, "Generating Bessel functions in Mie scattering calculations using continued fractions", Applied
    Optics 15 (1976), 668-671: how the fractions are evaluated; with the guard against zeros of I. J. Thompson and
    A. R. Barnett, "Coulomb and Bessel functions of complex arguments and order", Journal of Computational Physics 64
    (1986), 490-509.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from math import exp, lgamma, log, log1p

__all__ = ["binomial_cdf", "chi_squared_tail"]

_TINY = 1e-300
_CLOSE = 1e-15


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """The probability that a chi-squared variable is at least `statistic`: Q(degrees/2, statistic/2).

    Raises:
        ValueError: `degrees` is not positive, or `statistic` is negative.
    """
    if degrees < 1 or statistic < 0:
        raise ValueError(f"no chi-squared variable of {degrees} degrees of freedom is {statistic}")
    a, x = degrees / 2, statistic / 2
    if x == 0:
        return 1.0
    front = exp(a * log(x) - x - lgamma(a))
    if x < a + 1:  # the series of the other tail converges faster, and that tail is not small
        term = total = 1 / a
        for k in count(1):
            term *= x / (a + k)
            total += term
            if term < total * _CLOSE:
                return max(0.0, 1 - front * total)
    terms = ((-k * (k - a), x + 2 * k + 1 - a) for k in count(1))
    return front / _continued_fraction(x + 1 - a, terms)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """The probability of at most `k` successes in `n` trials of probability `p`: the incomplete beta I(1-p; n-k, k+1).

    Raises:
        ValueError: `n` is negative, or `p` is not between 0 and 1.
    """
    if n < 0 or not 0 < p < 1:
        raise ValueError(f"there is no binomial distribution of {n} trials of probability {p}")
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return _incomplete_beta(1 - p, p, n - k, k + 1)


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I(x; a, b); `rest` is 1 - x."""
    if x > (a + 1) / (a + b + 2):  # there the fraction converges slowly
        return 1 - _incomplete_beta(rest, x, b, a)

    def terms() -> Iterator[tuple[float, float]]:
        for m in count(1):
            yield -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1)), 1.0
            yield m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), 1.0

    log_x = log1p(-rest) if rest < 0.5 else log(x)
    log_rest = log1p(-x) if x < 0.5 else log(rest)
    front = exp(a * log_x + b * log_rest + lgamma(a + b) - lgamma(a) - lgamma(b)) / a
    return front / _continued_fraction(1.0, terms())


def _continued_fraction(start: float, terms: Iterator[tuple[float, float]]) -> float:
    """The value of start + a1/(b1 + a2/(b2 + …)), whose (a, b) are `terms`, by Lentz's method."""
    value = c = start or _TINY
    d = 0.0
    for numerator, denominator in terms:
        d = 1 / (denominator + numerator * d or _TINY)
        c = denominator + numerator / c or _TINY
        value *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return value
