"""The folder of one run: what is in it, and that nothing else ever gets overwritten."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.records import JsonObject, Score

__all__ = ["LEFT_OVERS", "RunFolder", "alone", "fresh_folder", "make_folder", "refuse_another_run", "unwritable"]

LEFT_OVERS = (".manifest.json.", ".fetch-")
"""How the names begin of what a process leaves that was killed while it wrote a manifest, or fetched from a job."""

_DIGEST = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder.

    Attributes:
        path: the folder.
        created: whether this process made it.
        fresh: whether it held no run.
    """

    path: Path
    created: bool = False
    fresh: bool = False

    @classmethod
    @contextmanager
    def open(cls, output_dir: Path | None, name: str) -> Iterator[RunFolder]:
        """The folder of a run, which no other process uses meanwhile; one that no run began in is taken back.

        Args:
            output_dir: a new or empty folder, or that of a run to go on with; None makes a new one under `runs/`.
            name: what a new one is named after, beside the time.

        Raises:
            RunFolderError: it holds other files, is in use, or cannot be made.
        """
        path = output_dir or fresh_folder(name)
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path}: is a file; give --output-dir a new or empty folder", path=path)
        created = make_folder(path)
        with alone(path):
            found = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(LEFT_OVERS))
            if found and "manifest.json" not in found:
                told = ", ".join(found[:3])
                raise RunFolderError(
                    f"{path}: holds other files ({told}); give --output-dir a new or empty folder", path=path
                )
            folder = cls(path, created, fresh=not found)
            folder.tidy()
            try:
                yield folder
            except BaseException:
                if not folder.manifest.exists():
                    folder.discard()
                raise

    @property
    def manifest(self) -> Path:
        """Options, hashes, versions and what was settled."""
        return self.path / "manifest.json"

    @property
    def output(self) -> Path:
        """Answered lines."""
        return self.path / "output.jsonl"

    @property
    def errors(self) -> Path:
        """Lines without an answer."""
        return self.path / "errors.jsonl"

    @property
    def calls(self) -> Path:
        """Every model call."""
        return self.path / "calls.jsonl"

    @property
    def score(self) -> Path:
        """The result of component 2."""
        return self.path / "score.json"

    @property
    def ledger(self) -> Path:
        """Finished lines, while there is something left to do."""
        return self.path / "ledger.jsonl"

    def read_score(self) -> Score | None:
        """The score, None where the run has none."""
        if not self.score.is_file():
            return None
        value: JsonObject = json.loads(self.score.read_text(encoding="utf-8"))
        return Score.from_json(value)

    def tidy(self) -> None:
        """Remove what killed processes left; for the one that holds the folder's lock."""
        for entry in self.path.iterdir():
            if entry.name.startswith(LEFT_OVERS) and not entry.is_symlink():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)

    def discard(self) -> None:
        """Take back a folder in which no line was ever written."""
        if not self.fresh or self.output.exists():
            return
        if self.created:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for entry in self.path.iterdir():
                entry.unlink(missing_ok=True)


@contextmanager
def alone(path: Path, *, patient: bool = False) -> Iterator[None]:
    """Hold the folder's lock; a file system or a platform that has none is used without it.

    Args:
        path: the folder.
        patient: wait for another process that holds it.

    Raises:
        RunFolderError: another process holds it.
    """
    handle = None
    try:
        with suppress(ImportError, OSError):
            import fcntl

            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX if patient else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFolderError(
                    f"{path}: another run is using this folder; wait for it, or give --output-dir another one",
                    path=path,
                ) from error
        yield
    finally:
        if handle is not None:
            os.close(handle)


def fresh_folder(name: str) -> Path:
    """A folder under `runs/` that is not there yet, named after what it is for and the time."""
    stamp = f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    candidates = (Path("runs", stamp if number == 1 else f"{stamp}-{number}") for number in range(1, 1000))
    return next(path for path in candidates if not path.exists())


def make_folder(path: Path) -> bool:
    """Make a folder with those above it; return whether it was not there before.

    Raises:
        RunFolderError: it cannot be made.
    """
    created = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a ValueError for a NUL in the name
        raise RunFolderError(f"{path}: cannot be made ({getattr(error, 'strerror', error)})", path=path) from error
    return created


def unwritable(path: Path, reason: str | None, *, exit_code: int = 1) -> RunFolderError:
    """The error for a file that cannot be written.

    Args:
        path: the file.
        reason: what the system says.
        exit_code: 1 once a run goes on, when the disk is full or gone; 2 where another place is to be named.
    """
    failed = RunFolderError(f"{path}: cannot be written ({reason})", path=path)
    failed.exit_code = exit_code
    return failed


def refuse_another_run(folder: Path, old: JsonObject, new: JsonObject, *, what: str = "run") -> None:
    """Refuse to go on with a run, or with what else a folder holds, whose answers were decided by other things.

    Args:
        folder: the run folder.
        old: name → value of what decided them; digests stand for what must not be told.
        new: the same of the run that is asked for.
        what: the word for it.

    Raises:
        RunFolderError: naming everything that differs.
    """
    told = [_difference(name, old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)]
    if told:
        raise RunFolderError(
            f"{folder}: holds another {what}, which differs in {'; '.join(told)}\n"
            "  repeat the command as it was to go on with it, or give --output-dir a new folder",
            path=folder,
        )


def _difference(name: str, old: Any, new: Any) -> str:
    digests = all(value is None or (isinstance(value, str) and _DIGEST.fullmatch(value)) for value in (old, new))
    return name if digests else f"{name} (it was {old!r}, now {new!r})"
