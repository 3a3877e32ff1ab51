"""A page: a template, with a style and a script that no other text can add to."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["flat", "moment", "render", "signed"]

_FOLDER = Path(__file__).parent


def render(name: str, **values: Any) -> bytes:
    """The page of a template, `name.html.jinja`, as UTF-8; everything in `values` that is no `Markup` is escaped.

    Its style is `page.css`; its script is `page.js`, which all pages share, and `name.js`. The policy in its head lets
    the browser run that one script and use that one style, by their hashes, and load nothing.
    """
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "count": _count, "json": _json, "p": _p}
    style, script = _asset("page.css"), _asset("page.js") + _asset(f"{name}.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template(f"{name}.html.jinja").render(
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy,
        **values,
    )
    return text.encode("utf-8", "replace")  # a lone surrogate has no other place in a page


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """An object with its nested names joined by dots; nothing of what is no object."""
    found: dict[str, Any] = {}
    for name, inner in value.items() if isinstance(value, Mapping) else ():
        path = f"{prefix}{name}"
        found |= flat(inner, f"{path}.") if isinstance(inner, Mapping) and inner else {path: inner}
    return found


def moment(text: Any) -> str:
    """A time of a manifest, as people read it."""
    try:
        return f"{datetime.fromisoformat(text):%d %B %Y, %H:%M %Z}"
    except (TypeError, ValueError):
        return str(text)


def signed(value: float) -> str:
    """A difference of shares, in percentage points."""
    shown = f"{100 * value:+.1f}"
    return "0.0" if float(shown) == 0 else shown.replace("-", "\u2212")


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(value: float, shown: str) -> Markup:
    """A number as people read it, which holds the whole of it."""
    return Markup('<data value="{}">{}</data>').format(json.dumps(value), shown)


def _percent(value: float | None, sign: str = " %") -> Markup:
    return Markup("–") if value is None else _data(value, f"{100 * value:.1f}{sign}")


def _points(value: float, unit: str = " points") -> Markup:
    return _data(value, f"{signed(value)}{unit}")


def _count(value: float | None, digits: int = 0) -> Markup:
    return Markup("–") if value is None else _data(value, f"{value:,.{digits}f}")


def _p(value: float, name: str = "p") -> Markup:
    relation, bound = ("=", f"{value:.2g}") if value >= 1e-6 else ("<", "0.000001")
    return _data(value, f"{name} {relation} {bound}" if name or relation == "<" else bound)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
