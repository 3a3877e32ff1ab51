"""What flows between the floors: frozen, typed records."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mmlu_pipe.errors import ConfigError

__all__ = [
    "ERROR_KEY",
    "Calibration",
    "Call",
    "ChiSquared",
    "Endpoint",
    "Interval",
    "JsonObject",
    "LineAnswer",
    "LineError",
    "Macro",
    "PositionBias",
    "ReliabilityBin",
    "Score",
    "SubScore",
]

JsonObject = dict[str, Any]

ERROR_KEY = "_error"
"""The one key an error line has beyond its original ones."""


@dataclass(frozen=True)
class Endpoint:
    """A chat deployment as the four `aoai_*` keys name it.

    Attributes:
        endpoint: normalised base URL without a trailing slash, e.g. `https://my.openai.azure.com`.
        deployment: deployment name.
        model: declared model name; it decides capabilities and is part of a request's identity.
        api_version: dated API version, or `v1`.
    """

    endpoint: str
    deployment: str
    model: str
    api_version: str


@dataclass(frozen=True)
class Call:
    """One model call of one line, as `calls.jsonl` keeps it.

    Attributes:
        line_number: 1-based line of the dataset.
        index: 0-based order of the call within its line.
        request_hash: hex SHA-256 of what the request means (recording/identity.py).
        messages: the messages sent.
        text: the answer's text, None where there was none.
        finish_reason: as the endpoint gave it.
        distribution: option → probability for a `select` where the endpoint gives logprobs.
        usage: tokens as the endpoint counted them.
        strategy: the select strategy, None for a plain generation.
        served_model: the model that the endpoint says it served.
        system_fingerprint: the backend configuration that the endpoint says it used.
        latency_s: seconds from the first attempt to the last byte.
        attempts: HTTP requests made for this call.
        error: why the call gave no good answer, else None.
    """

    line_number: int
    index: int
    request_hash: str
    messages: Sequence[JsonObject]
    text: str | None
    finish_reason: str | None
    distribution: Mapping[str, float] | None
    usage: Mapping[str, Any] | None
    strategy: str | None
    served_model: str | None
    system_fingerprint: str | None
    latency_s: float
    attempts: int
    error: str | None = None

    def to_json(self) -> JsonObject:
        """The record as a line of `calls.jsonl`."""
        return dict(vars(self))  # asdict would copy every message


@dataclass(frozen=True)
class LineError:
    """Why a line has no answer."""

    line_number: int
    kind: str
    error_type: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """The value of the reserved key `_error`."""
        value: JsonObject = {
            "line_number": self.line_number,
            "kind": self.kind,
            "error_type": self.error_type,
            "message": self.message,
        }
        return value | dict(self.details)


@dataclass(frozen=True)
class LineAnswer:
    """What became of one line: `outputs` or `error`, exactly one of them, and the calls made for it."""

    line_number: int
    line: JsonObject
    outputs: JsonObject | None
    error: LineError | None
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends in [0, 1]."""

    low: float
    high: float


@dataclass(frozen=True)
class Macro:
    """The mean of the accuracies of some subjects, each of which counts alike; see scoring/intervals.py."""

    subjects: int
    accuracy: float
    stderr: float | None


@dataclass(frozen=True, kw_only=True)
class SubScore:
    """Accuracy of a part of the lines: a subject or a category.

    Attributes:
        count: answered + unanswered + failed lines.
        n_correct: lines whose response equals the correct answer.
        accuracy: n_correct / count, the micro average; None where count is 0.
        stderr: standard error of `accuracy`.
        ci95: 95 % Wilson score interval of `accuracy`.
        answered: lines with a response that is not null.
        unanswered: lines whose response is missing or null.
        failed: lines in the error dataset.
        invalid: answered lines whose response is no index of their choices (counted as wrong).
        accuracy_answered: n_correct / answered; None where nothing was answered.
        ci95_answered: 95 % Wilson score interval of `accuracy_answered`.
        macro: mean over the subjects of the part; None for a subject.
    """

    count: int
    n_correct: int
    accuracy: float | None
    stderr: float | None
    ci95: Interval | None
    answered: int
    unanswered: int
    failed: int
    invalid: int
    accuracy_answered: float | None
    ci95_answered: Interval | None
    macro: Macro | None = None


@dataclass(frozen=True)
class ChiSquared:
    """A chi-squared test: the statistic, its degrees of freedom, and the probability of one as large by chance."""

    statistic: float
    degrees: int
    p_value: float


@dataclass(frozen=True)
class PositionBias:
    """Which positions a model chooses, beside those that are correct; see scoring/positions.py.

    Attributes:
        lines: answered lines whose response and correct answer are indices of their choices.
        chosen: how often each position was chosen, from the first.
        correct: how often each was the correct one.
        goodness_of_fit: Pearson's test of `chosen` against `correct` as expected counts.
        marginal_homogeneity: the Stuart-Maxwell test, which pairs them line by line; None where all answers are right.
    """

    lines: int
    chosen: Sequence[int]
    correct: Sequence[int]
    goodness_of_fit: ChiSquared | None
    marginal_homogeneity: ChiSquared | None


@dataclass(frozen=True)
class ReliabilityBin:
    """The lines whose confidence lies in (low, high]: how many, how sure, how often right.

    Attributes:
        ci95: 95 % Wilson score interval of `accuracy`.
        confidence: mean confidence; None where the bin is empty.
    """

    low: float
    high: float
    count: int
    n_correct: int
    accuracy: float | None
    ci95: Interval | None
    confidence: float | None


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of the options can be trusted; see scoring/calibration.py.

    Attributes:
        lines: answered lines with a distribution over their choices.
        options: how the program spells a choice: `index` (from 0), `number` (from 1), `letter`, or `choice` (its text).
        expected_calibration_error: mean distance of confidence and accuracy over `bins`, from 0 to 1.
        brier: multi-class Brier score, from 0 (sure and right) to 2 (sure and wrong).
        mass_outside: mean probability of what is none of the options, or was not listed.
        most_mass_outside: the most of it on a line.
        not_most_probable: lines whose response is not the most probable option.
        bins: ten of equal width, by the confidence in the response.
    """

    lines: int
    options: str
    expected_calibration_error: float
    brier: float
    mass_outside: float
    most_mass_outside: float
    not_most_probable: int
    bins: Sequence[ReliabilityBin]


@dataclass(frozen=True, kw_only=True)
class Score(SubScore):
    """The result of component 2: the figures of all lines, and what is told of them alone.

    Attributes:
        failed_by_kind: kind → lines.
        response_key: key under which the responses were found.
        correct_key: key of the correct answers.
        by_subject: subject → part.
        by_category: MMLU category → part; subjects outside MMLU's 57 are in none.
        position_bias: None where no answer is an index.
        calibration: None where the calls hold no distribution over the choices.
    """

    failed_by_kind: Mapping[str, int]
    response_key: str
    correct_key: str
    by_subject: Mapping[str, SubScore]
    by_category: Mapping[str, SubScore]
    position_bias: PositionBias | None = None
    calibration: Calibration | None = None

    def to_json(self) -> JsonObject:
        """The content of `score.json`."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """For notebooks; names of subjects come from datasets and are escaped."""
        rows: dict[str, SubScore] = {"all lines": self, **self.by_category, **self.by_subject}
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{part.count}</td><td>{part.n_correct}</td>"
            f"<td>{'' if part.accuracy is None else f'{part.accuracy:.1%}'}</td></tr>"
            for name, part in rows.items()
        )
        return f"<table><tr><th></th><th>lines</th><th>correct</th><th>accuracy</th></tr>{cells}</table>"

    @classmethod
    def from_json(cls, value: JsonObject) -> Score:
        """Read the content of `score.json`.

        Raises:
            ConfigError: it is not what this version of mmlu-pipe writes.
        """
        try:
            found: Score = _read(cls, value)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"this is no score of mmlu-pipe, or one of an older version ({type(error).__name__}: {error}); the "
                "answers are kept, so make it anew: mmlu-pipe score RUN_DIR --output FILE"
            ) from error
        return found


_RECORDS: dict[str, Any] = {
    "ci95": Interval,
    "ci95_answered": Interval,
    "macro": Macro,
    "position_bias": PositionBias,
    "goodness_of_fit": ChiSquared,
    "marginal_homogeneity": ChiSquared,
    "calibration": Calibration,
}
"""Key of `score.json` → the record under it."""


def _read(record: Any, value: JsonObject) -> Any:
    """A record and those within it, from what `asdict` made of them; keys of later versions are left out."""

    def inner(key: str, value: Any) -> Any:
        if key in ("by_subject", "by_category"):
            return {name: _read(SubScore, part) for name, part in value.items()}
        if key == "bins":
            return tuple(_read(ReliabilityBin, each) for each in value)
        if key in _RECORDS and value is not None:
            return _read(_RECORDS[key], value)
        return tuple(value) if isinstance(value, list) else value

    return record(**{field.name: inner(field.name, value[field.name]) for field in fields(record)})
