"""What differs between a request without a recording and the recording that is most like it."""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

from mmlu_pipe.recording.identity import request_meaning
from mmlu_pipe.records import JsonObject

__all__ = ["Nearest", "difference_kind"]

_LOOKED_AT = 500
_PLACE = re.compile(r"(?:^|; )([a-z_]+)(?:\[\d+\])?(?:\.content)? \((?:recorded|asked) ")
_SHOWN = 60
_TOLD = 3
_SAME = "that it was recorded fewer times within a line"


def difference_kind(nearest: str | None) -> str:
    """What differs from the nearest recording, as the names of the fields alone."""
    if nearest is None:
        return "nothing like it"
    names = _PLACE.findall(nearest)
    return ", ".join(dict.fromkeys(names)) if names else nearest[:60]


class Nearest:
    """Compares requests with recordings: the first few in full, further ones by what their fields are called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = 0
        self._seen: list[dict[str, int]] | None = None  # name of a field → hash of its value

    def difference(self, body: JsonObject, model: str, bodies: Callable[[int], Iterable[str]]) -> str | None:
        """What differs from the nearest recorded request, None where there is none.

        Args:
            body: what was asked.
            model: the declared one.
            bodies: gives about so many of the recorded requests.
        """
        meaning = request_meaning(body, model)
        with self._lock:
            self._told += 1
            if self._told > _TOLD and self._seen is not None:
                return _names(_hashes(meaning), self._seen)
            others = [_meaning(text) for text in bodies(_LOOKED_AT)]
            self._seen = self._seen or [_hashes(other) for other in others]
        return _in_full(meaning, others)


def _in_full(meaning: JsonObject, others: Iterable[JsonObject]) -> str | None:
    matcher = difflib.SequenceMatcher(None, "", json.dumps(meaning.get("messages"), ensure_ascii=False))
    best: tuple[float, str] | None = None
    for other in others:
        names = [name for name in sorted(meaning | other) if meaning.get(name) != other.get(name)]
        if not names:
            return _SAME
        matcher.set_seq1(json.dumps(other.get("messages"), ensure_ascii=False))
        likeness = matcher.quick_ratio() - 0.1 * len(names)
        if best is None or likeness > best[0]:
            best = (likeness, "; ".join(_difference(name, other.get(name), meaning.get(name)) for name in names))
    return best[1] if best else None


def _names(asked: dict[str, int], seen: Iterable[dict[str, int]]) -> str | None:
    """The fields that differ from the recording that has the fewest such."""
    found = ([name for name in sorted(asked | other) if asked.get(name) != other.get(name)] for other in seen)
    fewest = min(found, key=len, default=None)
    if fewest is None:
        return None
    return "; ".join(f"{name} (recorded otherwise)" for name in fewest) or _SAME


def _hashes(meaning: JsonObject) -> dict[str, int]:
    return {name: hash(json.dumps(value, sort_keys=True)) for name, value in meaning.items()}


def _meaning(text: str) -> JsonObject:
    body = json.loads(text)
    return request_meaning(body, str(body.get("model")))


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
