"""The code of a job: the package itself, as a folder whose only entry is `mmlu_pipe/`.

Line ends are normalised, so a wheel, a checkout and a checkout on Windows give the same bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mmlu_pipe.hashing import sha256_json

__all__ = ["snapshot_files", "snapshot_hash", "write_snapshot"]

_PACKAGE = Path(__file__).resolve().parents[2]

_NOT_SENT = frozenset(
    (
        *("__main__", "_bundled", "backends/azureml", "cli", "checkup", "pytest_plugin"),
        *("recording/server", "proving", "rehearsal", "serve"),
        *("reporting/console", "reporting/export", "reporting/html", "reporting/progress"),
    )
)
"""Modules and folders of the package that no job imports: a change of theirs makes no new version of a component."""


def snapshot_files() -> dict[str, Path]:
    """Path inside of the snapshot → the file here; in the order of the paths."""
    found = {}
    for path in _PACKAGE.rglob("*.py"):
        inside = path.relative_to(_PACKAGE)
        if not _NOT_SENT & {part.as_posix() for part in (inside.with_suffix(""), *inside.parents)}:
            found[f"{_PACKAGE.name}/{inside.as_posix()}"] = path
    return dict(sorted(found.items()))


def snapshot_hash() -> str:
    """Hex SHA-256 over the names and bytes of the snapshot."""
    return sha256_json([[name, hashlib.sha256(_content(path)).hexdigest()] for name, path in snapshot_files().items()])


def write_snapshot(folder: Path) -> None:
    """Write the snapshot into a folder, which should be empty.

    Raises:
        OSError: it cannot be written.
    """
    for name, path in snapshot_files().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_content(path))


def _content(path: Path) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n")
