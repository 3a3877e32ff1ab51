"""What a run has finished so far: a check-summed log from which the same command goes on.

A ledger is a JSONL file. Its first record says which run it is of; after it comes one record for each line, in the
order in which they ended:

    {"line":17,"fate":"output","bytes":[812,1434],"crc32":"9a0c3f21"}     the head
    {"question": …, "zero_shot_choice": 2}                                the line as it will be published
    {"line_number":17,"index":0,"request_hash":…}                         its model calls, as many as there were

A record is appended in one write, so that a killed run leaves at most one part of one, at the end. Of two records of a
line the later one holds. Only where records stand is kept in memory: 8 bytes a line.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import threading
import zlib
from array import array
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self

from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.jsonl import dump_line
from mmlu_pipe.records import JsonObject
from mmlu_pipe.runfolder import refuse_another_run, unwritable

__all__ = ["Fate", "Ledger", "Record"]

Fate = Literal["run", "output", "errors", "stopped"]
"""`run`: which run it is; `stopped`: a line that a stop cut short, which is not finished."""

_HEAD = re.compile(
    rb'\{"line":(\d{1,18}),"fate":"(run|output|errors|stopped)","bytes":\[(\d{1,18}),(\d{1,18})\],"crc32":"([0-9a-f]{8})"\}\n'
)
_BEGIN = b'{"line":'
_BUFFER = 1 << 20
_log = logging.getLogger("mmlu_pipe.engine")


class Record(NamedTuple):
    """One line's fate.

    Attributes:
        number: line number of the dataset; 0 for the record that says which run it is.
        fate: where the line belongs.
        line: what is published there, with its line feed.
        calls: the model calls, each with its line feed.
    """

    number: int
    fate: Fate
    line: bytes
    calls: bytes

    def to_bytes(self) -> bytes:
        """The record as it stands in a ledger."""
        crc = zlib.crc32(self.calls, zlib.crc32(self.line, zlib.crc32(b"%d %s" % (self.number, self.fate.encode()))))
        sizes = b"%d,%d" % (len(self.line), len(self.calls))
        head = b'{"line":%d,"fate":"%s","bytes":[%s],"crc32":"%08x"}\n' % (self.number, self.fate.encode(), sizes, crc)
        return b"".join((head, self.line, self.calls))

    @classmethod
    def read(cls, handle: BinaryIO) -> Record | None:
        """The next record; None at the end, and where no whole and sound one stands."""
        found = _HEAD.fullmatch(handle.readline(200))
        if found is None:
            return None
        line, calls = int(found[3]), int(found[4])
        payload = handle.read(line + calls)
        fate: Fate = found[2].decode()  # type: ignore[assignment]  # the pattern allows no other
        record = cls(int(found[1]), fate, payload[:line], payload[line:])
        return record if record.to_bytes() == found[0] + payload else None


class Ledger:
    """The finished lines of one run; safe to share between threads.

    Args:
        path: the file; it need not exist.
        run: gives what decides the answers, for a salt (hashing.salted) that the ledger chooses.

    Attributes:
        size: bytes of the file.

    Raises:
        RunFolderError: it is of another run, saying what differs; or it cannot be read or written.
    """

    def __init__(self, path: Path, run: Callable[[str], JsonObject]) -> None:
        self._path = path
        self._run = run
        self._head = b""
        self._lock = threading.Lock()
        self._places = array("q")  # by line number: offset of its record, negative where the line failed; 0 for none
        self._stopped: dict[int, int] = {}
        self.size = 0
        try:
            self._handle = path.open("a+b", buffering=0)
            try:
                self._load()
            except BaseException:
                self._handle.close()
                raise
        except OSError as error:
            raise self._failed(error, exit_code=2) from error  # nothing was asked yet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __contains__(self, number: int) -> bool:
        """Whether a line is finished."""
        return number < len(self._places) and self._places[number] != 0

    def knows(self, number: int) -> bool:
        """Whether there is a record of a line, be it finished or cut short."""
        return number in self or number in self._stopped

    def append(self, record: Record) -> None:
        """Keep what became of a line, at once.

        Raises:
            RunFolderError: it cannot be written; the ledger is as before.
        """
        content = record.to_bytes()
        with self._lock:
            start = self.size
            rest = memoryview(content)
            try:
                while rest:
                    rest = rest[self._handle.write(rest) :]
            except (OSError, ValueError) as error:  # ValueError: a thread outlived its run
                with suppress(OSError, ValueError):
                    self._handle.truncate(start)
                raise self._failed(error) from error
            self.size += len(content)
            self._place(record, start)

    def reopen_failed(self) -> int:
        """Forget, for this process, the lines that failed, so that they are asked again; return how many."""
        count = 0
        for number, place in enumerate(self._places):
            if place < 0:
                self._places[number] = 0
                count += 1
        return count

    def copy(self, start: int, path: Path) -> int:
        """Write what was appended from an offset on as a ledger of its own; return the offset that it ends at.

        Raises:
            OSError: it cannot be written.
        """
        end = self.size
        with self._path.open("rb") as source, path.open("wb") as copy:
            copy.write(self._head)
            source.seek(max(start, len(self._head)))
            while (left := end - source.tell()) > 0 and (piece := source.read(min(left, _BUFFER))):
                copy.write(piece)
        return end

    def finished(self) -> frozenset[int]:
        """The line numbers of all finished lines."""
        return frozenset(number for number, place in enumerate(self._places) if place)

    def take_in(self, path: Path, *, but: Container[int] = ()) -> None:
        """Append the lines of another ledger of the same run, but those; one that has no sound beginning has none.

        Raises:
            RunFolderError: it is of another run, or cannot be read.
        """
        try:
            with path.open("rb", buffering=_BUFFER) as handle:
                records = _sound(handle)
                if (first := next(records, None)) is None or first[0] or not self._is_head(first[1]):
                    _log.warning("%s: is no whole checkpoint; its lines are asked again", path)
                    return
                for _, record in records:
                    if record.number not in but:
                        self.append(record)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read ({error.strerror})", path=path) from error

    def records(self) -> Iterator[Record]:
        """What became of each line, in the order of the dataset.

        Raises:
            RunFolderError: it cannot be read, or was changed by somebody else.
        """
        try:
            with self._path.open("rb", buffering=_BUFFER) as handle:
                for number in range(max(len(self._places), max(self._stopped, default=0) + 1)):
                    place = self._places[number] if number < len(self._places) else 0
                    place = abs(place) or self._stopped.get(number, 0)
                    if place:
                        handle.seek(place)
                        record = Record.read(handle)
                        if record is None or record.number != number:
                            raise RunFolderError(f"{self._path}: was changed by another program", path=self._path)
                        yield record
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file; what a thread still tries to append is refused."""
        with self._lock:
            self._handle.close()

    def _load(self) -> None:
        damaged = 0
        with self._path.open("rb", buffering=_BUFFER) as handle:
            for offset, record in _sound(handle):
                if not self._head:
                    if not self._is_head(record):
                        raise RunFolderError(
                            f"{self._path}: its beginning is damaged, so it cannot be told whose lines these are; "
                            "restore it, or give --output-dir a new folder",
                            path=self._path,
                        )
                    self._head = record.to_bytes()
                damaged += offset - self.size
                self._place(record, offset)
                self.size = offset + len(record.to_bytes())
        torn = os.fstat(self._handle.fileno()).st_size - self.size
        if damaged or torn:
            told = "%s: %d bytes are no whole record, as a killed run leaves them; those lines are asked again"
            _log.warning(told, self._path, damaged + torn)
            self._handle.truncate(self.size)
        if not self._head:
            salt = secrets.token_hex(8)
            head = Record(0, "run", dump_line(self._run(salt) | {"salt": salt}), b"")
            self.append(head)
            self._head = head.to_bytes()

    def _is_head(self, record: Record) -> bool:
        """Whether a record says which run it is; refuse it if that is another one."""
        if record.fate != "run":
            return False
        old = json.loads(record.line)
        refuse_another_run(self._path.parent, old, self._run(old["salt"]) | {"salt": old["salt"]})
        return True

    def _place(self, record: Record, offset: int) -> None:
        if record.fate == "stopped":
            self._stopped[record.number] = offset
        elif record.fate != "run":
            missing = record.number + 1 - len(self._places)
            if missing > 0:
                self._places.extend([0] * missing)
            self._places[record.number] = offset if record.fate == "output" else -offset

    def _failed(self, error: Exception, *, exit_code: int = 1) -> RunFolderError:
        reason = error.strerror if isinstance(error, OSError) else "the run has ended"
        return unwritable(self._path, reason, exit_code=exit_code)


def _sound(handle: BinaryIO) -> Iterator[tuple[int, Record]]:
    """The records with their offsets; what is damaged is passed over."""
    while True:
        offset = handle.tell()
        record = Record.read(handle)
        if record is not None:
            yield offset, record
            continue
        handle.seek(offset + 1)
        while (at := (text := handle.readline()).find(_BEGIN)) < 0:
            if not text:
                return
        handle.seek(at - len(text), os.SEEK_CUR)
