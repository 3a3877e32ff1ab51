"""`mmlu-pipe publish`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mmlu_pipe.plugins import hookimpl

__all__ = ["publish"]


@click.command()
@click.option("--registry", required=True, metavar="NAME", help="AzureML Registry to publish to.")
@click.option("--version", required=True, metavar="X.Y.Z", help="Semantic version of environment and components.")
@click.option(
    "--extra-package", multiple=True, metavar="PACKAGE", help="Further package for the environment; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def publish(registry: str, version: str, extra_package: tuple[str, ...], as_json: bool) -> int:
    """Put the environment and both components into an AzureML Registry, for every workspace that may read it."""
    from mmlu_pipe.backends.azureml.publish import publish as publish_now
    from mmlu_pipe.cli.root import print_json

    found = publish_now(registry, version, extra_packages=extra_package)
    if as_json:
        print_json(vars(found))
        return 0
    for reference in found.created:
        click.echo(f"published   {reference}")
    for reference in found.reused:
        click.echo(f"unchanged   {reference}")
    click.echo(f"to use      mmlu-pipe run --backend azureml --components {found.components}")
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("publish", publish)
