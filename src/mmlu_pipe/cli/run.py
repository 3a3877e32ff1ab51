"""`mmlu-pipe run`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.cli.options import FILE, run_options
from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.plugins import hookimpl

if TYPE_CHECKING:
    from mmlu_pipe.reporting.progress import Figures

__all__ = ["run"]


@click.command()
@run_options
@click.option("--prices", type=FILE, help="JSON file of prices that you wrote, to show what is spent.")
@click.option("--wait/--no-wait", default=None, help="Wait for a job.  [default: in a terminal]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def run(config: RunConfig, as_json: bool, prices: Path | None, wait: bool | None) -> int:
    """Evaluate a dataset with a guidance program.

    Without options the bundled sample is evaluated on the bundled recordings, with no network and no account.
    """
    from rich.console import Console

    from mmlu_pipe.api import start
    from mmlu_pipe.cli.result import tell_result
    from mmlu_pipe.plugins import manager
    from mmlu_pipe.reporting.progress import Progress

    manager().register(Progress(Console(stderr=True), _figures(config, prices)), "progress")
    lost: MmluPipeError | None = None
    with contextlib.redirect_stdout(sys.stderr):  # a program may print; stdout is for the result
        found = start(config)
        if found.status == "running" and (sys.stderr.isatty() if wait is None else wait):
            try:
                found.wait()
            except MmluPipeError as error:  # the run's, or what kept us from seeing its end
                lost = error
    title = f"{Path(config.dataset).stem} with {Path(config.guidance_program).stem}"
    return tell_result(found, title=title, as_json=as_json, lost=lost)


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("run", run)


def _figures(config: RunConfig, prices: Path | None) -> Figures:
    """What the progress shows; money, where the user names prices of the model."""
    from mmlu_pipe.reporting.progress import Figures

    if prices is None or config.other_config is None:
        return Figures()
    from mmlu_pipe.config import load_endpoint
    from mmlu_pipe.forecast.prices import load_prices
    from mmlu_pipe.forecast.samples import usage_of

    known = load_prices(prices)
    price = known.models[known.model_of([load_endpoint(config.other_config).model])]
    return Figures(cost=lambda usage: price.of(usage_of(usage)), currency=known.currency)
