"""Files of a cassette written anew, all of them or none, whenever the process is killed.

The new files are written into a folder of their own, which one rename makes valid; then they are moved into place. Who
opens the cassette after a kill ends the moving; where the folder cannot be written, they are read where they are.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mmlu_pipe.recording.lock import locked
from mmlu_pipe.recording.shards import HEADER, unwritable

__all__ = ["replace_shards", "shard_paths"]

_WRITING = ".mmlu_pipe_writing_"
_VALID = ".mmlu_pipe_order"


def shard_paths(folder: Path) -> dict[str, Path]:
    """The shards of a cassette by their names without ending, in order; some may be elsewhere after a kill."""
    waiting: dict[str, Path] = {}
    if (folder / _VALID).exists():
        with locked(folder):
            waiting = _settle(folder)
    found = {path.stem: path for path in folder.glob("*.yaml")} | waiting
    return {stem: found[stem] for stem in sorted(found)}


def replace_shards(folder: Path, files: Mapping[str, list[bytes]]) -> dict[str, Path]:
    """Write shards anew by their names without ending, all or none; those where nothing is left are removed.

    The caller holds the folder's lock.

    Returns:
        Those that are written, and cannot be moved into place now; as _settle does.

    Raises:
        RecordingError: one cannot be written; all are as before.
    """
    writing = folder / f"{_WRITING}{uuid.uuid4().hex}"
    try:
        _remove_unfinished(folder)
        writing.mkdir()
        for stem, pieces in files.items():
            (writing / f"{stem}.yaml").write_bytes(b"".join([HEADER, *pieces]) if pieces else b"")
        _settle(folder)
        writing.rename(folder / _VALID)
    except OSError as error:
        shutil.rmtree(writing, ignore_errors=True)
        raise unwritable(folder / f"{next(iter(files))}.yaml", error) from error
    return _settle(folder)


def _settle(folder: Path) -> dict[str, Path]:
    """Move files that are valid into place, and return those that cannot be moved, by their names without ending.

    An empty one takes the place of a file that is to go. Without locks, another process may do the same at a time.
    """
    valid = folder / _VALID
    waiting: dict[str, Path] = {}
    if not valid.is_dir():
        return waiting
    for path in sorted(valid.glob("*.yaml")):
        try:
            path.replace(folder / path.name)
        except FileNotFoundError:  # somebody else moved it
            continue
        except OSError:
            waiting[path.stem] = path
    with suppress(OSError):
        for path in sorted(folder.glob("*.yaml")):
            if path.stat().st_size == 0:
                path.unlink()
        valid.rmdir()
    return waiting


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left before it was valid; first by a rename, so that it never becomes so."""
    for path in folder.glob(f"{_WRITING}*"):
        with suppress(OSError):
            shutil.rmtree(path.rename(f"{path}_"))
