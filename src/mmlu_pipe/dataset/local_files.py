"""MMLU from local files: a folder of the original CSV files, or one JSONL file."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmlu_pipe.dataset.loader import ALL, SPLITS, Loaded, Row, Wanted, answer_index, unknown_subject
from mmlu_pipe.dataset.schema import shown
from mmlu_pipe.errors import ConfigError, DatasetError
from mmlu_pipe.jsonl import parse_object, raw_lines
from mmlu_pipe.plugins import hookimpl

__all__ = ["SHORT_SPLITS", "LocalFiles"]

SHORT_SPLITS = {"test": "test", "val": "validation", "valid": "validation", "validation": "validation", "dev": "dev"}
"""What splits are called in file names."""

_CSV_NAMES = {"test": "test", "validation": "val", "dev": "dev"}


class LocalFiles:
    """Whatever exists on this machine."""

    def accepts(self, source: str) -> bool:
        """A file or folder of that name exists."""
        try:
            return Path(source).exists()
        except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
            return False

    def load(self, wanted: Wanted) -> Loaded:
        """Read the CSV files of a folder, or the lines of a JSONL file."""
        if wanted.revision is not None:
            raise ConfigError(
                f"--revision {wanted.revision}: {wanted.source} is local; only a hub repository has revisions"
            )
        return Loaded(_local_rows(Path(wanted.source), wanted.subject, wanted.split))


@hookimpl
def register_dataset_loaders(register: Callable[[str, Any], None]) -> None:
    """Local files come with the package, and go first."""
    register("files", LocalFiles())


def _local_rows(path: Path, subject: str, split: str) -> Iterator[Row]:
    if path.suffix == ".csv":
        raise ConfigError(f"--source {path}: give the folder with test/, val/ and dev/ for CSV files", key="source")
    if not path.is_dir():
        return _jsonl_rows(path, subject, split)
    folder = path / _CSV_NAMES[split]
    if folder.is_dir():
        return _csv_rows(folder, subject, split)
    there = [name for name in SPLITS if (path / _CSV_NAMES[name]).is_dir()]
    if there:
        raise ConfigError(f"--split {split}: {path} has only {', '.join(there)}", key="split")
    raise ConfigError(
        f"--source {path}: has none of the folders {', '.join(_CSV_NAMES.values())} of the original CSV files; "
        "give the folder that holds them, or one JSONL file",
        key="source",
    )


def _csv_rows(folder: Path, subject: str, split: str) -> Iterator[Row]:
    ending = f"_{_CSV_NAMES[split]}.csv"
    files = {
        path.name.removesuffix(ending): path for path in folder.glob(f"*{ending}") if not path.name.startswith(".")
    }
    if subject != ALL:
        if subject not in files:
            raise unknown_subject(subject, {*files, ALL}, str(folder))
        files = {subject: files[subject]}
    for name, path in sorted(files.items()):
        yield from _csv_file_rows(path, name)


def _csv_file_rows(path: Path, subject: str) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            while True:
                where = f"{path.name} line {reader.line_num + 1}"
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield Row(where, problem=f"is not CSV ({error})")
                    return
                if cells is None:
                    return
                if len(cells) == 6:
                    yield Row(where, subject, cells[0], cells[1:5], cells[5])
                elif cells:
                    yield Row(
                        where, problem=f"has {len(cells)} columns, not the six question, A, B, C, D, answer's letter"
                    )
    except UnicodeDecodeError as error:
        yield Row(path.name, problem=f"is not UTF-8 ({error.reason}); save the file as UTF-8")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})", path=path) from error


def _jsonl_rows(path: Path, subject: str, split: str) -> Iterator[Row]:
    named = {SHORT_SPLITS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in SHORT_SPLITS}
    if named and split not in named:
        there = " and ".join(sorted(named))
        raise ConfigError(f"--split {split}: {path.name} is named after {there}; give --split {there}", key="split")
    subjects: set[str] = set()
    bad = False
    for number, raw in raw_lines(path):
        where = f"line {number}"
        try:
            value = parse_object(raw)
        except ValueError as error:
            bad = True
            yield Row(where, problem=str(error))
            continue
        own = value.get("subject")
        if isinstance(own, str):
            subjects.add(own)
            if subject not in (ALL, own):
                continue
        answers = [value[key] for key in ("answer", "correct_answer") if key in value]
        if len({answer_index(answer) for answer in answers}) > 1:
            yield Row(where, problem=f"answer is {shown(answers[0])} but correct_answer {shown(answers[1])}")
            continue
        yield Row(where, own, value.get("question"), value.get("choices"), answers[0] if answers else None)
    if subject != ALL and subject not in subjects and subjects and not bad:
        raise unknown_subject(subject, {*subjects, ALL}, str(path))
