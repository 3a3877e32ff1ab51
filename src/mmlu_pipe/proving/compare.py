"""The files of two runs byte by byte; of two that differ, the first place that does."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

__all__ = ["first_difference"]

_SHOWN = 60
_NOTHING = "nothing"


def first_difference(expected: Path, found: Path) -> str | None:
    """Where a file differs from another: line, key and both values; None where all bytes are equal.

    Args:
        expected: what it should be.
        found: what it is.
    """
    for path in (expected, found):
        if not path.is_file():
            return f"there is no {path.name} in {path.parent.name}/"
    ours, theirs = expected.read_bytes(), found.read_bytes()
    if ours == theirs:
        return None
    if expected.suffix == ".jsonl":
        pairs = zip_longest(ours.splitlines(keepends=True), theirs.splitlines(keepends=True))
        number, (line, other) = next((at, pair) for at, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
        return f"{found.name} line {number}: {_lines(line, other)}"
    return f"{found.name}: {_lines(ours, theirs)}"


def _lines(ours: bytes | None, theirs: bytes | None) -> str:
    if ours is None or theirs is None:
        return f"{_cut(_text(ours))} became {_cut(_text(theirs))}"
    try:
        told = _values(json.loads(ours), json.loads(theirs), "")
    except (ValueError, RecursionError):
        told = None
    return told or f"{_cut(_text(ours))} became {_cut(_text(theirs))}"


def _values(ours: Any, theirs: Any, key: str) -> str | None:
    """The first key at which two JSON values differ, in the order of the first."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in ours | theirs:
            inner = f"{key}.{name}" if key else name
            if name not in ours or name not in theirs:
                return f"{inner}: {_shown(ours, name)} became {_shown(theirs, name)}"
            if told := _values(ours[name], theirs[name], inner):
                return told
        return None
    return None if ours == theirs else f"{key or 'value'}: {_cut(json.dumps(ours))} became {_cut(json.dumps(theirs))}"


def _shown(value: dict[str, Any], name: str) -> str:
    return _cut(json.dumps(value[name])) if name in value else _NOTHING


def _text(line: bytes | None) -> str:
    return _NOTHING if line is None else line.decode("utf-8", "backslashreplace").strip()


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
