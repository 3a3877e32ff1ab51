"""What a verification found: frozen, typed, printable as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.records import JsonObject

__all__ = ["Miss", "Problem", "Prompts", "Verification"]


@dataclass(frozen=True)
class Miss:
    """A request without a recording: its line, and what differs from the nearest recording."""

    line_number: int
    difference: str


@dataclass(frozen=True)
class Problem:
    """What is wrong with some lines, told by the first of them."""

    kind: str
    lines: int
    first_line: int
    told: str


@dataclass(frozen=True)
class Prompts:
    """The prompts of all lines as they were rendered.

    Attributes:
        calls: model calls made; those of a line whose recording is missing end with it.
        characters: of all prompts together.
        longest: characters of the longest prompt.
        longest_line: the line that it belongs to.
        tokens: estimated prompt tokens of all lines; None where no replayed call has recorded usage.
        longest_tokens: estimated prompt tokens of the longest.
    """

    calls: int
    characters: int
    longest: int
    longest_line: int | None
    tokens: int | None
    longest_tokens: int | None


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    Attributes:
        passed: whether nothing stands against running this program on this dataset.
        dataset: the dataset's file name.
        program: the program's file name.
        cassette: the name of the folder of recordings.
        hashes: SHA-256 of `dataset`, `program` and `recordings`.
        versions: of mmlu-pipe, guidance and openai.
        asked_with: select strategy, seed, reasoning effort and the program's options; they are part of what is asked.
        gate_lines: how many lines of each subject were replayed: a number, or `all`.
        lines: lines in the dataset.
        covered: line numbers that were replayed.
        rendered: lines that were only rendered, on a stub.
        calls_asked: model calls of the replayed lines.
        calls_played: those that have a recording.
        calls_missing: those that have none.
        missing_lines: the lines that need new recordings.
        misses_by_kind: what differs from the nearest recording → calls.
        first_misses: the first three, in words.
        problems: what would stop the run, or end lines whatever the model says; each stands against passing.
        warnings: what does not stand against it, but should be known.
        prompts: size of what is asked.
        recordings: recordings in the cassette.
        unused: those that the replayed lines did not use.
        model_recorded: whose answers were replayed; None where there are none.
        model_target: the model of `other_config`, None without one.
        command: the one command that records what is missing; None where nothing is.
        record: the written verification record; None where the folder does not exist.
        verified_at: when, in UTC.
    """

    passed: bool
    dataset: str
    program: str
    cassette: str
    hashes: Mapping[str, str]
    versions: Mapping[str, str]
    asked_with: Mapping[str, Any]
    gate_lines: str
    lines: int
    covered: tuple[int, ...]
    rendered: int
    calls_asked: int
    calls_played: int
    calls_missing: int
    missing_lines: tuple[int, ...]
    misses_by_kind: Mapping[str, int]
    first_misses: tuple[Miss, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    prompts: Prompts
    recordings: int
    unused: int
    model_recorded: str | None
    model_target: str | None
    command: str | None
    record: Path | None
    verified_at: str

    def to_json(self) -> JsonObject:
        """All of it as JSON values."""
        value = asdict(self)
        return value | {"record": None if self.record is None else str(self.record)}
