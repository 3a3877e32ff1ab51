"""`mmlu-pipe report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.plugins import hookimpl

__all__ = ["report"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--open", "open_it", is_flag=True, help="Show it in the browser.")
def report(run: Path, open_it: bool) -> int:
    """Write report.html of RUN, the folder of a completed run: one page that needs no network."""
    import webbrowser

    from mmlu_pipe.reporting.html import write_report

    path = write_report(run)
    click.echo(path)
    if open_it and not webbrowser.open(path.resolve().as_uri()):
        click.echo("there is no browser to show it in; open the file yourself", err=True)
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("report", report)
