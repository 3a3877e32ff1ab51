"""A folder of recordings in vcrpy's cassette format: one YAML file a shard, and the provenance beside them.

An exchange is found by what its request means (identity.py) and by how many equal ones its line made before. Shards
are written one appended list item an exchange, so that a killed recording keeps what it had, and are put in dataset
order at the end.
"""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import CassetteMiss, RecordingError
from mmlu_pipe.recording.identity import request_hash, request_meaning
from mmlu_pipe.records import JsonObject

__all__ = ["Cassette", "Exchange", "Key"]

Key = tuple[str, int]
"""(request hash, how many equal requests the line made before)."""

_HEADER = "version: 1\ninteractions:\n"


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its response, already scrubbed."""

    uri: str
    request_body: str
    status: int
    reason: str
    content_type: str
    response_body: str

    def to_item(self) -> JsonObject:
        """The exchange as an interaction of vcrpy's format."""
        return {
            "request": {"body": self.request_body, "headers": {}, "method": "POST", "uri": self.uri},
            "response": {
                "body": {"string": self.response_body},
                "headers": {"Content-Type": [self.content_type]},
                "status": {"code": self.status, "message": self.reason},
            },
        }

    @classmethod
    def from_item(cls, item: Any) -> Exchange:
        """Read an interaction.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the item is not one.
        """
        request, response = item["request"], item["response"]
        headers = {name.lower(): value for name, value in response["headers"].items()}
        content_type = headers.get("content-type", ["application/json"])
        return cls(
            uri=str(request["uri"]),
            request_body=_text(request["body"]),
            status=int(response["status"]["code"]),
            reason=str(response["status"].get("message") or ""),
            content_type=content_type[0] if isinstance(content_type, list) else str(content_type),
            response_body=_text(response["body"]["string"]),
        )


class Cassette:
    """The recordings of one folder, in memory; safe to share between threads.

    Args:
        folder: where the shards are; it need not exist before something is kept.
        model: declared model of the requests to come.
        fresh: forget what is there as it is recorded anew (vcrpy's mode `all`).

    Raises:
        RecordingError: a shard is no cassette, naming the file and the item.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._exchanges: dict[Key, tuple[str, Exchange]] = {}
        self._used: dict[Key, tuple[int, int]] = {}
        self._changed = False
        self._replaced: dict[Key, tuple[str, Exchange]] = {}
        self._load()
        self.existed = bool(self._exchanges)
        if fresh:
            self._replaced, self._exchanges = self._exchanges, {}

    def __len__(self) -> int:
        return len(self._exchanges)

    @property
    def used(self) -> int:
        """How many recordings the run has used so far."""
        return len(self._used)

    def find(self, key: Key, line_number: int) -> Exchange | None:
        """The recording under a key, if there is one; the line is noted for the order of the shards."""
        with self._lock:
            found = self._exchanges.get(key)
            if found is None:
                return None
            self._note(key, line_number)
            return found[1]

    def keep(self, key: Key, shard: str, line_number: int, exchange: Exchange) -> None:
        """Add a recording and append it to its shard at once."""
        shard = re.sub(r"[^A-Za-z0-9_-]+", "_", shard)[:80] or "default"
        with self._lock:
            if key in self._exchanges:
                return
            self._exchanges[key] = (shard, exchange)
            self._note(key, line_number)
            self._changed = True
            path = self.folder / f"{shard}.yaml"
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as handle:
                if handle.tell() == 0:
                    handle.write(_HEADER.encode())
                handle.write(_dump([exchange.to_item()]))

    def finish(self) -> None:
        """Put every shard in dataset order; recordings that were not used keep their order after the used ones."""
        with self._lock:
            if not self._changed:
                return
            for key, value in self._replaced.items():
                self._exchanges.setdefault(key, value)
            order = sorted(self._exchanges, key=lambda key: self._used.get(key, (1 << 62, 0)))
            shards: dict[str, list[JsonObject]] = {}
            for key in order:
                shard, exchange = self._exchanges[key]
                shards.setdefault(shard, []).append(exchange.to_item())
            for shard, items in shards.items():
                temporary = self.folder / f".{shard}.yaml.new"
                temporary.write_bytes(_HEADER.encode() + _dump(items))
                Path(temporary).replace(self.folder / f"{shard}.yaml")
            self._changed = False

    def miss(self, body: JsonObject, model: str) -> CassetteMiss:
        """The error for a request without a recording: what differs from the nearest one, and what to do."""
        nearest = self._nearest(request_meaning(body, model))
        told = f"; the nearest recording differs in {nearest}" if nearest else ""
        return CassetteMiss(
            f"{self.folder}: no recording for a request of the program{told}. Record it with --other-config FILE "
            f"--cassette {self.folder.name} --record-mode new_episodes, or run the program and dataset it was made for",
            nearest=nearest,
        )

    def _note(self, key: Key, line_number: int) -> None:
        place = (line_number, key[1])
        self._used[key] = min(place, self._used.get(key, place))

    def _load(self) -> None:
        for path in sorted(self.folder.glob("*.yaml")) if self.folder.is_dir() else ():
            seen: dict[str, int] = {}
            for number, item in enumerate(_read_shard(path), start=1):
                try:
                    exchange = Exchange.from_item(item)
                    body = json.loads(exchange.request_body)
                    identity = request_hash(body, str(body.get("model")))
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise RecordingError(f"{path}: interaction {number} is not a recorded chat completion") from error
                occurrence = seen.get(identity, 0)
                seen[identity] = occurrence + 1
                self._exchanges.setdefault((identity, occurrence), (path.stem, exchange))

    def _nearest(self, meaning: JsonObject) -> str | None:
        best: tuple[float, str] | None = None
        asked = json.dumps(meaning.get("messages"), ensure_ascii=False)
        for _, exchange in list(self._exchanges.values())[:500]:
            body = json.loads(exchange.request_body)
            other = request_meaning(body, str(body.get("model")))
            names = [name for name in sorted(meaning | other) if meaning.get(name) != other.get(name)]
            matcher = difflib.SequenceMatcher(None, asked, json.dumps(other.get("messages"), ensure_ascii=False))
            likeness = matcher.quick_ratio() - 0.1 * len(names)
            if best is None or likeness > best[0]:
                best = (likeness, ", ".join(_difference(name, other.get(name), meaning.get(name)) for name in names))
        return best[1] if best else None


def _difference(name: str, recorded: Any, asked: Any) -> str:
    if name == "messages":
        return "messages"
    return f"{name} (recorded {json.dumps(recorded)[:80]}, asked {json.dumps(asked)[:80]})"


def _read_shard(path: Path) -> Iterator[Any]:
    import yaml
    from vcr.serializers import yamlserializer

    try:
        value = yamlserializer.deserialize(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecordingError(f"{place}: is no cassette ({type(error).__name__}); restore or remove the file") from error
    interactions = value.get("interactions") if isinstance(value, dict) else None
    if interactions is None and isinstance(value, dict) and "interactions" in value:
        interactions = []
    if not isinstance(interactions, list):
        raise RecordingError(f"{path}: is no cassette of vcrpy's format (version, interactions)")
    return iter(interactions)


def _dump(items: list[JsonObject]) -> bytes:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(items, Dumper=dumper, allow_unicode=True, width=1_000_000, sort_keys=True)
    return text.encode()


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
