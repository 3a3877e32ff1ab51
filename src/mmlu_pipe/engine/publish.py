"""The files that a run leaves: made from the ledger in the order of the dataset, each by one sequential write.

They need no append, rename or lock of the place where they are written: mounted cloud storage refuses those.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import heapq
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mmlu_pipe.engine.ledger import Fate, Record
from mmlu_pipe.jsonl import dump_line
from mmlu_pipe.records import ERROR_KEY, LineAnswer
from mmlu_pipe.runfolder import unwritable

__all__ = ["Outputs", "publish", "to_record"]

_BUFFER = 1 << 20


def to_record(answer: LineAnswer, *, final: bool = True) -> Record:
    """A line's fate as a ledger keeps it; one that is not final is asked again when the run goes on."""
    fate: Fate = "stopped" if not final else "output" if answer.error is None else "errors"
    more = answer.outputs or {} if answer.error is None else {ERROR_KEY: answer.error.to_json()}
    calls = b"".join(dump_line(call.to_json()) for call in answer.calls)
    return Record(answer.line_number, fate, dump_line(answer.line | more), calls)


@dataclass(frozen=True)
class Outputs:
    """Where a run's files go.

    Attributes:
        output: the answered lines.
        errors: the others.
        calls: the model calls.
        bom: whether the lines' files begin with a byte-order mark.
    """

    output: Path
    errors: Path
    calls: Path
    bom: bool = False

    def check(self) -> None:
        """Refuse, before anything is paid for, places that cannot be written to; files that are there stay.

        Raises:
            RunFolderError: naming the first of them.
        """
        for path in (self.output, self.errors, self.calls):
            with _named(path, exit_code=2):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    path.open("wb").close()
                elif path.is_dir() or not os.access(path, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def publish(records: Iterable[Record], not_run: Iterator[Record], outputs: Outputs) -> None:
    """Write the answered lines, the others, and the model calls.

    Args:
        records: the fates of lines, by line number.
        not_run: those of the lines that the run did not come to, by line number.
        outputs: where to.

    Raises:
        RunFolderError: a file cannot be written.
    """
    paths = (outputs.output, outputs.errors, outputs.calls)
    with contextlib.ExitStack() as stack:
        to_output, to_errors, to_calls = (stack.enter_context(_Sequential(path)) for path in paths)
        if outputs.bom:
            to_output.write(codecs.BOM_UTF8)
            to_errors.write(codecs.BOM_UTF8)
        first = next(not_run, None)
        rest = () if first is None else itertools.chain((first,), not_run)
        whole = heapq.merge(records, rest, key=lambda record: record.number) if rest else records
        for record in whole:
            (to_output if record.fate == "output" else to_errors).write(record.line)
            to_calls.write(record.calls)


class _Sequential:
    """A file that is written anew, from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _named(path):
            self._handle = path.open("wb", buffering=_BUFFER)

    def write(self, content: bytes) -> None:
        try:
            self._handle.write(content)
        except OSError as error:
            raise unwritable(self._path, error.strerror) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        with _named(self._path):
            self._handle.close()


@contextlib.contextmanager
def _named(path: Path, exit_code: int = 1) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error.strerror, exit_code=exit_code) from error
