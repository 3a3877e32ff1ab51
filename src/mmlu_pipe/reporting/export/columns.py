"""Which type a column of JSON values has, the same for every format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from mmlu_pipe.records import JsonObject

__all__ = ["Kind", "cell", "kinds_of", "plain"]

_INT64 = 1 << 63


class Kind(StrEnum):
    """The type of a column; every one may have nulls."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TEXTS = "list of texts"
    JSON = "JSON text"


def kinds_of(rows: Iterable[JsonObject], known: dict[str, Kind]) -> dict[str, Kind]:
    """Column → kind, in the order in which the columns first come; a column of nulls alone is of texts.

    Integers and numbers are numbers together; whatever else does not fit together, or is nested, is JSON text.

    Args:
        rows: the rows of a table.
        known: columns whose kind does not depend on their values.
    """
    found: dict[str, Kind | None] = dict(known)
    for row in rows:
        for name, value in row.items():
            before = found.setdefault(name, None)
            if value is not None and name not in known and before is not Kind.JSON:
                found[name] = _both(before, _kind(value))
    return {name: kind or Kind.TEXT for name, kind in found.items()}


def cell(value: Any, kind: Kind) -> Any:
    """The value in a column of this kind; null stays null."""
    if value is None:
        return None
    if kind is Kind.JSON:
        return plain(json.dumps(value, ensure_ascii=False))
    if kind is Kind.TEXT:
        return plain(value)
    if kind is Kind.TEXTS:
        return [plain(text) for text in value]
    return float(value) if kind is Kind.NUMBER else value


def plain(text: str) -> str:
    """The text with a question mark for every lone surrogate, which no other format has a place for."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _kind(value: Any) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return Kind.INTEGER
    if isinstance(value, float):
        return Kind.NUMBER
    if isinstance(value, str):
        return Kind.TEXT
    return Kind.TEXTS if isinstance(value, list) and all(isinstance(each, str) for each in value) else Kind.JSON


def _both(one: Kind | None, other: Kind) -> Kind:
    if one is None or one is other:
        return other
    return Kind.NUMBER if {one, other} == {Kind.INTEGER, Kind.NUMBER} else Kind.JSON
