"""What is told of the answers: rates, pairs, and why two of them differ (pure).

Probabilities of options are `shares` here: each divided by the sum over the options, which is what a constrained choice
goes by.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mmlu_pipe.endpoint.select import match_option
from mmlu_pipe.records import Interval
from mmlu_pipe.scoring.intervals import wilson
from mmlu_pipe.scoring.paired import Cells, bootstrap_interval, mcnemar_exact

UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Choice:
    """What became of one line.

    Attributes:
        chosen: index of the choice, None without one.
        right: whether it is the correct one.
        on_menu: whether the first answer was an option; without a constraint, what the model would have said first.
        replies: every reply, in order.
        options: probability of each option where the first answer was chosen; None where it is not told.
        cut: whether the first reply was cut at the longest length.
    """

    chosen: int | None
    right: bool
    on_menu: bool = True
    replies: tuple[str, ...] = ()
    options: tuple[float, ...] | None = None
    cut: bool = False


Choices = Mapping[int, Choice]
"""Line number → what became of it."""


@dataclass(frozen=True)
class Rates:
    """One engine or strategy by itself; `outside` is the mean probability of what is no option."""

    lines: int
    right: int
    accuracy: Interval
    off_menu: int
    without: int
    outside: float | None


def rates(choices: Choices) -> Rates:
    """Counts over all lines."""
    found = list(choices.values())
    right = sum(each.right for each in found)
    outside = [1 - min(1.0, sum(each.options)) for each in found if each.options is not None]
    return Rates(
        lines=len(found),
        right=right,
        accuracy=wilson(right, len(found)),
        off_menu=sum(not each.on_menu for each in found),
        without=sum(each.chosen is None for each in found),
        outside=sum(outside) / len(outside) if len(outside) == len(found) else None,
    )


@dataclass(frozen=True)
class Pair:
    """Two engines or strategies on the same lines; `agree` counts lines with the same choice."""

    agree: int
    cells: Cells
    ci95: Interval
    p_value: float


def paired(first: Choices, other: Choices) -> Pair:
    """The other beside the first, on the other's lines; a line without a choice agrees with none.

    Raises:
        ValueError: the first has not all of these lines.
    """
    if not other.keys() <= first.keys():
        raise ValueError("not the same lines")
    both = [(first[line], other[line]) for line in other]
    counts = Counter((a.right, b.right) for a, b in both)
    cells = Cells(counts[True, True], counts[True, False], counts[False, True], counts[False, False])
    return Pair(
        agree=sum(a.chosen == b.chosen is not None for a, b in both),
        cells=cells,
        ci95=bootstrap_interval(cells, seed=0),
        p_value=mcnemar_exact(cells.only_a, cells.only_b),
    )


def differing(first: Choices, other: Choices) -> list[int]:
    """The other's lines on which they do not have the same choice."""
    return [line for line in other if not (first[line].chosen == other[line].chosen is not None)]


def shares(options: Sequence[float]) -> tuple[float, ...]:
    """Probabilities divided by their sum."""
    total = sum(options)
    return tuple(each / total for each in options)


def best(options: Sequence[float]) -> int:
    """The most probable option."""
    return max(range(len(options)), key=options.__getitem__)


def margin(options: Sequence[float]) -> float:
    """By how much the most probable option leads the next, in shares."""
    first, second, *_ = sorted(shares(options), reverse=True)
    return first - second


@dataclass(frozen=True)
class Shift:
    """How far two tell the same probabilities differently, in shares.

    Attributes:
        mean: mean over lines and options of the absolute difference.
        most: the largest.
        lead: the largest change of the lead of one of the two best options over the other, where both have the same
            best one: what rounding does where it decides nothing.
    """

    mean: float
    most: float
    lead: float


def shift(first: Mapping[int, Sequence[float]], other: Mapping[int, Sequence[float]]) -> Shift:
    """Over the lines that both have."""
    sizes, leads = [], [0.0]
    for line in first.keys() & other.keys():
        a, b = shares(first[line]), shares(other[line])
        sizes += [abs(x - y) for x, y in zip(a, b, strict=True)]
        if best(a) == best(b):
            top, next_ = sorted(range(len(a)), key=a.__getitem__, reverse=True)[:2]
            leads.append(abs((a[top] - a[next_]) - (b[top] - b[next_])))
    return Shift(sum(sizes) / len(sizes), max(sizes), max(leads))


# Why a strategy chose another option than guidance's own engine. Each rule is computed from what was recorded.

ASKED_AGAIN = "the first reply is no option; the choice comes from a later one, which had read the first"
GAVE_UP = "no reply is an option: no choice, and none is guessed"
TIE = "near a tie: the lead over the other's choice is within what rounding shifts elsewhere"
OPENING = 'the `{"choice":"` before the answer: given it, guidance\'s own engine chooses the same'
OPENING_AND_TIE = 'the `{"choice":"` before the answer; given it, guidance\'s own engine is near a tie'


def why(strategy: str, native: Choice, other: Choice, in_json: Sequence[float], slack: Mapping[str, float]) -> str:
    """Why a line's choices differ.

    Args:
        strategy: of the other: json_schema, logprob or text.
        native: guidance's own choice.
        other: the strategy's.
        in_json: probabilities of the options in guidance's own engine, the opening of the JSON answer before them.
        slack: strategy → the largest shift of a lead, as `shift` found it.
    """
    assert native.chosen is not None
    assert native.options is not None
    if other.chosen is None:
        return GAVE_UP
    if strategy == "text" and not other.on_menu:
        return ASKED_AGAIN
    if strategy == "json_schema":
        if best(in_json) == other.chosen:
            return OPENING
        return OPENING_AND_TIE if lead(in_json, other.chosen) <= slack[strategy] else UNEXPLAINED
    return TIE if lead(native.options, other.chosen) <= slack["logprob"] else UNEXPLAINED


def lead(options: Sequence[float], over: int) -> float:
    """By how much the most probable option leads another, in shares."""
    found = shares(options)
    return max(found) - found[over]


# What a first reply is that is no option.

GOES_ON = "an option, and more (`2: …`); asked again, the model said that option"
GOES_ON_OTHERWISE = "an option, and more (`2: …`); asked again, the model said another, or none"
CUT = "a text without an end: cut at the longest length"
PROSE = "some other text"


def shape(choice: Choice, menu: Sequence[str]) -> str:
    """The kind of a first reply that is no option."""
    first = choice.replies[0].strip()
    begun = [index for index, option in enumerate(menu) if re.match(re.escape(option) + r"\b", first)]
    if begun:
        return GOES_ON if choice.chosen == begun[0] else GOES_ON_OTHERWISE
    return CUT if choice.cut else PROSE


# Why inspect-ai and the strategy text differ on the same messages.

OTHER_REPLY = "the first replies differ"
NOT_READ = "same reply, which is an option; inspect-ai reads no letter in it"
READ_OTHER = "same reply, which is an option; inspect-ai reads another letter in it"
LENIENT = "same reply, no option by our rule; inspect-ai takes a letter out of it, we asked again and got another"
LENIENT_GAVE_UP = "same reply, no option by our rule; inspect-ai takes a letter out of it, no later reply was an option"
STOPPED = "same reply, no option by our rule, no letter by inspect-ai's; it stopped, we asked again"
NEITHER = "same reply, of which neither takes a choice"


def why_inspect(ours: Choice, theirs: Choice, menu: Sequence[str]) -> str:
    """Why the choices differ on a line; or NEITHER, where none has one."""
    (reply,) = theirs.replies
    if ours.replies[0] != reply:
        return OTHER_REPLY
    option = match_option(reply, menu)
    if option is not None and ours.chosen == menu.index(option):
        return NOT_READ if theirs.chosen is None else READ_OTHER
    if option is None and len(ours.replies) > 1:
        if ours.chosen is None:
            return NEITHER if theirs.chosen is None else LENIENT_GAVE_UP
        return STOPPED if theirs.chosen is None else LENIENT
    return UNEXPLAINED


def by_kind(lines: Sequence[int], kind: Callable[[int], str]) -> dict[str, list[int]]:
    """Kind → the lines of it, the most frequent first."""
    found: dict[str, list[int]] = {}
    for line in lines:
        found.setdefault(kind(line), []).append(line)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))
