"""The files of a cassette: vcrpy's format, one YAML file a shard, read with vcrpy's own safe loader.

An interaction has one key that vcrpy does not know and ignores: `occurrence`, how many equal requests its line made
before, where that is not 0.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.records import JsonObject

__all__ = ["Exchange", "Shard", "append_item", "read_shard", "replace_shard", "shard_name"]

_HEADER = b"version: 1\ninteractions:\n"
_ENDLESS = re.compile(rb"(?:[\[{][^\[\]{}]{0,40}){1000}|(?:[-?:] ){1000}")  # libyaml overflows the stack of the process
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its response, already scrubbed."""

    uri: str
    request_body: str
    status: int
    reason: str
    content_type: str
    response_body: str

    @property
    def identity(self) -> str:
        """Hash of what the request means."""
        body = json.loads(self.request_body)
        return request_hash(body, str(body.get("model")))

    def to_item(self, occurrence: int | None = None) -> JsonObject:
        """The exchange as an interaction of vcrpy's format."""
        item: JsonObject = {
            "request": {"body": self.request_body, "headers": {}, "method": "POST", "uri": self.uri},
            "response": {
                "body": {"string": self.response_body},
                "headers": {"Content-Type": [self.content_type]},
                "status": {"code": self.status, "message": self.reason},
            },
        }
        return item if occurrence is None else item | {"occurrence": occurrence}

    @classmethod
    def from_item(cls, item: Any) -> Exchange:
        """Read an interaction of a chat completion.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the item is not one.
        """
        request, response = item["request"], item["response"]
        body = _text(request["body"])
        if not isinstance(json.loads(body)["messages"], list):
            raise TypeError("no messages")
        headers = {name.lower(): value for name, value in response["headers"].items()}
        content_type = headers.get("content-type") or "application/json"
        return cls(
            uri=_text(request["uri"]),
            request_body=body,
            status=int(response["status"]["code"]),
            reason=_text(response["status"].get("message") or ""),
            content_type=_text(content_type[0] if isinstance(content_type, list) else content_type),
            response_body=_text(response["body"]["string"]),
        )


@dataclass(frozen=True)
class Shard:
    """One file as it was read.

    Attributes:
        path: the file.
        size: its bytes.
        blank: whether it has no content, which is as good as no file (in vcrpy, too).
        ours: whether an item can be appended to it; a file that vcrpy or a person wrote is never changed.
        items: (exchange, its occurrence where the item says it).
    """

    path: Path
    size: int
    blank: bool
    ours: bool
    items: tuple[tuple[Exchange, int | None], ...]


def shard_name(text: str) -> str:
    """A file name without its ending that is safe everywhere: no path, no letter case, no device name."""
    name = re.sub(r"[^a-z0-9_-]+", "_", text.lower())[:80] or "default"
    return f"{name}_" if _RESERVED.fullmatch(name) else name


def read_shard(path: Path) -> Shard:
    """Read a file.

    Raises:
        RecordingError: it is no cassette of chat completions; names the file, and the line or item.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.strip():
        return Shard(path, len(content), blank=True, ours=False, items=())
    items = []
    for number, item in enumerate(_interactions(path, content), start=1):
        try:
            items.append((Exchange.from_item(item), _occurrence(item)))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RecordingError(f"{path}: interaction {number} is not a recorded chat completion") from error
    rest = content.removeprefix(_HEADER)
    ours = content.startswith(_HEADER) and (not rest or (rest.startswith(b"- ") and rest.endswith(b"\n")))
    return Shard(path, len(content), blank=False, ours=ours, items=tuple(items))


def append_item(path: Path, item: JsonObject) -> tuple[int, int]:
    """Append one item to a file of ours in one write; return the file's size before and after.

    Raises:
        RecordingError: it cannot be written; the file is as before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as handle:
            start = handle.tell()
            content = memoryview((b"" if start else _HEADER) + _dump([item]))
            try:
                while content:
                    content = content[handle.write(content) :]
            except OSError:
                with suppress(OSError):
                    handle.truncate(start)
                raise
            return start, handle.tell()
    except OSError as error:
        raise _unwritable(path, error) from error


def replace_shard(path: Path, items: list[JsonObject], expected_size: int) -> int:
    """Write a file anew, or remove it where nothing is left; a file of another size is left alone.

    Returns:
        The size to expect from now on.

    Raises:
        RecordingError: it cannot be written; the file is as before.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        if path.stat().st_size != expected_size:
            return expected_size
        if not items:
            path.unlink()
            return 0
        size = temporary.write_bytes(_HEADER + _dump(items))
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error
    return size


def _interactions(path: Path, content: bytes) -> list[Any]:
    import yaml
    from vcr.serializers import yamlserializer

    if _ENDLESS.search(content):
        raise RecordingError(f"{path}: is no cassette (nested too deeply); restore or remove the file")
    try:
        value = yamlserializer.deserialize(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecordingError(f"{place}: is no cassette ({type(error).__name__}); restore or remove the file") from error
    found = value.get("interactions", 0) if isinstance(value, dict) else 0
    if found is None:
        return []
    if not isinstance(found, list):
        raise RecordingError(f"{path}: is no cassette of vcrpy's format (version, interactions)")
    return found


def _occurrence(item: Any) -> int | None:
    found = item.get("occurrence")
    if found is None or (type(found) is int and found >= 0):
        return found
    raise TypeError("occurrence is no number")


def _dump(items: list[JsonObject]) -> bytes:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(items, Dumper=dumper, allow_unicode=True, width=1_000_000, sort_keys=False)
    return text.encode()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _unwritable(path: Path, error: OSError) -> RecordingError:
    return RecordingError(f"{path.parent.name}/{path.name}: the recording cannot be written ({error.strerror})")
