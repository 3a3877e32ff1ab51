"""Estimate an evaluation from recordings: the one function that scripts call."""

from __future__ import annotations

import math
from pathlib import Path

from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import ConfigError, DatasetError
from mmlu_pipe.forecast.figures import Estimate, forecast
from mmlu_pipe.forecast.prices import load_prices
from mmlu_pipe.forecast.samples import sample_of_cassette, sample_of_run
from mmlu_pipe.jsonl import raw_lines

__all__ = ["estimate"]

_DEFAULTS = RunConfig()


def estimate(
    *,
    cassette: str | Path | None = None,
    run: str | Path | None = None,
    lines: int | None = None,
    dataset: str | Path | None = None,
    rpm: float | None = None,
    tpm: float | None = None,
    workers: int | None = None,
    latency: float | None = None,
    prices: str | Path | None = None,
    data_dir: str | Path = _DEFAULTS.data_dir,
) -> Estimate:
    """Forecast tokens, time and money of an evaluation from recorded usage.

    Args:
        cassette: folder of recordings to learn from; this or `run`.
        run: run folder to learn from; it knows which calls belong to one line, and how long they took.
        lines: lines to evaluate; None takes those of `dataset`, or as many as were recorded.
        dataset: the dataset to evaluate; only its lines are counted.
        rpm: requests per minute that the deployment allows.
        tpm: tokens per minute that it allows.
        workers: lines in flight at once; needs `latency`, unless a live run tells it. None leaves this limit out, or
            takes the default of `run` where `latency` is given.
        latency: seconds of one call.
        prices: prices file that the user wrote (docs/estimate.md); None estimates no money.
        data_dir: folder of datasets given by name.

    Raises:
        MmluPipeError: the input is refused (exit_code 2).
    """
    if (cassette is None) == (run is None):
        raise ConfigError("give one of --cassette (recordings) and --run (a run folder) to learn from", key="cassette")
    if lines is not None and dataset is not None:
        raise ConfigError("give only one of --lines and --dataset", key="lines")
    limits = {"lines": lines, "rpm": rpm, "tpm": tpm, "workers": workers, "latency": latency}
    for name, number in limits.items():
        if number is not None and not 0 < number < math.inf:
            raise ConfigError(f"--{name} must be more than 0, not {number}", key=name)
    known = None if prices is None else load_prices(Path(prices))
    counted = lines if dataset is None else _count(str(dataset), Path(data_dir))
    sample = sample_of_run(Path(run)) if run is not None else sample_of_cassette(Path(str(cassette)))
    return forecast(
        sample,
        counted or max(1, round(len(sample.rows) / sample.units_per_line)),
        rpm=rpm,
        tpm=tpm,
        workers=_DEFAULTS.workers if workers is None and latency is not None else workers,
        latency_s=latency,
        prices=known,
    )


def _count(dataset: str, data_dir: Path) -> int:
    from mmlu_pipe.dataset.locate import locate

    path = locate(dataset, data_dir)
    count = sum(1 for _ in raw_lines(path))
    if not count:
        raise DatasetError(f"{path}: is empty; a dataset has one question a line", path=path)
    return count
