"""Which responses are right, and how many: one pass over the lines, constant memory per subject."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mmlu_pipe.records import ERROR_KEY, JsonObject, Score, SubScore
from mmlu_pipe.scoring.categories import CATEGORIES, category
from mmlu_pipe.scoring.intervals import macro_average, stderr, wilson
from mmlu_pipe.scoring.positions import position_bias

__all__ = ["UNKNOWN_KIND", "Accumulator", "Outcome", "correct_index", "json_equal", "judge", "positions"]
__all__ += ["score_counted", "score_lines"]

UNKNOWN_KIND = "unknown"
"""Where failed lines are counted that do not say why they failed."""

_DIGITS = re.compile(r"\s*[0-9]+\s*")


class Outcome(StrEnum):
    """What one line came to; every line has exactly one."""

    CORRECT = "correct"
    WRONG = "wrong"
    INVALID = "invalid"
    UNANSWERED = "unanswered"
    FAILED = "failed"


def judge(line: JsonObject, *, response_key: str, correct_key: str) -> Outcome:
    """The outcome of a line that did not fail.

    A missing or null response is unanswered. Where the correct answer is an integer, the response must be one too
    (2, 2.0, "2" and " 2 " are; true is not) and, if the line has a list of `choices`, an index of it; what is not is
    invalid. A correct answer in digits that is an index of the `choices` counts as its integer. Where the correct
    answer is anything else, the response is right when it is equal as JSON.

    Raises:
        KeyError: the line has no `correct_key`.
    """
    return positions(line, response_key=response_key, correct_key=correct_key)[0]


def positions(line: JsonObject, *, response_key: str, correct_key: str) -> tuple[Outcome, tuple[int, int] | None]:
    """The outcome of a line (see `judge`), and (correct, chosen) where both are indices of its choices.

    Raises:
        KeyError: the line has no `correct_key`.
    """
    correct = line[correct_key]
    response = line.get(response_key)
    if response is None:
        return Outcome.UNANSWERED, None
    choices = line.get("choices")
    expected = _integer(correct)
    if expected is None and isinstance(choices, list):
        spelt = _integer_like(correct)
        expected = spelt if spelt is not None and spelt < len(choices) else None  # "1914" is a text, not an index
    if expected is None:
        return (Outcome.CORRECT if json_equal(response, correct) else Outcome.WRONG), None
    index = _integer_like(response)
    if index is None or (isinstance(choices, list) and not 0 <= index < len(choices)):
        return Outcome.INVALID, None
    pair = (expected, index) if isinstance(choices, list) and 0 <= expected < len(choices) else None
    return (Outcome.CORRECT if index == expected else Outcome.WRONG), pair


def correct_index(line: JsonObject, *, correct_key: str) -> int | None:
    """The index of the correct choice, also of a line that has no response; None where it is no index of them."""
    pair = positions(line, response_key=correct_key, correct_key=correct_key)[1] if correct_key in line else None
    return pair and pair[0]


def json_equal(left: Any, right: Any) -> bool:
    """Whether two parsed JSON values are the same value: 1 and 1.0 are, 1 and true are not, "a" and "A" are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(json_equal(value, right[key]) for key, value in left.items())
    return type(left) is type(right) and bool(left == right)


@dataclass
class _Tally:
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.outcomes.total()

    @property
    def n_correct(self) -> int:
        return self.outcomes[Outcome.CORRECT]

    @property
    def answered(self) -> int:
        return self.n_correct + self.outcomes[Outcome.WRONG] + self.outcomes[Outcome.INVALID]

    def part(self, subjects: Iterable[_Tally] = ()) -> SubScore:
        """The score of these lines, which are those of some subjects or of none."""
        count, n_correct, answered = self.count, self.n_correct, self.answered
        return SubScore(
            count=count,
            n_correct=n_correct,
            accuracy=n_correct / count if count else None,
            stderr=stderr(n_correct, count) if count else None,
            ci95=wilson(n_correct, count) if count else None,
            answered=answered,
            unanswered=self.outcomes[Outcome.UNANSWERED],
            failed=self.outcomes[Outcome.FAILED],
            invalid=self.outcomes[Outcome.INVALID],
            accuracy_answered=n_correct / answered if answered else None,
            ci95_answered=wilson(n_correct, answered) if answered else None,
            macro=macro_average([(tally.n_correct, tally.count) for tally in subjects]),
        )


class Accumulator:
    """Counts outcomes as they come; their order makes no difference to the score."""

    def __init__(self) -> None:
        self._whole = _Tally()
        self._kinds: Counter[str] = Counter()
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._subjects: dict[str, _Tally] = {}

    def add(self, subject: object, outcome: Outcome, times: int = 1, positions: tuple[int, int] | None = None) -> None:
        """Count a line that comes so many times; a `subject` that is no string counts only in the whole.

        Args:
            subject: what the line has under `subject`.
            outcome: what became of it.
            times: how often it comes.
            positions: (correct, chosen), where both are indices of the choices.
        """
        self._whole.outcomes[outcome] += times
        if positions is not None:
            self._pairs[positions] += times
        if isinstance(subject, str):
            tally = self._subjects.get(subject)
            if tally is None:
                tally = self._subjects[subject] = _Tally()
            tally.outcomes[outcome] += times

    def add_failed(self, line: JsonObject) -> None:
        """Count one line of the error dataset, under the kind that it names."""
        self.add(line.get("subject"), Outcome.FAILED)
        error = line.get(ERROR_KEY)
        kind = error.get("kind") if isinstance(error, dict) else None
        self._kinds[kind if isinstance(kind, str) else UNKNOWN_KIND] += 1

    def score(self, *, response_key: str, correct_key: str) -> Score:
        """The score of what was counted so far."""
        subjects = dict(sorted(self._subjects.items()))
        members = {name: [tally for each, tally in subjects.items() if category(each) == name] for name in CATEGORIES}
        return Score(
            **vars(self._whole.part(subjects.values())),
            failed_by_kind=dict(sorted(self._kinds.items())),
            response_key=response_key,
            correct_key=correct_key,
            by_subject={name: tally.part() for name, tally in subjects.items()},
            by_category={
                name: _Tally(sum((tally.outcomes for tally in tallies), Counter())).part(tallies)
                for name, tallies in members.items()
                if tallies
            },
            position_bias=position_bias(self._pairs),
        )


def score_lines(
    lines: Iterable[JsonObject], errors: Iterable[JsonObject], *, response_key: str, correct_key: str
) -> Score:
    """Score the lines that were run and the lines that failed; both iterables are read once.

    Raises:
        KeyError: one of `lines` has no `correct_key`.
    """
    return score_counted(((line, 1) for line in lines), errors, response_key=response_key, correct_key=correct_key)


def score_counted(
    lines: Iterable[tuple[JsonObject, int]], errors: Iterable[JsonObject], *, response_key: str, correct_key: str
) -> Score:
    """As `score_lines`, of lines that come with how often each is there."""
    accumulator = Accumulator()
    for line, times in lines:
        outcome, pair = positions(line, response_key=response_key, correct_key=correct_key)
        accumulator.add(line.get("subject"), outcome, times, pair)
    for line in errors:
        accumulator.add_failed(line)
    return accumulator.score(response_key=response_key, correct_key=correct_key)


def _integer(value: object) -> int | None:
    """The integer that a JSON number is, if it is one: 2 and 2.0 are the same JSON number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _integer_like(value: object) -> int | None:
    """As `_integer`, and a string of ASCII digits is the integer it spells."""
    if not isinstance(value, str):
        return _integer(value)
    if _DIGITS.fullmatch(value) is None:
        return None
    try:
        return int(value)
    except ValueError:  # more digits than Python converts: no index of anything
        return None
