"""`mmlu-pipe score`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.plugins import hookimpl

__all__ = ["score"]

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("answers", type=click.Path(path_type=Path))
@click.option("--errors", type=_FILE, help="Lines without an answer; they count as wrong.")
@click.option("--calls", type=_FILE, help="Model calls of the run; their distributions tell the calibration.")
@click.option("--correct-key", help="Key of the correct answer.  [default: the run's, or correct_answer]")
@click.option(
    "--response-key", help="Key of the response.  [default: the run's, or zero_shot_choice, or else the new one]"
)
@click.option("--output", type=_FILE, help="Write the score to this new file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def score(
    answers: Path,
    errors: Path | None,
    calls: Path | None,
    correct_key: str | None,
    response_key: str | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Score ANSWERS: a run folder, or a JSONL file of answered lines."""
    from rich.console import Console

    from mmlu_pipe.api import score as score_answers
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.reporting.console import print_score

    found = score_answers(
        answers,
        error_dataset=errors,
        calls_dataset=calls,
        correct_key=correct_key,
        response_key=response_key,
        score_dataset=output,
    )
    if as_json:
        print_json(found.to_json())
    else:
        print_score(found, Console(), title=str(answers))
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("score", score)
