"""The axes of a sweep, and a cell for every combination of their values."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePath
from typing import Any

from mmlu_pipe.config import RunConfig
from mmlu_pipe.configfile import ALSO_NAMES, field_of, is_option, layered, typed
from mmlu_pipe.errors import ConfigError

__all__ = ["Axis", "Cell", "axes_of", "cells_of"]

_FIXED = {
    "backend": "a sweep runs on one backend",
    "output_dir": "every cell has its own folder within that of the sweep",
    "record_mode": "recordings are made by all cells or by none",
    "resume_from": "cells go on where they were when the sweep is repeated",
    "retry_errors": "it is about what is done again, and not about answers",
}
"""Options that are no axis, and why."""

_SUFFIXES = (".jsonl", ".json", ".py", ".yaml", ".yml")
_LONGEST_NAME = 160


@dataclass(frozen=True)
class Axis:
    """An option that varies.

    Attributes:
        key: the field of RunConfig.
        texts: its values as they were given.
        values: the same, of the field's type.
    """

    key: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The values in a few words: of files and folders the name, without their place on this machine.

        Where two have one name, their places among the values tell them apart.
        """
        names = list(map(self._label, self.texts, self.values))
        return tuple(
            f"{name}#{number}" if names.count(name) > 1 else name for number, name in enumerate(names, start=1)
        )

    def _label(self, text: str, value: Any) -> str:
        if isinstance(value, PurePath) or self.key in ALSO_NAMES:
            name = PurePath(text).name or text
            return next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
        return text

    def __str__(self) -> str:
        """As it was asked for."""
        return f"{self.key}={','.join(self.labels)}"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        options: what is particular to it: option → value in a few words.
        config: its options.
    """

    name: str
    options: Mapping[str, str]
    config: RunConfig


def axes_of(over: Iterable[str] | Mapping[str, Sequence[Any]]) -> tuple[Axis, ...]:
    """The axes of a sweep.

    Args:
        over: `KEY=VALUE,VALUE` texts, where a value that has a comma stands in double quotes; or key → values.

    Raises:
        ConfigError: an option is unknown, cannot vary or has no values, or a value is of the wrong type or twice there.
    """
    given = over.items() if isinstance(over, Mapping) else map(_split, over)
    found: list[Axis] = []
    for name, values in given:
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise ConfigError(f"over {name}: must be a list of values, not {values!r}", key=name)
        axis = _axis(name, [_text(value) for value in values])
        if any(axis.key == other.key and not isinstance(axis.values[0], tuple) for other in found):
            raise ConfigError(f"--over {axis.key} is given twice; put all its values into one", key=axis.key)
        found.append(axis)
    if not found:
        raise ConfigError("--over is missing: name an option and its values, such as seed=1,2", key="over")
    return tuple(found)


def cells_of(base: RunConfig, axes: Sequence[Axis], place: Path) -> tuple[Cell, ...]:
    """Every combination, the last axis varying fastest.

    Args:
        base: the options of all cells.
        axes: what varies.
        place: the folder in which each has its own.

    Raises:
        ConfigError: two cells would be the same run.
    """
    base = replace(base, output_dir=place)
    cells = [_cell(base, axes, chosen) for chosen in product(*(range(len(axis.values)) for axis in axes))]
    names = Counter(cell.name.casefold() for cell in cells)  # some file systems do not tell case apart
    if twin := next((cell for cell, count in Counter(cell.config for cell in cells).items() if count > 1), None):
        same = [cell.name for cell in cells if cell.config == twin]
        raise ConfigError(f"--over: {same[0]} and {same[1]} are the same run; leave one of them out", key="over")
    _refuse_one_cassette_once(cells)
    return tuple(
        _placed(cell, number, alone=names[cell.name.casefold()] == 1) for number, cell in enumerate(cells, start=1)
    )


def _refuse_one_cassette_once(cells: Sequence[Cell]) -> None:
    recorded = Counter(cell.config.cassette for cell in cells if cell.config.record_mode == "once")
    if any(count > 1 for count in recorded.values()):
        raise ConfigError(
            "record_mode once: the first cell would fill the cassette, and the others could add nothing; use "
            "new_episodes",
            key="record_mode",
        )


def _split(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    if not equals:
        raise ConfigError(f"--over {text}: is not KEY=VALUE,VALUE, such as seed=1,2", key="over")
    try:
        (found,) = csv.reader([values], skipinitialspace=True, strict=True) if values else ([],)
    except (csv.Error, ValueError) as error:
        raise ConfigError(f"--over {text}: a quoted value is not closed ({error})", key="over") from error
    return name, found


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _axis(name: str, texts: Sequence[str]) -> Axis:
    where = f"--over {name}={','.join(texts)}"
    key = field_of(name, where)
    if key in _FIXED:
        raise ConfigError(f"{where}: {key} cannot vary: {_FIXED[key]}", key=key)
    if not all(texts) or not texts:
        raise ConfigError(f"{where}: has {'an empty value' if texts else 'no values'}; name at least one", key=key)
    values = tuple(typed(key, None if text == "null" else text, where) for text in texts)
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigError(f"{where}: {texts[place]} is given twice; keep one of them", key=key)
    return Axis(key, tuple(texts), values)


def _cell(base: RunConfig, axes: Sequence[Axis], chosen: Sequence[int]) -> Cell:
    layers = [{axis.key: axis.values[place]} for axis, place in zip(axes, chosen, strict=True)]
    options: dict[str, str] = {}
    for axis, place in zip(axes, chosen, strict=True):
        label = axis.labels[place]
        name, equals, value = label.partition("=")  # one of several texts may have a name of its own
        if not (equals and isinstance(axis.values[place], tuple)):
            name, value = axis.key, label
        elif name in options or is_option(name):
            name = f"{axis.key}.{name}"
        options[name] = value
    config = replace(base, **layered(vars(base), *layers))
    return Cell(",".join(f"{key}={_plain(label)}" for key, label in options.items()), options, config)


def _placed(cell: Cell, number: int, *, alone: bool) -> Cell:
    """The cell in its folder; its number is in the name that is another's too, or too long for a file system."""
    name = cell.name
    if not alone or len(name.encode()) > _LONGEST_NAME:
        name = f"{name.encode()[:_LONGEST_NAME].decode(errors='ignore')}@{number}"
    assert cell.config.output_dir is not None
    return replace(cell, name=name, config=replace(cell.config, output_dir=cell.config.output_dir / name))


def _plain(label: str) -> str:
    """Without what has a meaning in paths or shells."""
    return re.sub(r"[^\w.=+-]", "_", label)
