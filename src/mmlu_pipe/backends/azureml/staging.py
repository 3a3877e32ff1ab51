"""What goes up, written to a folder from which the SDK sends it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from mmlu_pipe.backends.azureml.snapshot import write_snapshot
from mmlu_pipe.backends.azureml.submission import Asset
from mmlu_pipe.errors import SubmissionBlocked
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.records import JsonObject

__all__ = ["changed", "stage", "written"]


def stage(asset: Asset, folder: Path) -> Path:
    """The document of an asset, with its file and its code beside it.

    Raises:
        SubmissionBlocked: the file has changed since it was hashed, or one cannot be read or written.
    """
    with _told(folder):
        if asset.source is not None:
            copy = folder / str(asset.document["path"])
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(asset.source, copy)
            if sha256_file(copy) != asset.sha256:
                raise changed(asset.source)
        if asset.code and not (folder / "code").exists():
            write_snapshot(folder / "code")
    return written(asset.document, folder / f"{asset.kind}.yml")


def written(document: JsonObject, path: Path) -> Path:
    """The file of a document.

    Raises:
        SubmissionBlocked: it cannot be written.
    """
    with _told(path):
        path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def changed(path: Path) -> SubmissionBlocked:
    """The error for a file that was saved since it was checked."""
    return _blocked(f"{path}: has changed since it was checked; run the command again")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise _blocked(f"{error.filename or path}: cannot be read or written ({reason})") from error


def _blocked(told: str) -> SubmissionBlocked:
    return SubmissionBlocked(f"not submitted:\n  {told}", (told,))
