"""`mmlu-pipe export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.plugins import hookimpl

__all__ = ["export"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["inspect", "parquet", "csv"]), required=True, help="What to write."
)
@click.option("--output", type=click.Path(path_type=Path), help="The new file.  [default: one in RUN]")
def export(run: Path, form: str, output: Path | None) -> int:
    """Write RUN, the folder of a completed run, for other tools.

    As a log that inspect-ai reads and shows, or as a table with one row a line.
    """
    from mmlu_pipe.reporting.export import export_run

    click.echo(export_run(run, form, output))
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("export", export)
