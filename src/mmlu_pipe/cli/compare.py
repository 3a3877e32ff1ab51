"""`mmlu-pipe compare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.plugins import hookimpl

__all__ = ["compare"]


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN_A RUN_B...")
@click.option(
    "--allow",
    multiple=True,
    metavar="NAME[,NAME]",
    help="In what the runs may differ: program, model, strategy, settings.  [default: nothing]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page for people: a new file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def compare(runs: tuple[Path, ...], allow: tuple[str, ...], seed: int, html: Path | None, as_json: bool) -> int:
    """Compare run folders line by line: each further run beside the first.

    The difference comes with a paired bootstrap interval and McNemar's exact test, as a whole and by subject.
    """
    from rich.console import Console

    from mmlu_pipe.api.scoring import compare as compare_runs
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.reporting.console import print_comparison
    from mmlu_pipe.scoring.positions import letter

    asked = [name.strip() for names in allow for name in names.split(",") if name.strip()]
    found = compare_runs(runs, allow=asked, seed=seed, html=html)
    if as_json:
        values = [comparison.to_json() for comparison in found]
        print_json(values[0] if len(values) == 1 else {"comparisons": values})
        return 0
    console = Console()
    for place, comparison in enumerate(found, start=1):
        if place > 1:
            console.print()
        print_comparison(comparison, console, letter(place))
    if html is not None:
        click.echo(f"{'page':<14}{html}")
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("compare", compare)
