"""Two runs on the same lines: how much they differ, how sure that is, and how many lines would show it.

Sources:
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157; its exact form is the sign test of the lines on which the runs differ.
    B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap" (Chapman & Hall, 1993), sections 8.3 and 13.3: the
    paired bootstrap and its percentile interval.
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979),
    65-70.
    R. J. Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43
    (1987), 207-211.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import ceil, exp, lgamma, log, sqrt
from statistics import NormalDist, quantiles

from mmlu_pipe.records import Interval
from mmlu_pipe.scoring.tails import binomial_cdf

__all__ = ["RESAMPLES", "Cells", "bootstrap_interval", "holm", "lines_for_power", "mcnemar_exact"]

RESAMPLES = 10_000


@dataclass(frozen=True)
class Cells:
    """How many lines both runs have right, only one of them, or neither."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def n(self) -> int:
        """All lines."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def delta(self) -> float:
        """Accuracy of b minus accuracy of a.

        Raises:
            ZeroDivisionError: there is no line.
        """
        return (self.only_b - self.only_a) / self.n


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """The two-sided p-value of McNemar's exact test: 2·P(X ≤ min) of a binomial X(only_a + only_b, 1/2), at most 1.

    Under no difference it is at most 0.05 in at most 5 % of the cases, whatever the number of lines (McNemar 1947).
    """
    return min(1.0, 2 * binomial_cdf(min(only_a, only_b), only_a + only_b, 0.5))


def bootstrap_interval(cells: Cells, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The 95 % percentile interval of the paired bootstrap of `cells.delta` (Efron and Tibshirani 1993).

    Drawing n lines with replacement, both answers of a line together, is drawing the four counts from a multinomial
    distribution: of the lines drawn, a binomial number is of those on which the runs differ, and of these a binomial
    number is right in b. Both numbers are drawn by inversion, which is exact, so no line has to be touched.

    Args:
        cells: the counts; at least one line.
        seed: of the draws; equal seeds give equal intervals.
        resamples: draws.
    """
    differing = cells.only_a + cells.only_b
    if not differing:
        return Interval(0.0, 0.0)
    n = cells.n
    chooser = random.Random(seed)  # noqa: S311 - statistics, not secrets
    # in their order, so that the table of one number at a time is enough
    drawn = sorted(_binomial(chooser.random(), n, differing / n) for _ in range(resamples))
    right_in_b = [_binomial(chooser.random(), number, cells.only_b / differing) for number in drawn]
    deltas = [(2 * right - number) / n for right, number in zip(right_in_b, drawn, strict=True)]
    ends = quantiles(deltas, n=40, method="inclusive")
    return Interval(ends[0], ends[-1])


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: of the k-th smallest of m, the largest of (m - j + 1)·p_j, j ≤ k (1979).

    Whichever true hypotheses are among them, the chance that one of their adjusted values is ≤ 0.05 is at most 5 %.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    scaled = [min(1.0, (len(order) - rank) * p_values[place]) for rank, place in enumerate(order)]
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return [adjusted[place] for place in range(len(p_values))]


def lines_for_power(cells: Cells, *, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """How many lines would show a difference like this one, with probability `power`, in a two-sided test.

    With s and d the shares of the lines on which the runs differ, their sum and their difference, it is
    ((z(1-alpha/2)·√s + z(power)·√(s - d²))/d)² (Connor 1987).

    Returns:
        None where there is no difference.
    """
    if cells.only_a == cells.only_b:
        return None
    share, delta = (cells.only_a + cells.only_b) / cells.n, cells.delta
    normal = NormalDist()
    root = normal.inv_cdf(1 - alpha / 2) * sqrt(share) + normal.inv_cdf(power) * sqrt(share - delta * delta)
    return ceil((root / delta) ** 2)


def _binomial(uniform: float, n: int, p: float) -> int:
    """The value of a binomial variable at the quantile `uniform`."""
    if n == 0 or p in (0.0, 1.0):
        return round(n * p)
    first, cumulated = _table(n, p)
    return first + min(bisect_left(cumulated, uniform * cumulated[-1]), len(cumulated) - 1)


@lru_cache(maxsize=1)
def _table(n: int, p: float) -> tuple[int, list[float]]:
    """The lowest value, and the cumulated probabilities from there; what is 9 deviations away never happens."""
    spread = 9 * sqrt(n * p * (1 - p)) + 20
    first, last = max(0, int(n * p - spread)), min(n, int(n * p + spread))
    ways = lgamma(n + 1) - lgamma(first + 1) - lgamma(n - first + 1)
    term = exp(ways + first * log(p) + (n - first) * log(1 - p))
    odds = p / (1 - p)
    cumulated = [term]
    for k in range(first, last):
        term *= (n - k) / (k + 1) * odds
        cumulated.append(cumulated[-1] + term)
    return first, cumulated
