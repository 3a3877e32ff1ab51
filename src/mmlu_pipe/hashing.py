"""SHA-256 of files, texts and JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "salted", "sha256_file", "sha256_folder", "sha256_json", "sha256_text"]


def canonical_json(value: Any) -> str:
    """One spelling for equal JSON values: sorted keys, no blanks, non-ASCII kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_text(text: str) -> str:
    """Hex SHA-256 of the UTF-8 bytes of `text` (lone surrogates kept as such)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`."""
    return sha256_text(canonical_json(value))


def salted(text: str, salt: str) -> str:
    """A short digest by which a name can be compared with another, without being told."""
    return sha256_text(f"{salt}:{text}")[:16]


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_folder(folder: Path, pattern: str) -> str:
    """Hex SHA-256 over the names and bytes of the files of `folder` that match `pattern`, in name order."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file())
    return sha256_json([[name, sha256_file(folder / name)] for name in names])
