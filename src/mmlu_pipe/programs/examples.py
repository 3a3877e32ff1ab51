"""Lines of another dataset that a program may show to the model before it asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmlu_pipe.errors import DatasetError
from mmlu_pipe.jsonl import read_objects
from mmlu_pipe.records import ERROR_KEY, JsonObject

__all__ = ["ExampleSet", "Examples"]


class Examples(tuple[Mapping[str, Any], ...]):
    """The examples of one line, in the order of their file: read-only mappings, whose lists are tuples.

    Equal only to itself, so that a program can keep what it made of them, such as an index, by the object: all lines
    that are not among the examples get the same one.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class ExampleSet:
    """The examples of a run, read once and shared by all threads.

    Args:
        path: a JSONL file.

    Raises:
        DatasetError: it cannot be read, has a bad line, or none at all.
    """

    def __init__(self, path: Path) -> None:
        self._places: dict[str, list[int]] = {}
        found: list[Mapping[str, Any]] = []
        for _, line in read_objects(path):
            line.pop(ERROR_KEY, None)
            self._places.setdefault(_question(line), []).append(len(found))
            found.append(_frozen(line))
        if not found:
            raise DatasetError(f"{path}: is empty; a dataset of examples has at least one line", path=path)
        self._all = Examples(found)

    def of(self, line: JsonObject) -> Examples:
        """All examples but the line itself: those with its question and choices, whatever their other keys."""
        own = self._places.get(_question(line))
        if own is None:
            return self._all
        return Examples(example for place, example in enumerate(self._all) if place not in own)


def _question(line: JsonObject) -> str:
    """What tells a question from others: the number 1 and the text " 1 " read the same in a prompt."""
    asked = {name: line[name] for name in ("question", "choices") if name in line}
    for name, value in asked.items():
        asked[name] = [str(each).strip() for each in value] if isinstance(value, list) else str(value).strip()
    return json.dumps(asked or line, sort_keys=True)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen(each) for name, each in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
