"""Tables of a run as those of a data-frame library, each loaded when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.reporting.export.columns import Kind
from mmlu_pipe.reporting.export.rows import Table

__all__ = ["FRAMES", "frame"]


def frame(table: Table, kind: str) -> Any:
    """The table as a `pandas.DataFrame`, `polars.DataFrame` or `pyarrow.Table`.

    Raises:
        ConfigError: the library is unknown, or not installed.
    """
    if kind not in FRAMES:
        raise ConfigError(f"kind {kind!r}: there is none of this name; known are {', '.join(FRAMES)}", key="kind")
    package, make = FRAMES[kind]
    try:
        library = importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"tables of the kind {kind!r} need the package {package}, which cannot be loaded ({error}); install it "
            f"with: pip install {package}",
            key="kind",
        ) from error
    columns: list[list[Any]] = [[] for _ in table.kinds]
    for row in table.rows():
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return make(library, table.names, list(table.kinds.values()), columns)


def _pandas(library: Any, names: list[str], kinds: list[Kind], columns: list[list[Any]]) -> Any:
    types = {Kind.BOOLEAN: "boolean", Kind.INTEGER: "Int64", Kind.NUMBER: "Float64", Kind.TEXTS: "object"}
    series = [
        library.Series(column, dtype=types.get(kind, "string")) for kind, column in zip(kinds, columns, strict=True)
    ]
    found = library.concat(series, axis="columns") if series else library.DataFrame()
    return found.set_axis(names, axis="columns")


def _polars(library: Any, names: list[str], kinds: list[Kind], columns: list[list[Any]]) -> Any:
    types = {
        Kind.BOOLEAN: library.Boolean,
        Kind.INTEGER: library.Int64,
        Kind.NUMBER: library.Float64,
        Kind.TEXTS: library.List(library.String),
    }
    schema = {name: types.get(kind, library.String) for name, kind in zip(names, kinds, strict=True)}
    return library.DataFrame(dict(zip(names, columns, strict=True)), schema=schema)


def _arrow(library: Any, names: list[str], kinds: list[Kind], columns: list[list[Any]]) -> Any:
    types = {
        Kind.BOOLEAN: library.bool_(),
        Kind.INTEGER: library.int64(),
        Kind.NUMBER: library.float64(),
        Kind.TEXTS: library.list_(library.string()),
    }
    arrays = [
        library.array(column, type=types.get(kind, library.string()))
        for kind, column in zip(kinds, columns, strict=True)
    ]
    return library.table(arrays, names=names)


FRAMES: dict[str, tuple[str, Callable[[Any, list[str], list[Kind], list[list[Any]]], Any]]] = {
    "pandas": ("pandas", _pandas),
    "polars": ("polars", _polars),
    "arrow": ("pyarrow", _arrow),
}
"""Kind → the package that it needs, and what makes it."""
