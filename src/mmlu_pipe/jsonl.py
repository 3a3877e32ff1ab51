"""JSON Lines: UTF-8 with or without a byte-order mark in, UTF-8 with line feeds out, on every platform."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from mmlu_pipe.errors import ConfigError, DatasetError
from mmlu_pipe.records import JsonObject

__all__ = [
    "MAX_DEPTH",
    "MAX_LISTED",
    "Problems",
    "dump_line",
    "list_problems",
    "parse_line_numbers",
    "parse_object",
    "raw_lines",
    "read_objects",
]

MAX_LISTED = 50
"""Bad lines listed in one message; the rest are counted."""

MAX_DEPTH = 100
"""Levels of a line; deeper ones would meet Python's own limit in one place or another."""

_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_line_numbers(text: str) -> frozenset[int]:
    """The 1-based line numbers that a text such as `3,17,20-24` names.

    Raises:
        ConfigError: it is no such text.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)) or not 1 <= int(first) <= int(last or first):
            raise ConfigError(f"--lines {text!r}: {part.strip()!r} is no line; write it as 3,17,20-24", key="lines")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (1-based line number, bytes) of every line that is not blank.

    Raises:
        DatasetError: the file is missing, is a folder, or is UTF-16/32.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check the name", path=path) from error
    with handle:
        for number, raw in enumerate(handle, start=1):
            if number == 1:
                if raw.startswith(_WIDE_MARKS):
                    raise DatasetError(f"{path}: is UTF-16 or UTF-32; save it as UTF-8", path=path, line_number=1)
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if raw.strip():
                yield number, raw


def parse_object(raw: bytes | str) -> JsonObject:
    """Parse one line as a JSON object.

    Raises:
        ValueError: saying what is wrong with the line (encoding, syntax, NaN, not an object).
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError(f"is nested too deeply (more than {MAX_DEPTH} levels)") from error
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {_json_type(value)}, not an object")
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise ValueError(f"is nested too deeply (more than {MAX_DEPTH} levels)")
    return value


def read_objects(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """Yield (line number, object) of every line; stop at the first bad one.

    Raises:
        DatasetError: naming file and line number.
    """
    for number, raw in raw_lines(path):
        try:
            yield number, parse_object(raw)
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}", path=path, line_number=number) from error


class Problems:
    """Bad places of one source: all are counted, the first `MAX_LISTED` are kept in words."""

    def __init__(self) -> None:
        self._count = 0
        self._listed: list[str] = []
        self._first: int | None = None

    def add(self, where: str, problem: str, *, line_number: int | None = None) -> None:
        """Note what is wrong at one place; call it once a place."""
        if self._count == 0:
            self._first = line_number
        if self._count < MAX_LISTED:
            self._listed.append(f"  {where}: {problem}")
        self._count += 1

    def raise_if_any(self, source: str, *, noun: str = "line", path: Path | None = None) -> None:
        """Raise one error for all of them.

        Raises:
            DatasetError: there was a problem.
        """
        if not self._count:
            return
        more = [f"  … and {self._count - MAX_LISTED} more"] if self._count > MAX_LISTED else []
        nouns = noun if self._count == 1 else f"{noun}s"
        raise DatasetError(
            "\n".join([f"{source}: {self._count} bad {nouns}; mend or remove:", *self._listed, *more]),
            path=path,
            line_number=self._first,
        )


def list_problems(path: Path, problems: Iterable[tuple[int, str]]) -> None:
    """Raise one error that lists every bad line, if there is one; each line number comes once.

    Raises:
        DatasetError: with a line per problem, the first `MAX_LISTED` of them.
    """
    found = Problems()
    for number, problem in problems:
        found.add(f"line {number}", problem, line_number=number)
    found.raise_if_any(str(path), path=path)


def dump_line(value: Any) -> bytes:
    """One line with its line feed: keys in their order, non-ASCII kept, lone surrogates escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"holds {text}, which is too large a number")
    return value


# One decoder for all lines: json.loads with arguments builds one for each.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    members = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(member, levels - 1) for member in members)


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "number"
