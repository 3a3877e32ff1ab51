"""How far the probabilities of the options can be trusted: calibration error, Brier score, reliability.

The distribution of a line is that of the last of its calls that succeeded and whose options are the line's choices,
the response among them: a call for something else, or an earlier try, does not count. Where such calls were asked each
for itself, as votes are, with the choices in other orders, no one of them tells of the response: the line has none.
Probabilities are divided by their sum over the options, as an engine does that can give no other answer; what the sum
lacks of 1 is told apart, as the mass outside of the options. An option that the endpoint did not list has probability
0. The confidence of a line is the probability of its response, also where another option is more probable (those lines
are counted).

Sources:
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017
    (arXiv:1706.04599), section 2: reliability bins and the expected calibration error.
    G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950), 1-3:
    the score, of all classes, from 0 to 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from mmlu_pipe.records import Calibration, JsonObject, ReliabilityBin
from mmlu_pipe.scoring.accuracy import Outcome, positions
from mmlu_pipe.scoring.intervals import wilson

__all__ = ["BINS", "SPELLINGS", "Calibrator", "distribution_of", "expected_calibration_error", "options_of"]

BINS = 10
"""Bins of equal width; bin m of them holds the confidences in (m/10, (m + 1)/10], and the first one 0 too."""

SPELLINGS: dict[str, Callable[[int, Sequence[Any]], str]] = {
    "index": lambda index, _: str(index),
    "number": lambda index, _: str(index + 1),
    "letter": lambda index, _: chr(ord("A") + index),
    "choice": lambda index, choices: str(choices[index]).strip(),
}
"""How a program may write the choice of an index: 2 as `2`, `3`, `C`, or as the text of the choice."""


@dataclass
class _Sums:
    """What the lines add up to where their options are read in one way."""

    lines: int = 0
    voted: int = 0
    agreeing: int = 0
    brier: float = 0.0
    outside: float = 0.0
    most_outside: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * BINS)
    n_correct: list[int] = field(default_factory=lambda: [0] * BINS)
    confidence: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def add(self, options: Mapping[str, float], said: str, correct: str) -> None:
        total = sum(options.values())
        confidence = options[said] / total
        squares = sum(value * value for value in options.values()) / total**2
        outside = max(0.0, 1 - total)
        place = max(0, min(BINS, ceil(confidence * BINS)) - 1)
        self.lines += 1
        self.agreeing += options[said] == max(options.values())
        self.brier += squares - 2 * options.get(correct, 0.0) / total + 1  # Σ (p - o)², o being 1 for the correct one
        self.outside += outside
        self.most_outside = max(self.most_outside, outside)
        self.counts[place] += 1
        self.n_correct[place] += said == correct
        self.confidence[place] += confidence


class Calibrator:
    """Takes answered lines with their calls, in any number, one by one.

    Nothing in a run says how a program spells its options, so the lines are read in each way that is known, and the
    one counts in which the response is the most probable option the most often.

    Args:
        response_key: key of the response.
        correct_key: key of the correct answer.
    """

    def __init__(self, *, response_key: str, correct_key: str) -> None:
        self._response_key = response_key
        self._correct_key = correct_key
        self._sums = {name: _Sums() for name in SPELLINGS}

    def add(self, line: JsonObject, calls: Iterable[JsonObject]) -> None:
        """Count an answered line; one without a distribution, or with an answer that is no choice, is left out."""
        calls = [call for call in calls if call.get("error") is None and call.get("distribution")]
        if not calls:
            return
        outcome, pair = positions(line, response_key=self._response_key, correct_key=self._correct_key)
        choices = line.get("choices")
        if pair is None or not isinstance(choices, list):
            return
        for name, spell in SPELLINGS.items():
            correct, said = (spell(index, choices) for index in pair)
            if (said == correct) != (outcome is Outcome.CORRECT):  # two choices of one text
                continue
            options, voted = distribution_of(calls, {spell(index, choices) for index in range(len(choices))}, said)
            self._sums[name].voted += voted
            if options is not None:
                self._sums[name].add(options, said, correct)

    def result(self) -> Calibration | None:
        """None where no line has a distribution, or the responses are not what the probable options say.

        The latter is the case where a program turns the order of the choices before it asks.
        """
        spelling, sums = max(self._sums.items(), key=lambda item: item[1].agreeing)
        if sums.agreeing * 2 <= sums.lines + sums.voted:
            return None
        bins = tuple(
            ReliabilityBin(
                low=place / BINS,
                high=(place + 1) / BINS,
                count=count,
                n_correct=n_correct,
                accuracy=n_correct / count if count else None,
                ci95=wilson(n_correct, count) if count else None,
                confidence=confidence / count if count else None,
            )
            for place, (count, n_correct, confidence) in enumerate(
                zip(sums.counts, sums.n_correct, sums.confidence, strict=True)
            )
        )
        return Calibration(
            lines=sums.lines,
            options=spelling,
            expected_calibration_error=expected_calibration_error(sums.n_correct, sums.confidence, sums.lines),
            brier=sums.brier / sums.lines,
            mass_outside=sums.outside / sums.lines,
            most_mass_outside=sums.most_outside,
            not_most_probable=sums.lines - sums.agreeing,
            bins=bins,
        )


def expected_calibration_error(n_correct: Sequence[int], confidence: Sequence[float], lines: int) -> float:
    """Σ count/lines·|accuracy - mean confidence| over the bins (Guo et al. 2017, equation 3).

    Args:
        n_correct: right lines of each bin.
        confidence: sum of the confidences of each bin.
        lines: lines of all bins together.
    """
    return sum(abs(right - sure) for right, sure in zip(n_correct, confidence, strict=True)) / lines


def distribution_of(calls: Iterable[JsonObject], spelt: Set[str], said: str) -> tuple[dict[str, float] | None, bool]:
    """The probabilities of the options of a line, and whether there are none because several calls voted.

    Args:
        calls: those of the line that succeeded, in their order.
        spelt: the choices, as the program spells them.
        said: the response, spelt so.
    """
    asked = [
        (call.get("messages") or [], options)
        for call in calls
        if (options := options_of(call)) and options.keys() <= spelt
    ]
    told = [(sent, options) for sent, options in asked if said in options]
    if not told:
        return None, False
    sent, options = told[-1]
    if any(earlier != sent[: len(earlier)] for earlier, _ in asked):
        return None, True
    return options, False


def options_of(call: JsonObject) -> dict[str, float] | None:
    """Option without blanks around it → probability; None where a call tells of none that is possible."""
    distribution = call.get("distribution")
    if not isinstance(distribution, dict):
        return None
    found = {option.strip(): value for option, value in distribution.items() if isinstance(value, int | float)}
    return found if found and min(found.values()) >= 0 and sum(found.values()) > 0 else None
