"""The prices file: a JSON file that the user writes. No price comes with the package.

    {"currency": "EUR", "written": "YYYY-MM-DD",
     "per_million_tokens": {"<model>": {"prompt": 0, "cached_prompt": 0, "completion": 0}}}

`cached_prompt` and a free text under `note` may be left out.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

from mmlu_pipe.config import load_json_object
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.forecast.figures import Price, Prices

__all__ = ["load_prices"]

_NEEDED = ("currency", "written", "per_million_tokens")
_PRICES = ("prompt", "completion", "cached_prompt")


def load_prices(path: Path) -> Prices:
    """Read a prices file.

    Raises:
        ConfigError: it cannot be read, misses a key, has one too many, or a value that is no price or date.
    """
    value = load_json_object(path, "the prices file")
    _only(path, value, _NEEDED, (*_NEEDED, "note"), "")
    currency, written, models = (value[name] for name in _NEEDED)
    if not isinstance(currency, str) or not currency.strip():
        raise _wrong(path, "currency", "must be a text, such as EUR")
    try:
        date.fromisoformat(written)
    except (TypeError, ValueError):
        raise _wrong(path, "written", "must be the date on which you wrote the prices, as YYYY-MM-DD") from None
    if not isinstance(models, dict) or not models:
        raise _wrong(path, "per_million_tokens", "must be an object with a model's name as each key")
    return Prices(currency.strip(), written, {name: _price(path, name, price) for name, price in models.items()})


def _price(path: Path, model: str, value: Any) -> Price:
    where = f"per_million_tokens.{model}"
    if not isinstance(value, dict):
        raise _wrong(path, where, "must be an object with prompt and completion")
    _only(path, value, _PRICES[:2], _PRICES, f"{where}.")
    for name, price in value.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
            raise _wrong(path, f"{where}.{name}", f"must be a number from 0 on, not {price!r}")
    return Price(**value)


def _only(path: Path, value: dict[str, Any], needed: tuple[str, ...], known: tuple[str, ...], prefix: str) -> None:
    missing = [name for name in needed if name not in value]
    strange = [name for name in value if name not in known]
    if missing:
        raise _wrong(path, prefix + missing[0], "is missing")
    if strange:
        raise _wrong(path, prefix + strange[0], f"is not known; known are {', '.join(known)}")


def _wrong(path: Path, key: str, problem: str) -> ConfigError:
    return ConfigError(f"{path}: {key!r} {problem}", path=path, key=key)
