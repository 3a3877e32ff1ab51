"""The files of a cassette: vcrpy's format, one YAML file a shard, read with vcrpy's own safe loader.

An interaction has one key that vcrpy does not know and ignores: `occurrence`, how many equal requests its line made
before, where that is not 0. It stands first, so that an item that was cut off never passes for another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.recording.index import Span, block_spans, ends_whole, item_spans, may_be_torn, shard_name
from mmlu_pipe.records import JsonObject

__all__ = ["HEADER", "Exchange", "Shard", "append_item", "dump_item", "parse_item", "parse_shard", "read_content"]
__all__ += ["read_shard", "replace_shards", "shard_name"]

HEADER = b"version: 1\ninteractions:\n"  # `version` stands first, so that an exchange is one appended item

_ENDLESS = re.compile(rb"(?:[\[{][^\[\]{}]{0,40}){1000}|(?:[-?:] ){1000}")  # libyaml overflows the stack of the process


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
        return item if occurrence is None else {"occurrence": occurrence} | item

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
        size, whole: its bytes, and those up to the end of the last whole item; fewer where a killed run left a part.
        blank: whether it has no content, which is as good as no file (in vcrpy, too).
        ours: whether an item can be appended to it; a file that vcrpy or a person wrote is never changed.
        items: (exchange, its occurrence where the item says it).
        spans: where each item stands; empty where they cannot be read one by one.
    """

    size: int
    whole: int
    blank: bool
    ours: bool
    items: tuple[tuple[Exchange, int | None], ...]
    spans: tuple[Span, ...]


def read_shard(path: Path) -> Shard:
    """Read a file as parse_shard does."""
    return parse_shard(path, read_content(path))


def read_content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        RecordingError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error


def parse_shard(path: Path, content: bytes) -> Shard:
    """Read the content of a file; a part of an item that a killed recording left at its end is passed over.

    Raises:
        RecordingError: it is no cassette of chat completions; names the file, and the line or item.
    """
    size = len(content)
    if not content.strip():
        return Shard(size, size, blank=True, ours=False, items=(), spans=())
    if _ENDLESS.search(content):
        raise RecordingError(f"{path}: is no cassette (nested too deeply); restore or remove the file")
    found = _parse_ours(content)
    if found is not None:
        return found
    raw = _interactions(path, content)
    items = []
    for number, item in enumerate(raw, start=1):
        try:
            items.append((Exchange.from_item(item), _occurrence(item)))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RecordingError(f"{path}: interaction {number} is not a recorded chat completion") from error
    return Shard(size, size, blank=False, ours=False, items=tuple(items), spans=_spans_of_others(content, raw))


def parse_item(piece: bytes) -> tuple[Exchange, int | None]:
    """Read one item from its bytes.

    Raises:
        ValueError: they are not one item.
    """
    try:
        (item,) = _load_items(piece)
        return Exchange.from_item(item), _occurrence(item)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no item") from error


def dump_item(item: JsonObject) -> bytes:
    """The bytes of an item as they stand in a file of ours."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump([item], Dumper=dumper, allow_unicode=True, width=1_000_000, sort_keys=False)).encode()


def append_item(path: Path, piece: bytes, torn: tuple[int, int] | None = None) -> tuple[int, Span]:
    """Append one item to a file of ours in one write; return the file's size before, and where the item stands.

    A file of the size torn[0] ends in a part of an item, and is cut to torn[1] first.

    Raises:
        RecordingError: it cannot be written; the file is as before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as handle:
            before = start = handle.tell()
            if torn is not None and start == torn[0]:
                start = handle.truncate(torn[1])
            content = memoryview((b"" if start else HEADER) + piece)
            offset = start + len(content) - len(piece)
            try:
                while content:
                    content = content[handle.write(content) :]
            except OSError:
                with suppress(OSError):
                    handle.truncate(start)
                raise
            return before, Span.of(offset, piece)
    except OSError as error:
        raise _unwritable(path, error) from error


def replace_shards(files: Mapping[Path, list[bytes]]) -> None:
    """Write files anew, all or none, and remove those where nothing is left.

    Raises:
        RecordingError: one cannot be written; all are as before.
    """
    written: dict[Path, Path] = {}
    path = Path()
    try:
        for path, pieces in files.items():
            if pieces:
                temporary = path.with_name(f".{path.name}.new")
                temporary.write_bytes(b"".join([HEADER, *pieces]))
                written[path] = temporary
        for path, temporary in written.items():
            temporary.replace(path)
        for path in files.keys() - written.keys():
            path.unlink(missing_ok=True)
    except OSError as error:
        for temporary in written.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _parse_ours(content: bytes) -> Shard | None:
    """A file that begins as ours, item by item; None where it is not as we write it."""
    found = item_spans(content, len(HEADER)) if content.startswith(HEADER) else None
    if found is None:
        return None
    items, spans, whole = [], [], len(HEADER)
    for span in found:
        end = span.offset + span.length
        piece = content[span.offset : end]
        torn = end == len(content) and may_be_torn(piece)
        try:
            item = parse_item(piece)
        except ValueError:
            if not torn:
                return None
            break
        if torn and not ends_whole(piece, item[0].status):
            break
        items.append(item)
        spans.append(span)
        whole = end
    ours = content.endswith(b"\n") or whole < len(content)
    return Shard(len(content), whole, blank=False, ours=ours, items=tuple(items), spans=tuple(spans))


def _spans_of_others(content: bytes, items: list[Any]) -> tuple[Span, ...]:
    """Where the items of any cassette stand, provided that they can be read one by one."""
    spans = block_spans(content)
    try:
        for span, item in zip(spans, items, strict=True):
            if _load_items(content[span.offset : span.offset + span.length]) != [item]:
                return ()
    except ValueError:  # also where there are more or fewer
        return ()
    return spans


def _load_items(piece: bytes) -> Any:
    import yaml
    from vcr.serializers import yamlserializer

    try:
        return yamlserializer.deserialize(piece.decode("utf-8"))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("no YAML") from error


def _interactions(path: Path, content: bytes) -> list[Any]:
    import yaml
    from vcr.serializers import yamlserializer

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


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _unwritable(path: Path, error: OSError) -> RecordingError:
    return RecordingError(f"{path.parent.name}/{path.name}: the recording cannot be written ({error.strerror})")
