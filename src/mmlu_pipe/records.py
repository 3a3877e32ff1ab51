"""What flows between the floors: frozen, typed records."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "ERROR_KEY",
    "Call",
    "Endpoint",
    "Interval",
    "JsonObject",
    "LineAnswer",
    "LineError",
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
class SubScore:
    """Accuracy of a part of the lines: a subject or a category."""

    count: int
    n_correct: int
    accuracy: float | None
    stderr: float | None
    ci95: Interval | None

    @classmethod
    def from_json(cls, value: JsonObject) -> SubScore:
        """Read what `to_json` of a score wrote."""
        return cls(**value | {"ci95": _interval(value["ci95"])})


@dataclass(frozen=True)
class Score:
    """The result of component 2.

    Attributes:
        count: answered + unanswered + failed lines.
        n_correct: lines whose response equals the correct answer.
        accuracy: n_correct / count; None where count is 0.
        accuracy_answered: n_correct / answered; None where nothing was answered.
        stderr: standard error of `accuracy`.
        ci95: 95 % Wilson score interval of `accuracy`.
        answered: lines with a response that is not null.
        unanswered: lines whose response is missing or null.
        failed: lines in the error dataset.
        failed_by_kind: kind → lines.
        invalid: answered lines whose response is no index of their choices (counted as wrong).
        response_key: key under which the responses were found.
        by_subject: subject → part.
        by_category: MMLU category → part; subjects outside MMLU's 57 are in none.
    """

    count: int
    n_correct: int
    accuracy: float | None
    accuracy_answered: float | None
    stderr: float | None
    ci95: Interval | None
    answered: int
    unanswered: int
    failed: int
    failed_by_kind: Mapping[str, int]
    invalid: int
    response_key: str
    correct_key: str
    by_subject: Mapping[str, SubScore]
    by_category: Mapping[str, SubScore]

    def to_json(self) -> JsonObject:
        """The content of `score.json`."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """For notebooks; names of subjects come from datasets and are escaped."""
        rows: dict[str, Score | SubScore] = {"all lines": self, **self.by_category, **self.by_subject}
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{part.count}</td><td>{part.n_correct}</td>"
            f"<td>{'' if part.accuracy is None else f'{part.accuracy:.1%}'}</td></tr>"
            for name, part in rows.items()
        )
        return f"<table><tr><th></th><th>lines</th><th>correct</th><th>accuracy</th></tr>{cells}</table>"

    @classmethod
    def from_json(cls, value: JsonObject) -> Score:
        """Read the content of `score.json`."""
        parts = {
            name: {key: SubScore.from_json(part) for key, part in value[name].items()}
            for name in ("by_subject", "by_category")
        }
        return cls(**value | parts | {"ci95": _interval(value["ci95"])})


def _interval(value: JsonObject | None) -> Interval | None:
    return None if value is None else Interval(**value)
