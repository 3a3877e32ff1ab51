"""`mmlu-pipe verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.config import RunConfig
from mmlu_pipe.plugins import hookimpl

if TYPE_CHECKING:
    from mmlu_pipe.gate.result import Verification

__all__ = ["verify"]

_DEFAULTS = RunConfig()
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_NO_CALLS = "no model call in them"


@click.command()
@click.option("--dataset", "--dataset-name", required=True, metavar="FILE|sample|NAME", help="Dataset that will run.")
@click.option("--guidance-program", required=True, metavar="FILE|NAME", help="Guidance program that will run.")
@click.option("--cassette", required=True, type=_FOLDER, help="Folder of recordings; the record goes into it.")
@click.option("--examples", metavar="FILE|NAME", help="Dataset of examples, for a program that shows some.")
@click.option("--program-option", multiple=True, metavar="KEY=VALUE", help="Option of the guidance program.")
@click.option("--other-config", type=_FILE, help="The deployment that will be asked; it is only compared.")
@click.option("--gate-lines", default="2", show_default=True, metavar="N|all", help="Lines of each subject to replay.")
@click.option(
    "--select-strategy", default=_DEFAULTS.select_strategy, show_default=True, help="As the run will have it."
)
@click.option("--seed", type=int, help="As the run will have it.")
@click.option("--reasoning-effort", help="As the run will have it.")
@click.option("--correct-key", default=_DEFAULTS.correct_key, show_default=True, help="Key of the correct answer.")
@click.option("--data-dir", type=_FOLDER, default=_DEFAULTS.data_dir, show_default=True, help="Folder of datasets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def verify(as_json: bool, **values: Any) -> int:
    """Show on recordings, with no network, that a program will go through a dataset; write that down.

    Exits with 0 where it passed, 1 where it did not, 2 on bad usage or input.
    """
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.gate.verify import verify as verify_now

    found = verify_now(**values)
    if as_json:
        print_json(found.to_json())
    else:
        for name, text in _rows(found):
            click.echo(f"{name:<14}{text}".rstrip())
    return 0 if found.passed else 1


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("verify", verify)


def _rows(found: Verification) -> Iterator[tuple[str, str]]:
    yield "verification", "passed" if found.passed else "did not pass"
    yield "dataset", f"{found.dataset}, {found.lines} lines"
    yield "program", found.program
    unused = f", {found.unused} not used here" if found.unused else ""
    yield "recordings", f"{found.recordings} in {found.cassette}{unused}"
    yield "answers of", found.model_recorded or "nobody: nothing is recorded"
    yield "replayed", f"{len(found.covered)} lines: {found.calls_asked} calls, {found.calls_played} of them recorded"
    yield "rendered", f"{found.rendered} lines on a stub, which tells nothing of answers"
    yield "prompts", _prompts(found)
    if found.missing_lines:
        kinds = ", ".join(f"{count} × {kind}" for kind, count in found.misses_by_kind.items())
        yield "missing", f"{found.calls_missing} calls on {len(found.missing_lines)} lines differ in: {kinds}"
        for miss in found.first_misses:
            yield "", f"line {miss.line_number}: {miss.difference}"
    for problem in found.problems:
        yield "problem", f"{problem.kind}, on {problem.lines} lines; the first, line {problem.first_line}:"
        yield "", problem.told
    for warning in found.warnings:
        yield "warning", warning
    if found.command:
        yield "to record", found.command
    if found.record:
        yield "record", str(found.record)


def _prompts(found: Verification) -> str:
    size = found.prompts
    if size.longest_line is None:
        return _NO_CALLS
    tokens = "" if size.tokens is None else f", about {size.tokens} tokens"
    longest = f"{size.longest} characters" + ("" if size.longest_tokens is None else f", {size.longest_tokens} tokens")
    return f"{size.calls} calls{tokens}; the longest, line {size.longest_line}: {longest}"
