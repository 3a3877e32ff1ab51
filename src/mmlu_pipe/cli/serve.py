"""`mmlu-pipe serve`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.plugins import hookimpl

__all__ = ["serve"]

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--model", metavar="NAME", help="Known weights to download, or the name of those in --model-file.")
@click.option("--model-file", type=_FILE, help="Serve this GGUF file; nothing is downloaded.")
@click.option("--port", type=click.IntRange(0, 65535), default=8421, show_default=True, help="0 takes a free one.")
@click.option("--deployment", default="mmlu-local", show_default=True, help="Name that clients ask for.")
@click.option(
    "--threads", type=click.IntRange(1), help="Processor threads.  [default: half the processors, at least two]"
)
@click.option(
    "--reuse-prompts",
    is_flag=True,
    help="Do not compute again what a prompt begins with like the one before; rounding may differ.",
)
@click.option("--write-config", type=_FILE, help="Write the other_configs.json to this new file.")
def serve(**options: Any) -> int:
    """Serve a small open model behind Azure OpenAI's chat API, on this machine only.

    It answers on 127.0.0.1 until Ctrl-C, to clients that have its key, and filters no content.
    """
    from mmlu_pipe.serve.process import serve_until_stopped

    serve_until_stopped(click.echo, **options)
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("serve", serve)
