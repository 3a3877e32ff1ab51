"""`mmlu-pipe estimate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.config import RunConfig
from mmlu_pipe.plugins import hookimpl

if TYPE_CHECKING:
    from mmlu_pipe.forecast.figures import Estimate, Expected

__all__ = ["estimate", "rows"]

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--cassette", type=_FOLDER, help="Folder of recordings to learn from.")
@click.option("--run", type=_FOLDER, help="Run folder to learn from; it knows the calls of each line.")
@click.option("--lines", type=int, help="Lines to evaluate.  [default: as many as were recorded]")
@click.option(
    "--dataset", "--dataset-name", metavar="FILE|sample|NAME", help="Dataset whose lines are to be evaluated."
)
@click.option("--rpm", type=float, help="Requests per minute that the deployment allows.")
@click.option("--tpm", type=float, help="Tokens per minute that the deployment allows.")
@click.option("--workers", type=int, help="Lines in flight at once.")
@click.option("--latency", type=float, metavar="SECONDS", help="Seconds of one call.  [default: those of a live run]")
@click.option("--prices", type=_FILE, help="JSON file of prices that you wrote; without it no money is estimated.")
@click.option("--data-dir", type=_FOLDER, default=RunConfig().data_dir, show_default=True, help="Folder of datasets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def estimate(as_json: bool, **values: Any) -> int:
    """Forecast tokens, time and money of an evaluation from recorded usage, with 95 % intervals."""
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.forecast.estimate import estimate as estimate_now

    found = estimate_now(**values)
    if as_json:
        print_json(found.to_json())
    else:
        for name, text in rows(found):
            click.echo(f"{name:<20}{text}")
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("estimate", estimate)


def rows(found: Estimate) -> Iterator[tuple[str, str]]:
    """Name and text of each line of a forecast."""
    yield "lines", f"{found.lines:,}"
    yield "learnt from", f"{found.sample:,} {found.sample_unit}s of a {found.source}, answered by {found.model}"
    yield "calls", _shown(found.calls)
    yield "prompt tokens", _shown(found.prompt_tokens) + _part(found.cached_tokens, "cached")
    yield "completion tokens", _shown(found.completion_tokens) + _part(found.reasoning_tokens, "reasoning")
    if found.duration is not None:
        seconds, limit = found.duration.seconds, found.duration.limit
        factor, unit = (1, "s") if seconds.value < 120 else (60, "min") if seconds.value < 7200 else (3600, "h")
        yield "time", f"{_shown(seconds.times(1 / factor), 1, f' {unit}')}, bound by {limit}"
    if found.cost is not None:
        cost = found.cost
        shown = _shown(cost.amount, 2, f" {cost.currency}")
        yield "cost", f"{shown}, by your prices of {cost.prices_written} for {cost.model}"
    for note in found.notes:
        yield "note", note


def _part(part: Expected, name: str) -> str:
    return f", of them {name} {_shown(part)}" if part.value else ""


def _shown(figure: Expected, digits: int = 0, unit: str = "") -> str:
    value = f"{figure.value:,.{digits}f}{unit}"
    if figure.low is None or figure.high is None:
        return value
    low, high = f"{figure.low:,.{digits}f}", f"{figure.high:,.{digits}f}"
    return value if low == high else f"{value} ({low} to {high})"
