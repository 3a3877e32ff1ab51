"""A completed run whose files are as the run left them, with all that an export tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.jsonl import read_objects
from mmlu_pipe.records import JsonObject, Score
from mmlu_pipe.scoring.runs import CompletedRun, ScoredLine

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A run to export.

    Attributes:
        run: the run in its folder.
        manifest: the content of `manifest.json`.
        score: the content of `score.json`.
    """

    run: CompletedRun
    manifest: JsonObject
    score: Score

    @classmethod
    def read(cls, run_dir: Path) -> Source:
        """Read a run folder, and refuse one in which a file has changed.

        Raises:
            RunFolderError: it is no folder of a completed run, or a file of it is not as the manifest says.
            ConfigError: the score is of another version.
        """
        run = CompletedRun.read(run_dir)
        folder = run.folder
        manifest: JsonObject = json.loads(folder.manifest.read_text(encoding="utf-8"))
        left = manifest.get("outputs")
        for path in (folder.output, folder.errors, folder.calls, folder.score):
            found = sha256_file(path) if path.is_file() else None
            if not isinstance(left, dict) or found != left.get(path.name):
                raise RunFolderError(
                    f"{path}: is not as the run left it (manifest.json has another SHA-256); restore it", path=path
                )
        score = folder.read_score()
        if score is None:
            raise RunFolderError(f"{folder.score}: is not there; repeat the run's command to go on", path=run_dir)
        return cls(run, manifest, score)

    def lines(self) -> Iterator[tuple[ScoredLine, list[JsonObject]]]:
        """Yield the lines with their calls, in the order of the dataset.

        Raises:
            RunFolderError: the files do not fit together.
        """
        return self.run.lines_with_calls()

    def calls(self) -> Iterator[JsonObject]:
        """Yield the model calls in the order of the dataset."""
        path = self.run.folder.calls
        return (call for _, call in read_objects(path)) if path.is_file() else iter(())
