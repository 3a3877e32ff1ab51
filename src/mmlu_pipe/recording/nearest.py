"""What differs between a request without a recording and the recording that is most like it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from mmlu_pipe.recording.identity import request_meaning
from mmlu_pipe.records import JsonObject

__all__ = ["nearest_difference"]

_LOOKED_AT = 500
_SHOWN = 60


def nearest_difference(body: JsonObject, model: str, recorded_bodies: Iterable[str]) -> str | None:
    """What differs from the nearest of the recorded requests, None where there is none."""
    meaning = request_meaning(body, model)
    asked = json.dumps(meaning.get("messages"), ensure_ascii=False)
    best: tuple[float, str] | None = None
    for _, text in zip(range(_LOOKED_AT), recorded_bodies, strict=False):
        recorded = json.loads(text)
        other = request_meaning(recorded, str(recorded.get("model")))
        names = [name for name in sorted(meaning | other) if meaning.get(name) != other.get(name)]
        if not names:
            return "that it was recorded fewer times within a line"
        matcher = difflib.SequenceMatcher(None, asked, json.dumps(other.get("messages"), ensure_ascii=False))
        likeness = matcher.quick_ratio() - 0.1 * len(names)
        if best is None or likeness > best[0]:
            best = (likeness, "; ".join(_difference(name, other.get(name), meaning.get(name)) for name in names))
    return best[1] if best else None


def _difference(name: str, recorded: Any, asked: Any) -> str:
    if name == "messages" and isinstance(recorded, list) and isinstance(asked, list):
        if len(recorded) != len(asked):
            return f"messages (recorded {len(recorded)}, asked {len(asked)})"
        place = next(place for place, pair in enumerate(zip(recorded, asked, strict=True)) if pair[0] != pair[1])
        name, recorded, asked = f"messages[{place}]", recorded[place], asked[place]
        if isinstance(recorded, dict) and isinstance(asked, dict) and recorded.get("role") == asked.get("role"):
            name, recorded, asked = f"{name}.content", recorded.get("content"), asked.get("content")
    before, after = (json.dumps(value, ensure_ascii=False) for value in (recorded, asked))
    start = max(0, next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0) - 20)
    return f"{name} (recorded {_cut(before, start)}, asked {_cut(after, start)})"


def _cut(text: str, start: int) -> str:
    return ("…" if start else "") + text[start : start + _SHOWN] + ("…" if len(text) > start + _SHOWN else "")
