"""Lines of a large file that score alike, counted by a columnar engine (DuckDB) instead of one by one.

DuckDB's JSON parser takes apart the lines and groups them by the values that the score depends on; each group is
then read by `jsonl.parse_object`, so that the meaning of a value is settled in one place. What that parser refuses, or
might read otherwise than the exact reader of single lines does, sends the whole file to that reader, with one
exception, which is the price of the speed. It is lenient where the score does not look: trailing commas everywhere,
and NaN, Infinity, numbers too large or nesting too deep under other keys and inside of the choices are no errors here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmlu_pipe.jsonl import parse_object
from mmlu_pipe.records import JsonObject

__all__ = ["MIN_BYTES", "count_alike"]

MIN_BYTES = 4_000_000
"""Smaller files are read line by line in the time that loading DuckDB takes."""

_MAX_GROUPS = 20_000
_PIECE_BYTES = 1 << 18
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # CPU time, not wall time, is what many lines cost
    "memory_limit": "96MB",
    "temp_directory": "",
    "preserve_insertion_order": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_FILE = "$1, format = 'newline_delimited', compression = 'none', hive_partitioning = false"
_WITH_KEY = f"SELECT 1 FROM read_json_objects({_FILE}) WHERE list_contains(json_keys(json), $2) LIMIT 1"  # noqa: S608


def count_alike(path: Path, *, keys: frozenset[str], absent: str | None = None) -> list[tuple[JsonObject, int]] | None:
    """The lines of a file as far as `keys` and the number of `choices` go, each with how often it comes.

    A line has those of `keys` whose values are not null, and its `choices` as a list of as many nulls. A line that is
    `null` is one without keys.

    Args:
        path: a JSONL file.
        keys: what the score depends on.
        absent: a key that no line may have, not even with null.

    Returns:
        None if the file has to be read line by line: a line is bad or has the key `absent`, a value is a list or an
        object, or too many lines differ.
    """
    name = str(path.absolute())
    if any(mark in name for mark in "*?[") or _has_odd_spaces(path):  # DuckDB would look for files that match
        return None
    names = sorted(keys)
    try:
        rows = _run(_counts(names), [name])
        if len(rows) > _MAX_GROUPS or (absent is not None and _run(_WITH_KEY, [name, absent])):
            return None
        return [(_line(names, values, choices), count) for *values, choices, count in rows]
    except ValueError:
        return None


def _has_odd_spaces(path: Path) -> bool:
    """Whether a file holds the two characters that DuckDB skips around a line though JSON knows no such space."""
    piece = bytearray(_PIECE_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):  # a short piece ends with bytes of the last one: they were neither
            if b"\v" in piece or b"\f" in piece:
                return True
    return False


def _run(query: str, parameters: list[str]) -> list[Any]:
    """Its rows; raises ValueError where DuckDB refuses the query or a line."""
    from concurrent.futures import ThreadPoolExecutor

    import duckdb

    try:
        with duckdb.connect(config=_SETTINGS) as database, ThreadPoolExecutor(1) as thread:
            found = thread.submit(lambda: database.execute(query, parameters).fetchall())
            try:  # in the main thread DuckDB would answer a signal itself, and what its handler raised be lost
                return found.result()
            except BaseException:
                database.interrupt()
                raise
    except duckdb.Error as error:
        raise ValueError(str(error)) from error


def _counts(names: list[str]) -> str:
    """Counts the lines by the values of these keys, as JSON texts, and by the number of their choices."""
    columns = ", ".join("'" + name.replace("'", "''") + "': 'JSON'" for name in names)
    values = ", ".join(f"v{place}" for place in range(len(names)))
    return (
        f"SELECT {values}, len(choices), count(*) "  # noqa: S608 - the names are quoted
        f"FROM read_json({_FILE}, records = true, columns = {{{columns}, choices: 'VARCHAR[]'}}) "
        f"AS lines({values}, choices) GROUP BY ALL LIMIT {_MAX_GROUPS + 1}"
    )


def _line(names: list[str], values: list[str | None], choices: int | None) -> JsonObject:
    """Raises ValueError as `parse_object`, and for lists and objects: of their trailing commas nothing is left."""
    found = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    if any(value.startswith(("[", "{")) for value in found.values()):
        raise ValueError("has a value that is a list or an object")
    line = parse_object("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in found.items()) + "}")
    return line if choices is None else line | {"choices": [None] * choices}
