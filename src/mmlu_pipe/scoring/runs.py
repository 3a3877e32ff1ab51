"""A run that has completed, read again: what it was, and what became of each of its lines."""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.jsonl import parse_line_numbers, read_objects
from mmlu_pipe.records import ERROR_KEY, JsonObject
from mmlu_pipe.runfolder import RunFolder
from mmlu_pipe.scoring.accuracy import Outcome, judge
from mmlu_pipe.scoring.calls import calls_by_line

__all__ = ["CompletedRun", "ScoredLine"]


@dataclass(frozen=True)
class ScoredLine:
    """A line of a run.

    Attributes:
        number: 1-based line of the dataset.
        line: the line, with the keys that the program added, or with its error.
        outcome: what became of it.
    """

    number: int
    line: JsonObject
    outcome: Outcome


@dataclass(frozen=True)
class CompletedRun:
    """A completed run in its folder.

    Attributes:
        folder: the run folder.
        options: the options of the run, as the manifest has them.
        dataset: name and SHA-256 of the dataset.
        program: name and SHA-256 of the guidance program.
        examples: name and SHA-256 of the examples that it showed; None without any.
        facts: what the run settled and counted.
        response_key: key of the responses, as they were scored.
        correct_key: key of the correct answers.
    """

    folder: RunFolder
    options: JsonObject
    dataset: tuple[str, str]
    program: tuple[str, str]
    examples: tuple[str, str] | None
    facts: JsonObject
    response_key: str
    correct_key: str

    @classmethod
    def read(cls, path: Path) -> CompletedRun:
        """Read what a run folder says of its run.

        Raises:
            RunFolderError: it is no run folder, or its run has not completed.
        """
        folder = RunFolder(path)
        manifest = _json(folder.manifest)
        if manifest.get("status") != "completed":
            raise RunFolderError(
                f"{path}: the run has not completed (it is {manifest.get('status')!r}); repeat its command to go on",
                path=path,
            )
        score = _json(folder.score)
        try:
            inputs = {name: (each["name"], each["sha256"]) for name, each in manifest["inputs"].items()}
            return cls(
                folder=folder,
                options=manifest["options"],
                dataset=inputs["dataset"],
                program=inputs["guidance_program"],
                examples=inputs.get("examples"),
                facts=manifest["run"],
                response_key=score["response_key"],
                correct_key=score["correct_key"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{path}: manifest and score do not tell all that is needed ({type(error).__name__}: {error}); "
                "make the run again with this version",
                path=path,
            ) from error

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    def lines(self) -> Iterator[ScoredLine]:
        """Yield the lines in the order of the dataset.

        Raises:
            RunFolderError: the files do not fit together.
            DatasetError: a file cannot be read.
        """
        failed = array("Q", (_error_number(self.path, line) for _, line in read_objects(self.folder.errors)))
        return heapq.merge(self._answered(set(failed)), self._failed(), key=lambda scored: scored.number)

    def lines_with_calls(self) -> Iterator[tuple[ScoredLine, list[JsonObject]]]:
        """Yield the lines in the order of the dataset, each with its calls; those of a run without calls have none.

        Raises:
            RunFolderError: the files do not fit together.
            DatasetError: a file cannot be read.
        """
        groups = calls_by_line(self.folder.calls) if self.folder.calls.is_file() else iter(())
        ahead = next(groups, None)
        for scored in self.lines():
            while ahead is not None and ahead[0] < scored.number:
                ahead = next(groups, None)
            yield scored, ahead[1] if ahead is not None and ahead[0] == scored.number else []

    def _failed(self) -> Iterator[ScoredLine]:
        for _, line in read_objects(self.folder.errors):
            yield ScoredLine(_error_number(self.path, line), line, Outcome.FAILED)

    def _answered(self, failed: set[int]) -> Iterator[ScoredLine]:
        numbers = self._answered_numbers(failed)
        for number, answered in zip_longest(numbers, read_objects(self.folder.output)):
            if number is None or answered is None or answered[1].get(self.correct_key) is None:
                raise RunFolderError(
                    f"{self.folder.output}: does not hold {len(numbers)} lines with {self.correct_key!r}; restore the "
                    "files as the run left them",
                    path=self.folder.output,
                )
            _, line = answered
            yield ScoredLine(number, line, judge(line, response_key=self.response_key, correct_key=self.correct_key))

    def _answered_numbers(self, failed: set[int]) -> array[int]:
        """The numbers of the answered lines, which those lines do not hold.

        They are those that `--lines` named, or those with calls, if as many; otherwise no line makes a gap.
        """
        if isinstance(named := self.options.get("lines"), str):
            return array("Q", sorted(parse_line_numbers(named) - failed))
        answered = int(self.facts.get("answered") or 0)
        if self.folder.calls.is_file():
            called = array("Q", (number for number, _ in calls_by_line(self.folder.calls) if number not in failed))
            if len(called) == answered:
                return called
        return array("Q", (number for number in range(1, answered + len(failed) + 1) if number not in failed))


def _error_number(folder: Path, line: JsonObject) -> int:
    error = line.get(ERROR_KEY)
    number = error.get("line_number") if isinstance(error, dict) else None
    if not isinstance(number, int) or number < 1:
        raise RunFolderError(
            f"{folder}: errors.jsonl holds a line without {ERROR_KEY}.line_number; restore the files as the run left "
            "them",
            path=folder,
        )
    return number


def _json(path: Path) -> JsonObject:
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise RunFolderError(
            f"{path}: cannot be read ({told}); name the folder of a completed run", path=path
        ) from error
    if not isinstance(value, dict):
        raise RunFolderError(f"{path}: is no JSON object; name the folder of a completed run", path=path)
    return value
