"""Where recordings stand in their files: spans of bytes, and a derived index of them in the user's cache folder.

The index spares a replay from parsing what it does not play. It is never part of a cassette, holds no text of one, and
may be deleted at any time: what it says of a file holds only for a file of the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

__all__ = ["Indexed", "Place", "Span", "block_spans", "ends_whole", "has_room"]
__all__ += ["Unused", "is_full", "item_spans", "load", "may_be_torn", "part_before", "part_of", "put", "read_piece"]
__all__ += ["save", "shard_name"]

_BEGIN = re.compile(rb"^-(?: |\Z)", re.MULTILINE)
_AFTER = re.compile(rb"^[^\s-]", re.MULTILINE)
_BLOCK = re.compile(rb"^interactions:\n(?=- )", re.MULTILINE)
_OCCURS = re.compile(rb"\A- occurrence: [0-9]+\n  ")
_CUT_OCCURS = re.compile(rb"- occurrence: [0-9]*\n? {0,2}")
_BEGINNINGS = (b"- request:\n    body: '{", b'- request:\n    body: "{')

_T = TypeVar("_T")
_FORMAT = 1
_KEPT = 100  # indexes in the cache folder
_WORTH_IT = 100_000  # bytes of a cassette


_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
_SCALAR = re.compile(rb"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^'"\n][^\n]*""", re.DOTALL)
_FORM = (  # of an item, around its scalars
    b"- request:\n    body: ",
    b"\n    headers: {}\n    method: ",
    b"\n    uri: ",
    b"\n  response:\n    body:\n      string: ",
    b"\n    headers:\n      Content-Type:\n      - ",
    b"\n    status:\n      code: ",
    b"\n      message: ",
    b"\n",
)
_PART = re.compile(r"(.+)-([0-9]{1,6})")
_MOST_ITEMS = 250  # of a shard, so that a diff can be reviewed
_MOST_BYTES = 1_500_000


class Span(NamedTuple):
    """Where an item stands in its file, and the check sum of its bytes."""

    offset: int
    length: int
    crc: int

    @classmethod
    def of(cls, offset: int, piece: bytes) -> Span:
        """The span of these bytes."""
        return cls(offset, len(piece), zlib.crc32(piece))


class Place(NamedTuple):
    """Where a recording stands; span is None in a file whose items cannot be read one by one."""

    stem: str
    number: int
    says: int | None
    span: Span | None


@dataclass(frozen=True)
class Unused:
    """Recordings that no request asked for.

    Attributes:
        count: how many.
        first: (file name, number of the item in it) of the first few.
    """

    count: int
    first: tuple[tuple[str, int], ...]


def has_room(count: int, size: int, length: int) -> bool:
    """Whether a shard takes one more item of so many bytes."""
    return count == 0 or (count < _MOST_ITEMS and size + length <= _MOST_BYTES)


def is_full(count: int, size: int) -> bool:
    """Whether a shard may have been left for a next part."""
    return count >= _MOST_ITEMS or size >= _MOST_BYTES // 2


def shard_name(text: str) -> str:
    """A file name without its ending that is safe everywhere: no path, no letter case, no device name."""
    name = re.sub(r"[^a-z0-9_-]+", "_", text.lower())[:80] or "default"
    return f"{name}_" if _RESERVED.fullmatch(name) else name


def part_of(stem: str) -> tuple[str, int]:
    """A shard's name and number, as if it were a part of one: `name`, `name-2`, `name-3`."""
    found = _PART.fullmatch(stem)
    return (found[1], int(found[2])) if found and int(found[2]) > 1 else (stem, 1)


def part_before(stem: str) -> str:
    """The name of the part before; empty before the first."""
    name, number = part_of(stem)
    return "" if number == 1 else name if number == 2 else f"{name}-{number - 1}"


def put(into: dict[tuple[str, int], _T], rows: Iterable[tuple[str, int | None, _T]]) -> list[_T]:
    """Put the items of a file under their keys: (request hash, occurrence where it is said, what to put).

    Returns:
        The items whose place another one has.
    """
    seen: Counter[str] = Counter()
    left: list[_T] = []
    for identity, says, value in rows:
        key = (identity, seen[identity] if says is None else says)
        if says is None:
            seen[identity] += 1
        elif key in into:  # of two that say the same, the later one is newer: a re-recording that was killed left both
            left.append(into[key])
            into[key] = value
            continue
        if into.setdefault(key, value) is not value:
            left.append(value)
    return left


def item_spans(content: bytes, start: int, end: int | None = None) -> tuple[Span, ...] | None:
    """The items of a block list that fills the part of a file; None where it does not begin with one."""
    end = len(content) if end is None else end
    begins = [found.start() for found in _BEGIN.finditer(content, start, end)]
    if (begins or [end])[0] != start:
        return None
    return tuple(Span.of(at, content[at:to]) for at, to in zip(begins, [*begins[1:], end], strict=False))


def block_spans(content: bytes) -> tuple[Span, ...]:
    """What look like the items of a cassette in block style, wherever its list stands."""
    block = _BLOCK.search(content)
    if block is None:
        return ()
    after = _AFTER.search(content, block.end())
    return item_spans(content, block.end(), after.start() if after else None) or ()


def read_piece(path: Path, span: Span) -> bytes | None:
    """The bytes of an item, None where the file has others there by now."""
    try:
        with path.open("rb", buffering=0) as handle:
            handle.seek(span.offset)
            piece = handle.read(span.length)
    except OSError:
        return None
    return piece if Span.of(span.offset, piece) == span else None


def may_be_torn(piece: bytes) -> bool:
    """Whether it is the beginning of an item as we write it, and not all of one."""
    if b"- occurrence: ".startswith(piece) or _CUT_OCCURS.fullmatch(piece):
        return True
    rest = _OCCURS.sub(b"- ", piece)
    if not any(rest.startswith(begin) or begin.startswith(rest) for begin in _BEGINNINGS):
        return False
    for literal in _FORM:
        if not rest.startswith(literal):
            return literal.startswith(rest)
        rest = rest[len(literal) :]
        if literal != b"\n":
            scalar = _SCALAR.match(rest)
            if scalar is None:
                return not rest or rest[:1] in b"'\""
            rest = rest[scalar.end() :]
    return False


def ends_whole(piece: bytes, status: int) -> bool:
    """Whether an item of ours that can be read lacks no more than its last line's end."""
    phrases = {known.value: known.phrase for known in HTTPStatus}
    return piece.rpartition(b"\n")[2] == f"      message: {phrases.get(status)}".encode()


class Indexed(NamedTuple):
    """What is known of a file without its texts.

    Attributes:
        size: its bytes.
        digest: their SHA-256.
        whole: as in shards.Shard, like the next two.
        blank: see there.
        ours: see there.
        passed_over: see there.
        items: (request hash, number in the file, occurrence where the item says it, span); a span is None where there
            are none.
    """

    size: int
    digest: str
    whole: int
    blank: bool
    ours: bool
    passed_over: int
    items: list[tuple[str, int, int | None, Span | None]]


def load(folder: Path) -> dict[str, Indexed]:
    """What the index says of a folder's files, by their names; nothing where it is missing, damaged or of old."""
    try:
        head, _, rest = _file(folder).read_bytes().partition(b"\n")
        if head != _head(rest):
            return {}
        return {name: _indexed(value) for name, *value in map(json.loads, rest.splitlines())}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def save(folder: Path, shards: Mapping[str, Indexed]) -> None:
    """Keep what was found, where the cassette is large enough for that to be of use; a failure is no error."""
    if sum(shard.size for shard in shards.values()) < _WORTH_IT:
        return
    rest = b"\n".join(
        json.dumps([name, *_row(shard)], separators=(",", ":")).encode() for name, shard in shards.items()
    )
    try:
        path = _file(folder)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}.new")
        try:
            temporary.write_bytes(_head(rest) + b"\n" + rest)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _forget(path.parent)
    except OSError:
        return


def _forget(folder: Path) -> None:
    """Remove the indexes that were written longest ago."""
    known = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    for path in known[:-_KEPT]:
        with suppress(OSError):
            path.unlink()


def _row(shard: Indexed) -> list[Any]:
    items = [[*row, *(span or ())] for *row, span in shard.items]
    return [*shard[:-1], items]


def _indexed(value: list[Any]) -> Indexed:
    size, digest, whole, blank, ours, passed_over, rows = value
    items = [(identity, number, says, Span(*span) if span else None) for identity, number, says, *span in rows]
    return Indexed(size, digest, whole, blank, ours, passed_over, items)


def _head(rest: bytes) -> bytes:
    """The first line of an index: no other code, and no other bytes, can have written the rest."""
    code = hashlib.sha256(str(_FORMAT).encode())
    for name in ("identity.py", "interactions.py", "shards.py", "index.py"):
        code.update(Path(__file__).with_name(name).read_bytes())
    return f"mmlu-pipe cassette index {code.hexdigest()} {hashlib.sha256(rest).hexdigest()}".encode()


def _file(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()
    return _cache() / "mmlu-pipe" / "cassettes" / f"{name}.jsonl"


def _cache() -> Path:
    """The folder of the user for what can be made again."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named and Path(named).is_absolute():
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OSError("no home folder") from error
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
