"""`mmlu-pipe sweep`."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.cli.options import FILE, FOLDER
from mmlu_pipe.plugins import hookimpl

__all__ = ["sweep"]


@click.command()
@click.argument("config", type=FILE, metavar="RUN.YAML")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="KEY=VALUE,VALUE",
    help="Option of `run` that varies, with its values; may be repeated.",
)
@click.option("--output-dir", type=FOLDER, help="Folder of the sweep; an unfinished one goes on.  [default: new]")
@click.option("--wait/--no-wait", default=None, help="Wait for jobs.  [default: in a terminal]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def sweep(
    config: Path,
    overrides: tuple[str, ...],
    over: tuple[str, ...],
    output_dir: Path | None,
    wait: bool | None,
    as_json: bool,
) -> int:
    """Evaluate with every combination of some options' values, and compare.

    RUN.YAML and KEY=VALUE texts name the options that all runs have. A run that fails does not keep the others from
    running. Exits with 0 where all were completed or submitted, 1 where one failed, 2 on bad usage or input.
    """
    from rich.console import Console

    from mmlu_pipe.api.sweeping import sweep_of
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.config import RunConfig
    from mmlu_pipe.configfile import layered, read_file, read_overrides
    from mmlu_pipe.grid import axes_of
    from mmlu_pipe.plugins import manager
    from mmlu_pipe.reporting.progress import Progress
    from mmlu_pipe.reporting.sweep import sweep_table

    def show_progress() -> None:
        manager().unregister(name="progress")
        manager().register(Progress(Console(stderr=True)), "progress")

    base = RunConfig(**layered(read_file(config), read_overrides(overrides)))
    with contextlib.redirect_stdout(sys.stderr):  # a program may print; stdout is for the result
        found = sweep_of(
            base if output_dir is None else replace(base, output_dir=output_dir),
            axes_of(over),
            name=config.stem,
            wait=sys.stderr.isatty() if wait is None else wait,
            begin=show_progress,
        )
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(sweep_table(found))
    for cell in found.cells:
        if cell.not_compared:
            click.echo(f"{cell.name}: not compared: {cell.not_compared}", err=True)
    if found.failed:
        click.echo(f"{len(found.failed)} of {len(found.cells)} cells failed", err=True)
    for cell in found.failed:
        click.echo(f"  {cell.name}: {type(cell.error).__name__}: {cell.error}", err=True)
        if cell.job is not None and cell.status in ("failed", "cancelled"):
            folder = shlex.quote(str(cell.run_dir))
            click.echo(f"    its job {cell.job} has ended; to submit another one, remove {folder} first", err=True)
    if found.status != "completed":
        place = shlex.quote(str(found.run_dir))
        advice = " --wait" if found.status == "running" else ""
        click.echo(f"  to go on, repeat the command with --output-dir {place}{advice}", err=True)
    return 1 if found.failed else 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("sweep", sweep)
