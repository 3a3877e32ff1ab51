"""`mmlu-pipe plan`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.cli.options import FILE, FOLDER, run_options
from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.plugins import hookimpl

if TYPE_CHECKING:
    from mmlu_pipe.api import Plan

__all__ = ["plan"]


@click.command()
@run_options
@click.option("--prices", type=FILE, help="JSON file of prices that you wrote, for the estimate.")
@click.option("--check-workspace", is_flag=True, help="Ask the service what is there already.")
@click.option("--documents", type=FOLDER, help="New folder for the documents that would be sent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def plan(config: RunConfig, as_json: bool, documents: Path | None, check_workspace: bool, prices: Path | None) -> int:
    """Show what `run` with the same options would do, and what stands against it. Nothing is run, sent or asked."""
    from mmlu_pipe.api.running import plan_of
    from mmlu_pipe.cli.root import print_json

    if documents is not None and os.path.lexists(documents):
        raise ConfigError(f"{documents}: exists already; give --documents a new folder", key="documents")
    found = plan_of(config, check_workspace=check_workspace, prices=prices)
    if documents is not None:
        _keep(found.description.documents, documents)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
    return 2 if found.objections else 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("plan", plan)


def _keep(documents: Mapping[str, str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); give --documents another folder",
            key="documents",
        ) from error


def _print(found: Plan) -> None:
    from mmlu_pipe.cli.estimate import rows

    click.echo(f"{found.pipeline}: {found.lines:,} lines on the backend {found.backend}")
    for note in found.description.notes:
        click.echo(f"  {note}")
    if found.description.assets:
        click.echo("\nassets")
    for asset in found.description.assets:
        state = {None: "", True: "  there already", False: "  to be registered"}[asset.exists]
        click.echo(f"  {asset.kind:<12}{asset.name}:{asset.version}{state}")
        click.echo(f"  {'':<12}sha256 {asset.sha256}")
    for step, command in found.description.commands.items():
        click.echo(f"\n{step}\n  {command}")
    for name, text in found.description.documents.items():
        if name == "job.yml":
            click.echo(f"\n{name}")
            click.echo("".join(f"  {line}\n" for line in text.splitlines()), nl=False)
    if found.estimate is not None:
        click.echo("\nestimate")
        for name, text in rows(found.estimate):
            click.echo(f"  {name:<20}{text}")
    if found.objections:
        click.echo("\nnot to be submitted:")
        for text in found.objections:
            click.echo(f"  - {text}")
    else:
        click.echo("\nnothing stands against it")
