"""`mmlu-pipe rehearse`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.cli.options import FOLDER, run_options
from mmlu_pipe.config import RunConfig
from mmlu_pipe.plugins import hookimpl

if TYPE_CHECKING:
    from rich.table import Table

    from mmlu_pipe.proving.result import Rehearsal

__all__ = ["rehearse"]

_MARKS = {True: "[green]ok[/]", False: "[bold red]FAILED[/]", None: "[yellow]not seen[/]"}
_CREDENTIAL_KINDS = ("Sas", "AccountKey", "None")  # as rehearsal/workspace.py has them; a test holds them together


@click.command()
@run_options
@click.option(
    "--credential-kind",
    type=click.Choice(_CREDENTIAL_KINDS),
    default=_CREDENTIAL_KINDS[0],
    show_default=True,
    help="How the workspace's datastores let clients in; None is by Entra token.",
)
@click.option("--keep", type=FOLDER, help="New folder for all of it: runs, logs, and the bodies that were sent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def rehearse(config: RunConfig, as_json: bool, keep: Path | None, credential_kind: Any) -> int:
    """Rehearse a submission to AzureML on this machine: the real SDK, real blobs, fresh processes, recorded answers.

    Exits with 0 where everything was proven, 1 where something was not, 2 on bad usage or input.
    """
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.proving import rehearse as rehearse_now

    found = rehearse_now(config, credential_kind=credential_kind, keep=keep)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    return 0 if found.passed else 1


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("rehearse", rehearse)


def _show(found: Rehearsal) -> None:
    from rich.console import Console
    from rich.text import Text

    from mmlu_pipe.proving.result import ONLY_THE_SERVICE

    console = Console(width=80, highlight=False)
    outcome = "everything held" if found.passed else "not everything held"
    console.print(Text(f"{found.experiment} rehearsed in {found.seconds:.1f} s: {outcome}"))
    proven = _table()
    for proof in found.proofs:
        proven.add_row(_MARKS[proof.holds], proof.name, Text(proof.told))
    for stage in found.stages:
        if stage.error:
            proven.add_row(_MARKS[False], stage.name, Text(stage.error))
    console.print(proven)
    console.print(Text("\nOnly the service can prove"))
    rest = _table()
    for name, what in ONLY_THE_SERVICE.items():
        rest.add_row("", name, Text(what))
    console.print(rest)
    puts = [f"{count} {kind.removeprefix('PUT ')}" for kind, count in found.requests.items() if kind.startswith("PUT ")]
    console.print(Text(f"\nput into the workspace: {', '.join(puts) or 'nothing'}"))
    if found.kept:
        console.print(Text(f"kept in: {found.kept}"), soft_wrap=True)


def _table() -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(width=8)
    table.add_column(width=15)
    table.add_column()
    return table
