"""The page: a template, with a style and a script that no other text can add to."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["render"]

_FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> bytes:
    """The page as UTF-8; everything in `values` that is no `Markup` is escaped.

    The policy in its head lets the browser run the one script and the one style by their hashes, and load nothing.
    """
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "count": _count, "json": _json, "p": _p}
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template(template).render(
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy,
        **values,
    )
    return text.encode("utf-8", "replace")  # a lone surrogate has no other place in a page


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(value: float, shown: str) -> Markup:
    """A number as people read it, which holds the whole of it."""
    return Markup('<data value="{}">{}</data>').format(json.dumps(value), shown)


def _percent(value: float | None, sign: str = " %") -> Markup:
    return Markup("–") if value is None else _data(value, f"{100 * value:.1f}{sign}")


def _count(value: float | None, digits: int = 0) -> Markup:
    return Markup("–") if value is None else _data(value, f"{value:,.{digits}f}")


def _p(value: float) -> Markup:
    return _data(value, f"p = {value:.2g}" if value >= 1e-6 else "p < 0.000001")


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
