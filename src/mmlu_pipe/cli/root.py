"""The root command, and how every command ends: one message for an expected failure, and its exit code."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import click

from mmlu_pipe import __version__
from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.plugins import registry

__all__ = ["invoke", "print_json", "root"]


class _Commands(click.Group):
    """Commands come by hook, the package's own and those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(registry("commands"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        found: dict[str, click.Command] = registry("commands")
        return found.get(name)


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="mmlu-pipe")
def root() -> None:
    """Evaluate chat models on MMLU with guidance programs: locally, on recordings, and on Azure OpenAI."""


def print_json(value: dict[str, Any]) -> None:
    """The one object of `--json` on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def invoke(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code: 0 done, 1 failed run, 2 bad usage or input, 130/143 on signals."""
    _use_utf8()
    logging.getLogger("mmlu_pipe").setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("mmlu_pipe").addHandler(handler)
    arguments = [_hyphens(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    wants_json = "--json" in arguments
    code = 0
    try:
        code = root.main(arguments, prog_name="mmlu-pipe", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show(sys.stderr)
        code = error.exit_code
        _fail(wants_json, type(error).__name__, error.format_message())
    except MmluPipeError as error:
        sys.stderr.write(f"error: {error}\n" + "".join(f"  {note}\n" for note in getattr(error, "__notes__", ())))
        code = error.exit_code
        _fail(wants_json, type(error).__name__, str(error))
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("stopped\n")
        code = 130
        _fail(wants_json, "KeyboardInterrupt", "stopped by Ctrl-C")
    sys.exit(code)


def _fail(wants_json: bool, kind: str, message: str) -> None:
    """Where nothing was started there is still one object."""
    if wants_json:
        nothing = dict.fromkeys(("run_dir", "lines", "answered", "failed", "score"))
        print_json(nothing | {"status": "failed", "error": {"type": kind, "message": message}})


def _hyphens(argument: str) -> str:
    """The tutorial's `--dataset_name` is `--dataset-name`; values keep their underscores."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _use_utf8() -> None:
    """Names and texts may hold any letter, whatever the console's code page."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")
