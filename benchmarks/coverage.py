"""Whether the intervals hold what they say, and how often the test finds a difference that is none.

The Wilson interval and McNemar's test are computed, not simulated: every possible count is weighted by how probable
it is. The paired bootstrap is simulated with a fixed seed: many pairs of runs of known difference are drawn, and it is
counted how many of their intervals hold it.
"""

import random
from bisect import bisect
from math import exp, lgamma, log, sqrt

from mmlu_pipe.scoring.intervals import wilson
from mmlu_pipe.scoring.paired import Cells, bootstrap_interval, mcnemar_exact

SIZES = (100, 1_531, 14_042)
ACCURACIES = tuple(place / 100 for place in range(25, 96))
GRID = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
PAIRS = ((0.05, 0.05), (0.10, 0.10), (0.12, 0.08), (0.20, 0.10), (0.04, 0.01))
"""Shares of the lines that only one run has right, and only the other."""

SIMULATED = 1_000
RESAMPLES = 1_000


def probabilities(n: int, p: float) -> list[float]:
    """Of 0 to n successes in n trials."""
    log_p, log_rest, whole = log(p), log(1 - p), lgamma(n + 1)
    return [exp(whole - lgamma(k + 1) - lgamma(n - k + 1) + k * log_p + (n - k) * log_rest) for k in range(n + 1)]


def wilson_coverage(n: int, accuracy: float) -> float:
    """The probability that the interval of n lines holds the accuracy."""
    spread = 8 * sqrt(n * accuracy * (1 - accuracy)) + 5
    weights = probabilities(n, accuracy)
    near = range(max(0, int(n * accuracy - spread)), min(n, int(n * accuracy + spread)) + 1)
    return sum(weights[k] for k in near if (found := wilson(k, n)).low <= accuracy <= found.high)


def false_positives(n: int, share: float) -> float:
    """The probability of p ≤ 0.05 for two runs of one accuracy that differ on such a share of n lines."""
    total = 0.0
    for differing, weight in enumerate(probabilities(n, share)):
        if weight > 1e-12:
            least = bisect(range(differing // 2 + 1), 0.05, key=lambda k, m=differing: mcnemar_exact(k, m - k))
            total += weight * (mcnemar_tail(differing, least - 1) if least else 0.0)
    return total


def mcnemar_tail(differing: int, k: int) -> float:
    """The probability of a p-value as small as that of k against the rest: this is the p-value itself."""
    return mcnemar_exact(k, differing - k)


def bootstrap_coverage(n: int, pair: tuple[float, float], *, seed: int = 0, simulated: int = SIMULATED) -> float:
    """The share of simulated pairs of runs whose interval holds the difference that they were drawn with."""
    chooser = random.Random(seed)
    only_a, only_b = pair
    held = 0
    for place in range(simulated):
        drawn = chooser.choices((0, 1, 2), (only_a, only_b, 1 - only_a - only_b), k=n)
        cells = Cells(0, drawn.count(0), drawn.count(1), drawn.count(2))
        found = bootstrap_interval(cells, seed=place, resamples=RESAMPLES)
        held += found.low <= only_b - only_a <= found.high
    return held / simulated


def main() -> None:
    print(
        "coverage of the 95 % Wilson interval, computed; in brackets the least and the most of accuracies 25, 26 … 95 %"
    )
    print("  lines  " + "".join(f"{accuracy:>7.0%}" for accuracy in GRID))
    for n in SIZES:
        found = {accuracy: wilson_coverage(n, accuracy) for accuracy in ACCURACIES}
        outside = [f"{accuracy:.0%}" for accuracy, held in found.items() if not 0.93 <= held <= 0.97]
        told = f"({min(found.values()):.2%} to {max(found.values()):.2%})"
        print(f"  {n:>6} " + "".join(f"{found[accuracy]:>7.1%}" for accuracy in GRID), told)
        print(f"         outside of 93 to 97 % at: {', '.join(outside) or 'none'}")
    print("false positives of McNemar's exact test at 0.05, computed, by the share of lines on which the runs differ")
    shares = (0.02, 0.05, 0.1, 0.2, 0.4)
    print("  lines  " + "".join(f"{share:>7.0%}" for share in shares))
    for n in SIZES:
        print(f"  {n:>6} " + "".join(f"{false_positives(n, share):>7.2%}" for share in shares))
    print(
        f"coverage of the 95 % paired bootstrap: {SIMULATED} pairs of runs, {RESAMPLES} resamples each (± 1.4 points)"
    )
    print("  lines  " + "".join(f"{f'{a:.0%}/{b:.0%}':>9}" for a, b in PAIRS) + "  (only A/only B)")
    for n in SIZES:
        print(f"  {n:>6} " + "".join(f"{bootstrap_coverage(n, pair):>9.1%}" for pair in PAIRS), flush=True)
