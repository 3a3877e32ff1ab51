"""A ledger's copy in a job's output folder: whole numbered files, each a ledger of its own.

A node may be taken away with its disk at any time. What a job has mounted outlives it, but takes neither appends nor
renames; so what the ledger gained is written there as one more file, and a step that starts again reads them all.
"""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

from mmlu_pipe.engine.ledger import Ledger
from mmlu_pipe.errors import RunFolderError

__all__ = ["Checkpoints", "go_on_from"]

_NAME = re.compile(r"ledger-(\d{6})\.jsonl")
_log = logging.getLogger("mmlu_pipe.engine")


class Checkpoints:
    """The numbered files of one folder; safe to share between threads.

    Args:
        ledger: takes in what the folder has, and is copied there.
        folder: where the files are; it need not exist.
        every: finished lines between one file and the next.

    Raises:
        RunFolderError: a file is of another run, or cannot be read.
    """

    def __init__(self, ledger: Ledger, folder: Path, every: int) -> None:
        self._ledger = ledger
        self._folder = folder
        self._every = every
        self._lock = threading.Lock()
        self._lines = 0
        known = _files(folder)
        for path in known:
            ledger.take_in(path)
        self._number = int(known[-1].stem[-6:]) if known else 0
        self._copied = ledger.size

    def count(self) -> None:
        """Note that a line was finished; write a file when it is time."""
        with self._lock:
            self._lines += 1
            due = self._lines % self._every == 0
        if due:
            self.write()

    def write(self) -> None:
        """Write what the ledger gained since; a folder that takes no file is warned of, and the run goes on."""
        with self._lock:
            if self._ledger.size == self._copied:
                return
            self._number += 1  # also after a failure: a file that is there in part is left alone
            path = self._folder / f"ledger-{self._number:06}.jsonl"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._copied = self._ledger.copy(self._copied, path)
            except OSError as error:
                _log.warning(
                    "%s: the checkpoint cannot be written (%s); the next one will hold it", path, error.strerror
                )


def go_on_from(ledger: Ledger, folder: Path) -> None:
    """Take in what an earlier job has finished, and the ledger has not; nothing is written to the job's folder.

    It comes after the own checkpoints, so that it is in the next of them: they alone are enough to go on from again.

    Raises:
        RunFolderError: a file is of another run or cannot be read, or there is none.
    """
    files = _files(folder)
    if not files:
        raise RunFolderError(
            f"{folder}: holds no checkpoints to go on from; name another job, or leave --resume-from out", path=folder
        )
    own = ledger.finished()
    for path in files:
        ledger.take_in(path, but=own)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("ledger-*.jsonl") if _NAME.fullmatch(path.name))
