"""The root command, and how every command ends: one message for an expected failure, and its exit code."""

from __future__ import annotations

import json
import logging
import signal
import sys
import traceback
from types import FrameType
from typing import Any, Never

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
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = root.main(arguments, prog_name="mmlu-pipe", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show(sys.stderr)
        code = error.exit_code
        _fail(wants_json, type(error).__name__, error.format_message())
    except MmluPipeError as error:
        sys.stderr.write(f"error: {error}\n")
        code = error.exit_code
        _fail(wants_json, type(error).__name__, str(error))
    except (KeyboardInterrupt, click.Abort) as stop:  # click turns the first into the second
        sys.stderr.write("stopped\n")
        number = int(getattr(stop.__cause__ or stop.__context__ or stop, "signal_number", signal.SIGINT))
        code = 128 + number
        _fail(wants_json, "RunCancelled", f"stopped by {signal.Signals(number).name}", status="cancelled")
    except Exception as bug:  # noqa: BLE001 - a bug keeps its traceback, and --json its one object
        traceback.print_exc()
        code = 1
        _fail(wants_json, type(bug).__name__, str(bug))
    sys.exit(code)


class _Terminated(KeyboardInterrupt):
    signal_number = signal.SIGTERM


def _terminate(_signal_number: int, _frame: FrameType | None) -> Never:
    """SIGTERM outside of the evaluation of lines, which handles it in its own way."""
    raise _Terminated


def _fail(wants_json: bool, kind: str, message: str, *, status: str = "failed") -> None:
    """Where nothing was started there is still one object."""
    if wants_json:
        nothing = dict.fromkeys(("run_dir", "lines", "answered", "failed", "score"))
        print_json(nothing | {"status": status, "error": {"type": kind, "message": message}})


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
