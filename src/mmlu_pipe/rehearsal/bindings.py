"""`${{ … }}` and `$[[ … ]]`: what a pipeline job and a command mean once the values are known.

The rules are those of Microsoft Learn, "Expression syntax in Azure Machine Learning SDK and CLI v2" and "CLI (v2)
command component YAML schema": a value replaces its expression as plain text, and what stands in `$[[ ]]` is left out
where an input inside it has no value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["BindingError", "parent_output", "referenced_steps", "render", "resolve"]

_EXPRESSION = re.compile(r"\$\{\{\s*([^{}]*?)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_PARENT_OUTPUT = re.compile(r"\$\{\{\s*parent\.outputs\.([^.{}\s]+)\s*\}\}")
_STEP = re.compile(r"parent\.jobs\.([^.]+)\.outputs\.")


class BindingError(Exception):
    """An expression that names nothing that is there."""


def resolve(text: str, values: Mapping[str, str | None]) -> str | None:
    """Replace all expressions of a binding.

    Args:
        text: such as `${{parent.inputs.data}}`, alone or within other text.
        values: expression → value; None for an optional input that was not given.

    Returns:
        The text; None where the whole of it is one expression without a value.

    Raises:
        BindingError: an expression is unknown, or without a value within other text.
    """
    if whole := _EXPRESSION.fullmatch(text.strip()):
        return _value(whole[1], values)

    def replaced(found: re.Match[str]) -> str:
        value = _value(found[1], values)
        if value is None:
            raise BindingError(f"{found[0]} has no value, and stands within other text: {text}")
        return value

    return _EXPRESSION.sub(replaced, text)


def render(command: str, values: Mapping[str, str | None]) -> str:
    """The command line as it is executed.

    Args:
        command: of the component.
        values: `inputs.<name>` and `outputs.<name>` → text; None for an optional input that was not given.

    Raises:
        BindingError: an expression is unknown, or stands outside `$[[ ]]` without a value.
    """

    def optional(found: re.Match[str]) -> str:
        inside = [_value(name, values) for name in _EXPRESSION.findall(found[1])]
        return "" if None in inside else found[1]

    def replaced(found: re.Match[str]) -> str:
        value = _value(found[1], values)
        if value is None:
            raise BindingError(f"{found[0]} has no value, and is not within $[[ ]]")
        return value

    return _EXPRESSION.sub(replaced, _OPTIONAL.sub(optional, command))


def referenced_steps(text: str) -> set[str]:
    """The steps whose outputs a binding takes."""
    return {step for name in _EXPRESSION.findall(text) for step in _STEP.findall(name)}


def parent_output(text: str | None) -> str | None:
    """The pipeline's output that a step's output is bound to, or None."""
    found = _PARENT_OUTPUT.fullmatch((text or "").strip())
    return found[1] if found else None


def _value(name: str, values: Mapping[str, str | None]) -> str | None:
    if name not in values:
        raise BindingError(f"${{{{{name}}}}} names nothing that is there")
    return values[name]
