"""The files of a cassette: vcrpy's format, one YAML file a shard, read with vcrpy's own safe loader.

An interaction has one key that vcrpy does not know and ignores: `occurrence`, how many equal requests its line made
before, where that is not 0. It stands first, so that an item that was cut off never passes for another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.index import Span, block_spans, ends_whole, item_spans, may_be_torn, shard_name
from mmlu_pipe.recording.interactions import UNREADABLE, Exchange, read_interaction
from mmlu_pipe.recording.lock import locked
from mmlu_pipe.records import JsonObject

__all__ = ["HEADER", "Exchange", "Shard", "append_item", "dump_item", "parse_item", "parse_shard", "read_content"]
__all__ += ["read_shard", "shard_name", "unwritable"]

HEADER = b"version: 1\ninteractions:\n"  # `version` stands first, so that an exchange is one appended item

_ENDLESS = re.compile(rb"(?:[\[{][^\[\]{}]{0,40}){1000}|(?:[-?:] ){1000}")  # libyaml overflows the stack of the process


@dataclass(frozen=True)
class Shard:
    """One file as it was read.

    Attributes:
        size, whole: its bytes, and those up to the end of the last whole item; fewer where a killed run left a part.
        blank: whether it has no content, which is as good as no file (in vcrpy, too).
        ours: whether an item can be appended to it; a file that vcrpy or a person wrote is never changed.
        items: the chat completions: (exchange, its occurrence where the item says it).
        numbers: which item of the file each of them is, from 1.
        spans: where each of them stands; empty where they cannot be read one by one.
        passed_over: how many further items there are, of something else.
    """

    size: int
    whole: int
    blank: bool
    ours: bool
    items: tuple[tuple[Exchange, int | None], ...] = ()
    numbers: Sequence[int] = ()
    spans: tuple[Span, ...] = ()
    passed_over: int = 0


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
        RecordingError: it is no cassette of vcrpy's format; names the file, and the line or item.
    """
    size = len(content)
    if len(content) < len(HEADER) and HEADER.startswith(content):  # also where it is empty
        return Shard(size, 0, blank=True, ours=True)
    if not content.strip():
        return Shard(size, size, blank=True, ours=False)
    if _ENDLESS.search(content):
        raise RecordingError(f"{path}: is no cassette (nested too deeply); restore or remove the file")
    ours = _parse_ours(content)
    if ours is not None:
        return ours
    raw = _interactions(path, content)
    items: dict[int, tuple[Exchange, int | None]] = {}
    for number, item in enumerate(raw, start=1):
        try:
            if (found := read_interaction(item)) is not None:
                items[number] = found
        except UNREADABLE as error:
            raise RecordingError(
                f"{path}: interaction {number} is no readable recording ({type(error).__name__}: {error}); restore or "
                "remove it"
            ) from error
    spans = _spans_of_others(content, raw)
    return Shard(
        size,
        size,
        blank=False,
        ours=False,
        items=tuple(items.values()),
        numbers=tuple(items),
        spans=tuple(spans[number - 1] for number in items) if spans else (),
        passed_over=len(raw) - len(items),
    )


def parse_item(piece: bytes) -> tuple[Exchange, int | None]:
    """Read one chat completion from its bytes.

    Raises:
        ValueError: they are not one.
    """
    try:
        (item,) = _load_items(piece)
        found = read_interaction(item)
    except UNREADABLE as error:
        raise ValueError("no item") from error
    if found is None:
        raise ValueError("no chat completion")
    return found


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
        with locked(path.parent), path.open("ab", buffering=0) as handle:
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
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RecordingError:
    """The error of a shard that cannot be written."""
    return RecordingError(f"{path.parent.name}/{path.name}: the recording cannot be written ({error.strerror})")


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
    numbers = range(1, len(items) + 1)
    return Shard(len(content), whole, False, ours, tuple(items), numbers, tuple(spans))


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
