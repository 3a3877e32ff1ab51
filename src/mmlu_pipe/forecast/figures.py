"""What an evaluation will take, from what was recorded: tokens, time and, where prices are given, money.

The recorded lines (or calls, where only a cassette is known) are a sample of n; the total over m new ones of the same
kind is m times the sample's mean, between m·(mean ± t·s·√(1/m + 1/n)): the prediction interval of the mean of m future
observations, with s the sample's standard deviation and t the 97.5 % quantile of Student's distribution with n - 1
degrees of freedom.

Sources:
    W. Q. Meeker, G. J. Hahn, L. A. Escobar, "Statistical Intervals" (2nd ed., Wiley, 2017), chapter 4: the interval.
    M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.5: the quantile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import pi, sqrt, tan
from statistics import NormalDist, fmean, stdev

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import JsonObject

__all__ = ["Cost", "Duration", "Estimate", "Expected", "Price", "Prices", "Sample", "Usage", "expected", "forecast"]

CONFIDENCE = 0.95
PER = 1_000_000


@dataclass(frozen=True)
class Usage:
    """What one line (or one call) took; tokens are those of calls that told them."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    known: bool = True


@dataclass(frozen=True)
class Sample:
    """What was recorded.

    Attributes:
        source: `run` or `cassette`.
        unit: what one of `rows` is: `line` or `call`.
        rows: the usage of each.
        units_per_line: calls of a line, where the unit is a call; else 1.
        models: the declared model, then those that the endpoint said it served.
        latency_s: mean seconds of a live call, None where the answers were replayed.
        notes: what should be known of the sample.
    """

    source: str
    unit: str
    rows: tuple[Usage, ...]
    units_per_line: float
    models: tuple[str, ...]
    latency_s: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
    """A total and its 95 % prediction interval; without ends where the sample is too small to tell."""

    value: float
    low: float | None
    high: float | None

    def times(self, factor: float) -> Expected:
        """The same in another unit."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Expected(self.value * factor, low, high)


@dataclass(frozen=True)
class Duration:
    """Wall time: that of the slowest limit.

    Attributes:
        seconds: how long it takes.
        limit: name of the limit that binds.
        by_limit: name of each given limit → its seconds.
    """

    seconds: Expected
    limit: str
    by_limit: Mapping[str, float]


@dataclass(frozen=True)
class Price:
    """Money for a million tokens of a model; cached prompt tokens cost what others do where nothing else is said."""

    prompt: float
    completion: float
    cached_prompt: float | None = None

    def of(self, usage: Usage) -> float:
        """The price of a usage; reasoning tokens are completion tokens."""
        cached = self.prompt if self.cached_prompt is None else self.cached_prompt
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion) / PER


@dataclass(frozen=True)
class Prices:
    """The content of a prices file.

    Attributes:
        currency: as the user names it.
        written: the date on which the user wrote the prices down, `YYYY-MM-DD`.
        models: model → price.
    """

    currency: str
    written: str
    models: Mapping[str, Price]

    def model_of(self, models: Sequence[str]) -> str:
        """The first of these models that has a price.

        Raises:
            ConfigError: none has.
        """
        found = next((name for name in models if name in self.models), None)
        if found is None:
            raise ConfigError(
                f"the prices file has no {models[0]!r}, only {', '.join(sorted(self.models))}; add its prices",
                key="prices",
            )
        return found


@dataclass(frozen=True)
class Cost:
    """Money, by prices that the user wrote down."""

    amount: Expected
    currency: str
    model: str
    prices_written: str


@dataclass(frozen=True)
class Estimate:
    """The result of `estimate`.

    Attributes:
        lines: lines to evaluate.
        calls: model calls.
        prompt_tokens: cached ones among them.
        completion_tokens: reasoning tokens among them.
        reasoning_tokens: part of the completion tokens.
        cached_tokens: part of the prompt tokens.
        duration: wall time, None where no limit is given.
        cost: None without prices.
        model: whose usage was recorded.
        source: `run` or `cassette`.
        sample: lines (of a run) or calls (of a cassette) that the numbers come from.
        sample_unit: which of the two.
        notes: what should be known.
    """

    lines: int
    calls: Expected
    prompt_tokens: Expected
    completion_tokens: Expected
    reasoning_tokens: Expected
    cached_tokens: Expected
    duration: Duration | None
    cost: Cost | None
    model: str
    source: str
    sample: int
    sample_unit: str
    notes: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """All of it as JSON values."""
        return asdict(self)


def forecast(
    sample: Sample,
    lines: int,
    *,
    rpm: float | None = None,
    tpm: float | None = None,
    workers: int | None = None,
    latency_s: float | None = None,
    prices: Prices | None = None,
) -> Estimate:
    """What `lines` lines of the same kind will take.

    Args:
        sample: what was recorded.
        lines: lines to evaluate.
        rpm: requests per minute that the deployment allows.
        tpm: tokens per minute that it allows.
        workers: lines in flight at once; needs a latency.
        latency_s: seconds of a call; None takes the sample's.
        prices: money per token; None gives no cost.

    Raises:
        ConfigError: the sample tells no tokens, the prices lack its model, or workers come without a latency.
    """
    known = [row for row in sample.rows if row.known]
    if not known:
        raise ConfigError("no recorded call tells its tokens, so nothing can be estimated from them")
    units = lines * sample.units_per_line

    def total(values: Sequence[float]) -> Expected:
        return expected(values, units)

    calls = total([row.calls for row in sample.rows])
    tokens = total([row.prompt_tokens + row.completion_tokens for row in known])
    latency_s = sample.latency_s if latency_s is None else latency_s
    if workers is not None and latency_s is None:
        raise ConfigError("--workers needs --latency: these answers do not tell how long a call takes", key="latency")
    limits: dict[str, Expected] = {}
    if rpm is not None:
        limits["requests per minute"] = calls.times(60 / rpm)
    if tpm is not None:
        limits["tokens per minute"] = tokens.times(60 / tpm)
    if workers is not None and latency_s is not None:
        limits["workers"] = calls.times(latency_s / workers)
    slowest = max(limits, key=lambda name: limits[name].value, default=None)
    seconds = {name: at.value for name, at in limits.items()}
    notes = list(sample.notes)
    if len(known) < len(sample.rows):
        notes.append(f"{len(sample.rows) - len(known)} of {len(sample.rows)} {sample.unit}s do not tell their tokens")
    if len(known) == 1:
        notes.append("a sample of one gives no interval")
    return Estimate(
        lines=lines,
        calls=calls,
        prompt_tokens=total([row.prompt_tokens for row in known]),
        completion_tokens=total([row.completion_tokens for row in known]),
        reasoning_tokens=total([row.reasoning_tokens for row in known]),
        cached_tokens=total([row.cached_tokens for row in known]),
        duration=None if slowest is None else Duration(limits[slowest], slowest, seconds),
        cost=None if prices is None else _cost(sample, known, prices, units),
        model=sample.models[0],
        source=sample.source,
        sample=len(sample.rows),
        sample_unit=sample.unit,
        notes=tuple(notes),
    )


def expected(values: Sequence[float], units: float) -> Expected:
    """The total over `units` new units of the kind that `values` are a sample of, with its prediction interval.

    Raises:
        ValueError: there is no value, or `units` is not positive.
    """
    if not values or units <= 0:
        raise ValueError("a forecast needs a sample, and something to forecast")
    mean = fmean(values)
    if len(values) == 1:
        return Expected(mean * units, None, None)
    half = _t_quantile(len(values) - 1) * stdev(values) * sqrt(1 / units + 1 / len(values))
    return Expected(mean * units, max(0.0, mean - half) * units, (mean + half) * units)


def _cost(sample: Sample, known: Sequence[Usage], prices: Prices, units: float) -> Cost:
    model = prices.model_of(sample.models)
    price = prices.models[model]
    return Cost(expected([price.of(row) for row in known], units), prices.currency, model, prices.written)


def _t_quantile(freedom: int) -> float:
    """The upper quantile of Student's distribution for a two-sided interval at `CONFIDENCE`."""
    p = (1 + CONFIDENCE) / 2
    if freedom == 1:
        return tan(pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / sqrt(2 * p * (1 - p))
    x = NormalDist().inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
