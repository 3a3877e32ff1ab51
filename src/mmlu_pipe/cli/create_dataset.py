"""`mmlu-pipe create-dataset`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.cli.options import FILE, FOLDER
from mmlu_pipe.config import VERSION_SCHEMES
from mmlu_pipe.plugins import hookimpl

__all__ = ["create_dataset"]


@click.command("create-dataset")
@click.option("--mmlu-dataset", required=True, metavar="SUBJECT|all", help="Subject of MMLU, or all of them.")
@click.option("--split", default="validation", show_default=True, help="test, validation or dev.")
@click.option("--source", metavar="HUB_ID|DIR|FILE", help="Hub dataset, folder of the original CSV files, or JSONL.")
@click.option("--revision", help="Revision of a hub dataset.  [default: the pinned one]")
@click.option(
    "--output-dir",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="The data folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file that differs.")
@click.option("--workspace-config", type=FILE, help="AzureML config.json: also register it there as a data asset.")
@click.option(
    "--version-scheme",
    type=click.Choice(VERSION_SCHEMES),
    default="content",
    show_default=True,
    help="Version of the data asset.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def create_dataset(as_json: bool, **values: Any) -> int:
    """Fetch a subject of MMLU and write it as JSONL, named mmlu_<SUBJECT>_<SPLIT>."""
    from mmlu_pipe.api import create_dataset as create
    from mmlu_pipe.cli.root import print_json

    found = create(**values)
    if as_json:
        print_json({name: str(value) if isinstance(value, Path) else value for name, value in vars(found).items()})
    else:
        click.echo(f"{found.path}: {found.lines} lines from {found.source}")
        if found.commit is not None:
            advice = "" if found.revision else f"; not pinned, to repeat this: --revision {found.commit}"
            click.echo(f"commit {found.commit}{advice}")
        if found.asset is not None:
            click.echo(f"data asset {found.asset.removeprefix('azureml:')}")
        click.echo(f"next: mmlu-pipe run --dataset {found.name} --other-config other_configs.json")
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("create-dataset", create_dataset)
