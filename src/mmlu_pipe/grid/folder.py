"""The folder of a sweep: `sweep.json`, and a run folder for each cell; only the same sweep goes on in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any

from mmlu_pipe.config import FREE_OPTIONS, RunConfig
from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.grid.cells import Axis
from mmlu_pipe.grid.result import Sweep
from mmlu_pipe.records import JsonObject
from mmlu_pipe.runfolder import alone, make_folder, refuse_another_run, unwritable

__all__ = ["SweepFolder"]

_FORMAT = 1
_NAME = "sweep.json"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep.

    Attributes:
        path: the folder.
        asked: what decides the answers of its cells: axes, and the other options.
    """

    path: Path
    asked: JsonObject

    @classmethod
    @contextmanager
    def open(cls, path: Path, base: RunConfig, axes: Sequence[Axis]) -> Iterator[SweepFolder]:
        """The folder, which no other process uses meanwhile; a new one in which nothing began is taken back.

        Args:
            path: a new or empty folder, or that of the same sweep.
            base: the options of all cells.
            axes: what varies.

        Raises:
            RunFolderError: it holds another sweep, saying in what that differs, or other files; or it is in use, or
                cannot be made.
        """
        varied = {axis.key for axis in axes}
        asked: JsonObject = {
            "over": [str(axis) for axis in axes],
            "options": {
                field.name: _shown(getattr(base, field.name))
                for field in fields(RunConfig)
                if field.name not in FREE_OPTIONS and field.name not in varied
            },
        }
        created = make_folder(path)
        with alone(path):
            found = cls(path, asked)
            found._refuse_another()
            try:
                yield found
            except BaseException:
                if created and not any(path.iterdir()):
                    path.rmdir()
                raise

    def begin(self) -> None:
        """Write down what was asked for, where no sweep has begun yet.

        Raises:
            RunFolderError: it cannot be written.
        """
        if not (self.path / _NAME).exists():
            self._write({"status": "running", "cells": []}, exit_code=2)

    def write(self, found: Sweep) -> None:
        """Write down what came of it; of errors only their type, as a message may name the deployment's host.

        Raises:
            RunFolderError: it cannot be written.
        """
        cells = [cell.to_json() | {"error": cell.error and type(cell.error).__name__} for cell in found.cells]
        self._write({"status": found.status, "cells": cells})

    def _write(self, results: JsonObject, *, exit_code: int = 1) -> None:
        """Replace `sweep.json` as a whole.

        Raises:
            RunFolderError: it cannot be written.
        """
        target = self.path / _NAME
        temporary = self.path / f".{_NAME}"
        text = json.dumps({"format": _FORMAT, **self.asked, **results}, indent=2, ensure_ascii=False) + "\n"
        try:
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
            temporary.replace(target)
        except OSError as error:
            raise unwritable(target, error.strerror, exit_code=exit_code) from error

    def _refuse_another(self) -> None:
        path = self.path / _NAME
        others = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
        if not others:
            return
        if _NAME not in others:
            told = ", ".join(others[:3])
            raise RunFolderError(
                f"{self.path}: holds other files ({told}); give --output-dir a new or empty folder", path=self.path
            )
        try:
            value: JsonObject = json.loads(path.read_text(encoding="utf-8"))
            if value["format"] != _FORMAT:
                raise ValueError("of another version of mmlu-pipe")
            old = {"--over": value["over"], **value["options"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{path}: cannot be read as that of a sweep ({error}); give --output-dir a new folder", path=path
            ) from error
        new = {"--over": self.asked["over"], **self.asked["options"]}
        refuse_another_run(self.path, old, new, what="sweep")


def _shown(value: Any) -> Any:
    """Names of files and folders, not their places on this machine."""
    if isinstance(value, PurePath) or (isinstance(value, str) and "/" in value):
        return PurePath(value).name
    return sorted(value) if isinstance(value, tuple) else value  # their order decides nothing
