"""Options of a run from a YAML file and from `KEY=VALUE` texts; pydantic makes of them what RunConfig's fields say.

YAML is only composed, so nothing in a file can run, and every value is the text that stands there: `off` and `1:30`
stay what was written until the field's type is known. Nothing is interpolated.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.bundled import SAMPLE_DATASETS
from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import ConfigError

if TYPE_CHECKING:
    import yaml

__all__ = [
    "ALSO_NAMES",
    "field_of",
    "is_option",
    "layered",
    "load_config",
    "read_file",
    "read_overrides",
    "split_override",
    "typed",
]

ALSO_NAMES = ("dataset", "guidance_program", "examples", "resume_from")
"""Options that take a name as well as a file or folder."""

_SUFFIXES = (".jsonl", ".py")
_CORE = "tag:yaml.org,2002:"
_TAGS = {_CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "seq", "map")}
_WANTED = {int: "a whole number", float: "a number", bool: "true or false"}

Layer = Mapping[str, Any]
"""Field of RunConfig → value of its type."""


def load_config(path: str | Path, *overrides: str) -> RunConfig:
    """The options of a `run.yaml`, for `mmlu_pipe.start`.

    Args:
        path: the file; relative paths in it are relative to its folder.
        overrides: `KEY=VALUE` texts, which win over the file.

    Raises:
        ConfigError: the file cannot be read, or an option is unknown or of the wrong type.
    """
    return RunConfig(**layered(read_file(Path(path)), read_overrides(overrides)))


def layered(*layers: Layer) -> dict[str, Any]:
    """One layer over the other: a later value wins.

    Of an option that takes several texts they are put together; a later `NAME=…` replaces the earlier ones of that
    NAME, and none at all takes away what was there.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, tuple) and value:
                names = {_name(text) for text in value}
                value = (*(text for text in found.get(key, ()) if _name(text) not in names), *value)
            found[key] = value
    return found


def read_file(path: Path) -> dict[str, Any]:
    """The options that a YAML file holds.

    Raises:
        ConfigError: it cannot be read, is no mapping, or an option in it is unknown, given twice or of the wrong type.
    """
    import yaml

    try:
        with path.open("rb") as handle:
            root = yaml.compose(handle, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: the options cannot be read ({error.strerror})", path=path) from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: is not YAML ({error.problem})", path=path) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # no text, nested too deeply, a NUL in the path
        raise ConfigError(f"{path}: is not YAML ({str(error).splitlines()[0]})", path=path) from error
    if root is None:
        return {}
    _refuse_tag(root, f"{path}:{_line(root)}")
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:{_line(root)}: must be a mapping of options, such as `workers: 4`", path=path)
    found: dict[str, Any] = {}
    for name, node in root.value:
        where = f"{path}:{_line(name)}"
        key = field_of(_text(name, where) or "", where)
        if key in found:
            raise ConfigError(f"{where}: {key} is given twice; keep one of them", path=path, key=key)
        value = typed(key, _value(node, where), where)
        found[key] = _from_folder(path.parent, key, value)
    return found


def read_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """The options that `KEY=VALUE` texts set; `null` leaves one out.

    Raises:
        ConfigError: a text is of another form, or its option unknown, given twice or of the wrong type.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, value = split_override(text)
        read = typed(key, None if value == "null" else value, text)
        if key in found and not (read and found[key] and isinstance(read, tuple)):  # null stands alone
            raise ConfigError(f"{text}: {key} is given twice; keep one of them", key=key)
        found[key] = (*found.get(key, ()), *read) if isinstance(read, tuple) else read
    return found


def split_override(text: str) -> tuple[str, str]:
    """Option and text of `KEY=VALUE`.

    Raises:
        ConfigError: it is of another form, or there is no such option.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{text!r} is not KEY=VALUE, such as workers=4")
    key = field_of(name, text)
    if not value:
        raise ConfigError(f"{text}: has no value; {key}=null leaves the option out", key=key)
    return key, value


def field_of(name: str, where: str) -> str:
    """The field of RunConfig of that name, which may be written with dashes.

    Raises:
        ConfigError: there is none; the message names a similar one.
    """
    key = name.replace("-", "_")
    if key in _hints():
        return key
    close = difflib.get_close_matches(key, _hints(), n=1)
    hint = f"did you mean {close[0]}?" if close else "`mmlu-pipe run --help` has all of them"
    raise ConfigError(f"{where}: there is no option {name!r}; {hint}", key=name)


def is_option(name: str) -> bool:
    """Whether a field of RunConfig has that name."""
    return name in _hints()


def typed(key: str, value: str | tuple[str, ...] | None, where: str) -> Any:
    """A value as the field's type wants it.

    Args:
        key: the field of RunConfig.
        value: a text; several where the field takes several; None for nothing.
        where: what the message begins with.

    Raises:
        ConfigError: it is no such value.
    """
    from pydantic import TypeAdapter, ValidationError

    hint = _hints()[key]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if typing.get_origin(hint) is tuple:
        return (value,) if isinstance(value, str) else value or ()
    if value is None and types.NoneType not in kinds:
        raise ConfigError(f"{where}: {key} needs a value; leave it out for the default", key=key)
    if isinstance(value, tuple):
        raise ConfigError(f"{where}: {key} takes one value, not several", key=key)
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{where}: {key} must be {_WANTED[kinds[0]]}, not {value!r}", key=key) from error


def _value(node: yaml.Node, where: str) -> str | tuple[str, ...] | None:
    """A text, or those of a list; a mapping is a list of `KEY=VALUE`."""
    import yaml

    _refuse_tag(node, where)
    if isinstance(node, yaml.SequenceNode):
        texts = tuple(_text(each, where) for each in node.value)
        if None in texts:
            raise ConfigError(f"{where}: a value of the list is empty; leave it out")
        return tuple(map(str, texts))
    if isinstance(node, yaml.MappingNode):
        return tuple(_pairs(node, where))
    return _text(node, where)


def _pairs(node: yaml.MappingNode, where: str) -> Iterator[str]:
    names = set()
    for name_node, value_node in node.value:
        name, value = _text(name_node, where), _text(value_node, where)
        if name in names:
            raise ConfigError(f"{where}: {name} is given twice; keep one of them", key=name)
        names.add(name)
        yield str(name) if value is None else f"{name}={value}"


def _text(node: yaml.Node, where: str) -> str | None:
    import yaml

    _refuse_tag(node, where)
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{where}: a value is nested too deeply; options are values, and lists or mappings of such")
    return None if node.tag == _CORE + "null" else str(node.value)


def _refuse_tag(node: yaml.Node, where: str) -> None:
    if node.tag not in _TAGS:
        raise ConfigError(f"{where}: a value has the tag {node.tag}; leave it out, options are plain values")


def _from_folder(folder: Path, key: str, value: Any) -> Any:
    """A path of a file's options, relative to the folder of that file."""
    if isinstance(value, Path):
        return folder / value
    if key in ALSO_NAMES and isinstance(value, str) and value not in SAMPLE_DATASETS and "://" not in value:
        is_path = "/" in value or "\\" in value or value.endswith(_SUFFIXES)
        if is_path or _holds_run_or_is_file(folder / value):
            return str(folder / value)
    return value


def _holds_run_or_is_file(place: Path) -> bool:
    try:
        return place.is_file() or (place / "manifest.json").is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _name(text: str) -> str:
    """The name in `k=5`, `temperature`, `package>=2.0` or `package @ address`."""
    return re.split(r"[=<>!~;\[ ]", text, maxsplit=1)[0]


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


@lru_cache(maxsize=1)
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(RunConfig)
