"""The folder of one run: what is in it, and that nothing else ever gets overwritten."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.records import JsonObject, Score

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder.

    Attributes:
        path: the folder.
        created: whether this process made it.
    """

    path: Path
    created: bool = False

    @classmethod
    def create(cls, output_dir: Path | None, name: str) -> RunFolder:
        """The folder for a new run: `output_dir`, or a new one under `runs/` named after the run and the time.

        Raises:
            RunFolderError: it holds files already, or cannot be made.
        """
        path = output_dir or _fresh(Path("runs"), name)
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path}: is a file; give --output-dir a new or empty folder", path=path)
        if path.is_dir() and (found := sorted(entry.name for entry in path.iterdir())):
            what = "holds a run already" if "manifest.json" in found else f"holds other files ({', '.join(found[:3])})"
            raise RunFolderError(f"{path}: {what}; give --output-dir a new or empty folder", path=path)
        created = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be made ({error.strerror})", path=path) from error
        return cls(path, created)

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

    def read_score(self) -> Score | None:
        """The score, None where the run has none."""
        if not self.score.is_file():
            return None
        value: JsonObject = json.loads(self.score.read_text(encoding="utf-8"))
        return Score.from_json(value)

    def discard(self) -> None:
        """Take back a folder in which no line was ever written."""
        if self.output.exists():
            return
        if self.created:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for entry in self.path.iterdir():
                entry.unlink(missing_ok=True)


def _fresh(parent: Path, name: str) -> Path:
    stamp = f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    candidates = (parent / (stamp if number == 1 else f"{stamp}-{number}") for number in range(1, 1000))
    return next(path for path in candidates if not path.exists())
