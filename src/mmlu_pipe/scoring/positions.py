"""Whether a model prefers a position: letters chosen against letters correct, on the same lines.

Sources:
    K. Pearson, "On the criterion that a given system of deviations …", Philosophical Magazine 50 (1900), 157-175:
    the chi-squared test of goodness of fit.
    A. Stuart, "A test for homogeneity of the marginal distributions in a two-way classification", Biometrika 42
    (1955), 412-416; A. E. Maxwell, "Comparing the classification of subjects by two independent judges", British
    Journal of Psychiatry 116 (1970), 651-655: the test of equal margins for pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from mmlu_pipe.records import ChiSquared, PositionBias
from mmlu_pipe.scoring.tails import chi_squared_tail

__all__ = ["goodness_of_fit", "letter", "marginal_homogeneity", "position_bias"]


def letter(index: int) -> str:
    """The letter of a choice: A for 0; a number where the letters end."""
    return chr(ord("A") + index) if 0 <= index < 26 else str(index)


def position_bias(pairs: Mapping[tuple[int, int], int]) -> PositionBias | None:
    """The bias that these answers show.

    Args:
        pairs: (correct position, chosen position), both from 0 → lines.

    Returns:
        None where there is no line.
    """
    if not pairs:
        return None
    size = 1 + max(max(pair) for pair in pairs)
    table = [[pairs.get((row, column), 0) for column in range(size)] for row in range(size)]
    correct = tuple(sum(row) for row in table)
    chosen = tuple(sum(column) for column in zip(*table, strict=True))
    return PositionBias(
        lines=sum(correct),
        chosen=chosen,
        correct=correct,
        goodness_of_fit=goodness_of_fit(chosen, correct),
        marginal_homogeneity=marginal_homogeneity(table),
    )


def goodness_of_fit(observed: Sequence[int], expected: Sequence[int]) -> ChiSquared | None:
    """Pearson's test of observed counts against expected ones of the same sum: Σ (o - e)²/e, k - 1 degrees (1900).

    It takes the observed counts for a sample of their own, and the expected ones for known. Neither holds for
    positions chosen and correct on the same lines: of an accurate model it finds too little, since right answers agree
    by themselves, and of one that guesses too much. `marginal_homogeneity` is the test to go by.

    Returns:
        None where fewer than two counts are expected, or one is observed that is not expected at all.
    """
    cells = [(o, e) for o, e in zip(observed, expected, strict=True) if e]
    if len(cells) < 2 or sum(o for o, _ in cells) < sum(observed):
        return None
    return _tested(sum((o - e) ** 2 / e for o, e in cells), len(cells) - 1)


def marginal_homogeneity(table: Sequence[Sequence[int]]) -> ChiSquared | None:
    """The Stuart-Maxwell test of a square table of pairs: whether its rows and its columns have the same sums.

    d'V⁻¹d of the differences d = column sums - row sums, with V(i, i) = row i + column i - 2·n(i, i) and
    V(i, j) = -n(i, j) - n(j, i); a row of V is the negated sum of the others, and one of them is left out (Stuart
    1955; Maxwell 1970). The degrees of freedom are the rank of V: k - 1, less where positions were never mistaken for
    others. The arithmetic is exact until the last step.

    Returns:
        None where every pair is on the diagonal.
    """
    size = len(table)
    sums = [sum(row) for row in table]
    others = [sum(column) for column in zip(*table, strict=True)]
    rows = [
        [Fraction(sums[i] + others[i] - 2 * table[i][i] if i == j else -table[i][j] - table[j][i]) for j in range(size)]
        + [Fraction(others[i] - sums[i])]
        for i in range(size)
    ]
    statistic, rank = Fraction(0), 0
    for place in range(size):  # symmetric elimination: the quadratic form is the sum of right²/pivot
        pivot, right = rows[place][place], rows[place][size]
        if not pivot:  # then its whole row is 0: the matrix is positive semidefinite
            continue
        statistic += right * right / pivot
        rank += 1
        for row in rows[place + 1 :]:
            factor = row[place] / pivot
            for column in range(place, size + 1):
                row[column] -= factor * rows[place][column]
    return _tested(float(statistic), rank) if rank else None


def _tested(statistic: float, degrees: int) -> ChiSquared:
    return ChiSquared(statistic, degrees, chi_squared_tail(statistic, degrees))
