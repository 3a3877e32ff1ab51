"""`mmlu-pipe doctor`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mmlu_pipe.cli.options import FILE
from mmlu_pipe.config import AUTH_MODES, RunConfig
from mmlu_pipe.plugins import hookimpl

if TYPE_CHECKING:
    from mmlu_pipe.checkup.result import Check, Diagnosis

__all__ = ["doctor"]

_DEFAULTS = RunConfig()
_WIDTH = 80
_NAME = 20


@click.command()
@click.option("--workspace-config", type=FILE, help="AzureML config.json; without it the workspace is not checked.")
@click.option("--other-config", type=FILE, help="JSON file with the aoai_* keys; without it no deployment is checked.")
@click.option("--auth", type=click.Choice(AUTH_MODES), default=_DEFAULTS.auth, show_default=True, help="As in run.")
@click.option(
    "--identity",
    metavar="managed|user|CLIENT_ID",
    default=_DEFAULTS.identity,
    show_default=True,
    help="As whom a job asks the deployment.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def doctor(as_json: bool, **values: Any) -> int:
    """Check configuration, logins, roles and reachability, and say what to change.

    Asks the deployment at most three times, for a few tokens each. Exits with 0 where nothing failed, 1 where something
    did, 2 on bad usage.
    """
    from mmlu_pipe.checkup.examine import doctor as examine
    from mmlu_pipe.cli.root import print_json

    if as_json:
        found = examine(**values)
        print_json(found.to_json())
    else:
        found = examine(**values, told=_print)
        click.echo(_summary(found))
    return 0 if found.ok else 1


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("doctor", doctor)


def _print(check: Check) -> None:
    """One check, when it is done: state, name, what was found, and below it what to do."""
    state = "FAILED" if check.state == "failed" else check.state
    head, indent = f"{state:<9}{check.name:<{_NAME}}", " " * (9 + _NAME)
    click.echo(_wrapped(check.found, head, indent))
    if check.advice is not None:
        click.echo(_wrapped(check.advice, f"{indent}> ", f"{indent}  "))


def _wrapped(text: str, head: str, indent: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)


def _summary(found: Diagnosis) -> str:
    failed, made = (
        sum(check.state in states for check in found.checks) for states in (["failed"], ["ok", "warning", "failed"])
    )
    return f"\n{failed} of {made} checks failed" if failed else f"\nnothing failed in {made} checks"
