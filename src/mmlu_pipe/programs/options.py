"""The options of a program: the keyword-only parameters of its function that have a plain default."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmlu_pipe.errors import ConfigError

__all__ = ["Option", "option_texts", "parse_options", "settled"]

Option = bool | int | float | str
"""What an option can be; its default tells which."""

_TYPES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text that UTF-8 can write",
}
_TRUTH = {"true": True, "false": False}


def parse_options(texts: Iterable[str]) -> dict[str, str]:
    """Name → text of each `KEY=VALUE`.

    Raises:
        ConfigError: one is not of that form, or a key comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise ConfigError(f"--program-option {text!r}: write it as KEY=VALUE", key="program_option")
        if name.strip() in found:
            raise ConfigError(f"--program-option {name.strip()}: is given twice", key="program_option")
        found[name.strip()] = value
    return found


def option_texts(options: str | Iterable[str] | Mapping[str, Option]) -> tuple[str, ...]:
    """`KEY=VALUE` of each option, as `parse_options` and `settled` read it back; what is text stays as it is.

    Raises:
        ConfigError: a value is of another type, which as a text would pass for an option that is a text.
    """
    if not isinstance(options, Mapping):
        return (options,) if isinstance(options, str) else tuple(options)
    for name, value in options.items():
        if type(value) not in _TYPES:
            told = ", ".join(_TYPES.values())
            raise ConfigError(f"--program-option {name}: must be {told}, not {value!r}", key="program_option")
    return tuple(f"{name}={_text(value)}" for name, value in options.items())


def settled(function: Callable[..., Any], given: Mapping[str, object], *, program: str) -> dict[str, Option]:
    """Every option of a program's function with its value: the given one, or its default.

    Args:
        function: the program's function.
        given: values of their own type, or as texts.
        program: name of the program, for messages.

    Raises:
        ConfigError: the program takes no such option, or the value is not of its type.
    """
    known: dict[str, Option] = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and type(parameter.default) in _TYPES
    }
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known) or 'none'}"
            raise ConfigError(f"--program-option {name}: {program} takes no such option; {hint}", key="program_option")
    return {
        name: _typed(name, given[name], type(default), program) if name in given else default
        for name, default in known.items()
    }


def _typed(name: str, value: object, wanted: type, program: str) -> Option:
    try:
        if isinstance(value, str) and wanted is not str:
            value = _TRUTH[value.strip().lower()] if wanted is bool else wanted(value)
        if wanted is float and type(value) is int:
            value = float(value)
        if isinstance(value, str):
            value.encode()  # half a surrogate pair can be neither sent nor written down
        if type(value) is wanted and not (isinstance(value, float) and not math.isfinite(value)):
            return value  # type: ignore[return-value]  # it is of one of the four types
    except (ValueError, KeyError, OverflowError):
        pass
    raise ConfigError(
        f"--program-option {name}: must be {_TYPES[wanted]} for {program}, not {value!r}", key="program_option"
    )


def _text(value: Option) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
