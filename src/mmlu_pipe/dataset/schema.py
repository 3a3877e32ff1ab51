"""The check of a dataset: every line is read once, and all bad lines are reported together."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import DatasetError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.jsonl import Problems, parse_object, raw_lines
from mmlu_pipe.records import JsonObject

__all__ = ["DEFAULT_CORRECT_KEY", "DatasetFacts", "check_dataset", "shown"]

DEFAULT_CORRECT_KEY = "correct_answer"
LETTERS = "ABCD"

_LETTERS_HINT = "create-dataset --source FILE rewrites letters"
_KEY_END = re.compile(rb'"[ \t\r\n]*:')


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset whose lines are all good.

    Attributes:
        path: the file.
        lines: lines that are not blank.
        sha256: hex SHA-256 of the file's bytes.
        bytes: size of the file.
        subjects: subject → lines, in order of first appearance; lines without a subject are in none.
        keys: every key that a line has, sorted.
    """

    path: Path
    lines: int
    sha256: str
    bytes: int
    subjects: dict[str, int]
    keys: tuple[str, ...]


def check_dataset(path: Path, *, correct_key: str = DEFAULT_CORRECT_KEY) -> DatasetFacts:
    """Check every line of a dataset, in memory that does not grow with it.

    A line is an object with `question` (text), `choices` (two or more texts or numbers) and `correct_key`: the
    0-based index of the right choice, as a number or in digits; under another key than the default one, also the
    choice itself. `dataset` and `subject` are optional texts. Further keys are free.

    Raises:
        DatasetError: the file cannot be read, has no line, or has bad lines; all of these are counted and the first
            ones listed.
    """
    problems = Problems()
    subjects: dict[str, int] = {}
    keys: set[str] = set()
    lines = 0
    for number, raw in raw_lines(path):
        lines += 1
        try:
            line = parse_object(raw)
        except ValueError as error:
            problems.add(f"line {number}", str(error), line_number=number)
            continue
        if found := _line_problems(line, raw, correct_key):
            problems.add(f"line {number}", "; ".join(found), line_number=number)
            continue
        keys.update(line)
        if "subject" in line:
            subjects[line["subject"]] = subjects.get(line["subject"], 0) + 1
    problems.raise_if_any(str(path), path=path)
    if not lines:
        raise DatasetError(f"{path}: is empty; a dataset has one question a line", path=path)
    return DatasetFacts(path, lines, sha256_file(path), path.stat().st_size, subjects, tuple(sorted(keys)))


def _line_problems(line: JsonObject, raw: bytes, correct_key: str) -> list[str]:
    found = [f"has the key {shown(key)} more than once" for key in _duplicate_keys(line, raw)]
    required = dict.fromkeys(("question", "choices", correct_key))
    found += [f"misses the key {shown(key)}" for key in required if key not in line]
    found += [
        f"{key} is {shown(line[key])}, not a text"
        for key in ("dataset", "subject")
        if key in line and not isinstance(line[key], str)
    ]
    question = line.get("question", "?")
    if not isinstance(question, str) or not question.strip():
        found.append(f"question is {shown(question)}, not a text that says something")
    choices = line.get("choices")
    if "choices" in line and (problem := _choices_problem(choices)):
        found.append(problem)
        choices = None
    if correct_key in line:
        known = choices if isinstance(choices, list) else None
        check = _index_problem if correct_key == DEFAULT_CORRECT_KEY else _answer_problem
        if problem := check(line[correct_key], known):
            found.append(f"{correct_key} {problem}")
    return found


def _choices_problem(choices: Any) -> str | None:
    if not isinstance(choices, list):
        return f"choices is {shown(choices)}, not a list"
    if len(choices) < 2:
        return f"choices has {len(choices)} of the two or more entries it needs"
    for index, choice in enumerate(choices):
        if isinstance(choice, bool) or not isinstance(choice, str | int | float):
            return f"choices[{index}] is {shown(choice)}, neither a text nor a number"
    return None


def _index_problem(value: Any, choices: list[Any] | None) -> str | None:
    """What is wrong with the index of a choice; `choices` is None where they are bad themselves."""
    if _is_letter(value):
        return f"is the letter {shown(value)}, not a 0-based index; {_LETTERS_HINT}"
    if not _is_integer(value):
        return f"is {shown(value)}, not a 0-based index"
    # Digits beyond any list's length are not turned into a number: Python refuses that for very long ones.
    if choices is not None and (len(str(value)) > 18 or not 0 <= int(value) < len(choices)):
        return f"is {shown(value)}, but the choices are 0 to {len(choices) - 1}"
    return None


def _answer_problem(value: Any, choices: list[Any] | None) -> str | None:
    """What is wrong with an answer under a key of one's own: the index of a choice, or the choice itself."""
    if _is_integer(value):
        return _index_problem(value, choices)
    if isinstance(value, bool) or not isinstance(value, str | float):
        return f"is {shown(value)}, neither a 0-based index nor one of the choices"
    # A number like 1.0 is scored as the index 1, so it cannot stand for a choice.
    if choices is None or (value in choices and not (isinstance(value, float) and value.is_integer())):
        return None
    what = "the letter " if _is_letter(value) else ""
    hint = f"; {_LETTERS_HINT}" if isinstance(value, str) else ""
    return f"is {what}{shown(value)}, neither a 0-based index nor one of the choices{hint}"


def _is_letter(value: Any) -> bool:
    return isinstance(value, str) and value.strip().upper() in tuple(LETTERS)


def _is_integer(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isascii() and value.removeprefix("-").isdecimal())


def _duplicate_keys(line: JsonObject, raw: bytes) -> list[str]:
    # No more ends of keys than keys: none was written twice, and the line need not be parsed again.
    if raw.count(b":") == len(line) or len(_KEY_END.findall(raw)) == len(line):
        return []
    found: dict[str, None] = {}

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = None
            seen.add(key)

    json.loads(raw.decode(), object_pairs_hook=look)
    return list(found)


def shown(value: Any) -> str:
    """A JSON value for a message: as it is written in a file, on one line, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
