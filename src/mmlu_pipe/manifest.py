"""`manifest.json`: what a run was, so that it can be told apart and repeated; no host, no deployment, no secret."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmlu_pipe import __version__
from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.hashing import sha256_file, sha256_folder
from mmlu_pipe.records import JsonObject

__all__ = ["Manifest"]

_PACKAGES = ("guidance", "openai", "vcrpy", "azure-identity")


class Manifest:
    """The manifest of one run, written at its start and again at its end.

    Args:
        path: where it is kept.
        config: the options.
        inputs: name → input file or folder of recordings.
    """

    def __init__(self, path: Path, config: RunConfig, inputs: Mapping[str, Path]) -> None:
        self._path = path
        self._value: JsonObject = {
            "format": 1,
            "status": "running",
            "started": _now(),
            "finished": None,
            "options": _options(config),
            "inputs": {name: _described(source) for name, source in inputs.items()},
            "outputs": {},
            "versions": {"python": platform.python_version(), "mmlu-pipe": __version__}
            | {name: importlib.metadata.version(name) for name in _PACKAGES},
            "run": {},
            "error": None,
        }
        self.write()

    def finish(self, status: str, outputs: list[Path], facts: JsonObject, error: BaseException | None) -> None:
        """Add what came of it, and write."""
        self._value |= {
            "status": status,
            "finished": _now(),
            "outputs": {path.name: sha256_file(path) for path in outputs if path.is_file()},
            "run": facts,
            "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
        }
        self.write()

    def write(self) -> None:
        """Replace the file as a whole.

        Raises:
            RunFolderError: it cannot be written.
        """
        temporary = self._path.with_name(".manifest.json.new")
        text = json.dumps(self._value, indent=2, ensure_ascii=False) + "\n"
        try:
            # A file name that is no text in this locale holds lone surrogates.
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
            temporary.replace(self._path)
        except OSError as error:
            failed = RunFolderError(f"{self._path}: cannot be written ({error.strerror})", path=self._path)
            failed.exit_code = 1  # the folder was fine a moment ago: the disk is full, or gone
            raise failed from error


def _options(config: RunConfig) -> JsonObject:
    """The options with the names of files and folders, not their places on this machine."""

    def shown(value: Any) -> Any:
        return value.name if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value

    found = {field.name: shown(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return found | {name: Path(found[name]).name for name in ("dataset", "guidance_program")}


def _described(source: Path) -> JsonObject:
    digest = sha256_folder(source, "*.yaml") if source.is_dir() else sha256_file(source)
    return {"name": source.name, "sha256": digest}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
