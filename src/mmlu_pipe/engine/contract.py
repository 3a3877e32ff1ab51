"""What a guidance program must keep to: new keys with JSON values, and no hiding of what ends a run; its own check."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import ProgramError
from mmlu_pipe.programs import ENTRY_POINT, Program, place_in
from mmlu_pipe.records import ERROR_KEY, JsonObject

__all__ = ["check_lines", "checked_outputs", "refuse_hidden_failures"]


def checked_outputs(outputs: Any, original: JsonObject, *, where: str, path: Path | None = None) -> JsonObject:
    """The result of a program as JSON of our own, so that the program may go on to change its dict.

    Args:
        outputs: what the program returned.
        original: the line as it was.
        where: how messages begin.
        path: the program's file.

    Raises:
        ProgramError: it is no dict of new keys with JSON values.
    """
    if not isinstance(outputs, dict) or not all(isinstance(key, str) for key in outputs):
        raise ProgramError(f"{where} must return a dict with text keys, not {_shape(outputs)}", path=path)
    taken = [key for key in outputs if key in original or key == ERROR_KEY]
    if taken:
        raise ProgramError(
            f"{where} returns the key {taken[0]!r}, which the line already has; choose another name", path=path
        )
    try:
        found: JsonObject = json.loads(json.dumps(outputs, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ProgramError(f"{where} returns what is not JSON ({error})", path=path) from error
    return found


def check_lines(program: Program, lines: Iterable[tuple[int, JsonObject]], dataset: str) -> None:
    """Let the program refuse lines, before anything is asked; one that refuses nothing costs nothing.

    Args:
        program: the program.
        lines: (line number, line) pairs.
        dataset: name of their file, for messages.

    Raises:
        ProgramError: naming the first line that it refuses, and how many there are.
    """
    if program.check is None:
        return
    refused, first = 0, None
    for number, line in lines:
        try:
            program.check(copy.deepcopy(line))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a program may raise anything
            refused += 1
            if first is None:
                kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
                first = f"{dataset}:{number}: {place_in(program.path, error)} refuses the line: {kind}{error}"
    if first is not None:
        more = f" (and {refused - 1} more lines)" if refused > 2 else " (and 1 more line)" if refused == 2 else ""
        raise ProgramError(first + more, path=program.path)


def refuse_hidden_failures(session: LineSession, program: Program) -> None:
    """A program must not go on where no line can: its answers would mean nothing.

    Raises:
        ProgramError: it caught an error that ends the run.
    """
    if session.stopped is not None:
        raise ProgramError(
            f"{program.path.name}: {ENTRY_POINT}, on line {session.line_number}, hides that a call failed for good "
            f"({session.stopped.kind}); catch errors by name, such as SelectFailed, not Exception",
            path=program.path,
        )


def _shape(outputs: Any) -> str:
    """What it is, without an address in memory: equal runs write equal errors."""
    if not isinstance(outputs, dict):
        return f"a value of type {type(outputs).__name__}"
    return f"a key of type {next(type(key).__name__ for key in outputs if not isinstance(key, str))}"
