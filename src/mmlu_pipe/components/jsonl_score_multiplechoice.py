"""Component 2: scores the responses to multiple-choice questions.

In process: `jsonl_score_multiplechoice(input_dataset=…, score_dataset=…)`. From a command line:
`python -m mmlu_pipe.components.jsonl_score_multiplechoice --input_dataset … --score_dataset …`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from mmlu_pipe import jsonl
from mmlu_pipe.components.component import Input, Output, component
from mmlu_pipe.errors import ConfigError, DatasetError, RunFolderError
from mmlu_pipe.plugins import hookimpl, notify
from mmlu_pipe.records import ERROR_KEY, JsonObject, Score
from mmlu_pipe.scoring.accuracy import score_counted, score_lines
from mmlu_pipe.scoring.calls import calibrate
from mmlu_pipe.scoring.columns import MIN_BYTES, count_alike

__all__ = ["DEFAULT_RESPONSE_KEY", "jsonl_score_multiplechoice"]

DEFAULT_RESPONSE_KEY = "zero_shot_choice"
"""Where the tutorial's programs leave their response."""

_CHOICE_SUFFIX = "_choice"

_REPAIR = "mmlu-pipe score RUN_DIR --response-key KEY (answers are kept; scoring again costs nothing)"
_DATASET_KEYS = ("dataset", "subject", "question", "choices")


@component(
    name="jsonl_score_multiplechoice",
    display_name="Score multiple-choice responses (JSONL)",
    deterministic=True,
)
def jsonl_score_multiplechoice(
    *,
    input_dataset: Annotated[Path, Input("JSONL file of the answered lines: the dataset's keys and the response")],
    correct_key: Annotated[str, Input("key of the correct answer")] = "correct_answer",
    response_key: Annotated[
        str | None,
        Input("key of the response; without it, zero_shot_choice, or the one key that a program added to every line"),
    ] = None,
    dataset_keys: Annotated[str | None, Input("keys that the dataset had before the run, as a JSON list")] = None,
    error_dataset: Annotated[Path | None, Input("JSONL file of the failed lines, counted as not correct")] = None,
    calls_dataset: Annotated[
        Path | None, Input("JSONL file of the model calls, whose distributions tell how far they can be trusted")
    ] = None,
    score_dataset: Annotated[Path, Output("JSON file of the score", file_name="score.json")],
) -> None:
    """Score responses to multiple-choice questions: accuracy with a 95 % interval, by subject and by category.

    Of the calls only their line, distribution and error count, never a time: equal answers give equal bytes.

    Raises:
        ConfigError: the key of the response has to be named, or `dataset_keys` is no list of names.
        DatasetError: a dataset cannot be read, or a line lacks the correct answer.
        RunFolderError: the score cannot be written.
    """
    own = {*(_DATASET_KEYS if dataset_keys is None else _names(dataset_keys)), correct_key, ERROR_KEY}
    numbers: set[int] = set()
    failed = () if error_dataset is None else _failed(error_dataset, numbers)
    counted = _counted(input_dataset, response_key, correct_key, own)
    if counted is not None:
        response_key, lines = counted
        score = score_counted(lines, failed, response_key=response_key, correct_key=correct_key)
    else:
        if response_key is None:
            response_key = _find_response_key(input_dataset, _lines(input_dataset), own)
        else:
            _check_response_key(input_dataset, _lines(input_dataset), response_key)
        problems: list[tuple[int, str]] = []
        scorable = _scorable(input_dataset, correct_key, problems)
        score = score_lines(scorable, failed, response_key=response_key, correct_key=correct_key)
        jsonl.list_problems(input_dataset, problems)
    if calls_dataset is not None:
        keys = {"response_key": response_key, "correct_key": correct_key}
        score = replace(score, calibration=calibrate(input_dataset, calls_dataset, numbers, **keys))
    _write(score, score_dataset)
    if __name__ == "__main__":  # a step of its own: there is no backend that tells of the score
        notify("score_finished", score=score, facts={}, options={})


def _names(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(
            f"dataset_keys must be a JSON list of names such as {json.dumps(_DATASET_KEYS[:2])}, not {text[:80]!r}",
            key="dataset_keys",
        )
    return value


def _lines(path: Path) -> Iterator[JsonObject]:
    return (line for _, line in jsonl.read_objects(path))


def _failed(path: Path, numbers: set[int]) -> Iterator[JsonObject]:
    """The failed lines; their numbers in the dataset are added to `numbers`."""
    for _, line in jsonl.read_objects(path):
        error = line.get(ERROR_KEY)
        if isinstance(error, dict) and isinstance(number := error.get("line_number"), int):
            numbers.add(number)
        yield line


def _counted(
    path: Path, response_key: str | None, correct_key: str, own: set[str]
) -> tuple[str, list[tuple[JsonObject, int]]] | None:
    """The response's key and the lines, counted, of a large file; None for one to be read line by line.

    Whatever is wrong with a file is left to be found, and said, by the reading of its lines.
    """
    if not path.is_file() or path.stat().st_size < MIN_BYTES:
        return None
    try:
        key = _find_response_key(path, islice(_lines(path), 1), own) if response_key is None else response_key
    except (ConfigError, DatasetError):
        return None
    found = (
        response_key is None and key != DEFAULT_RESPONSE_KEY
    )  # then it must be in every line, and the default in none
    keys = frozenset({"subject", correct_key, key})
    lines = count_alike(path, keys=keys, absent=DEFAULT_RESPONSE_KEY if found else None)
    if lines is None or any(correct_key not in line for line, _ in lines):
        return None
    has_key = [key in line for line, _ in lines]
    return (key, lines) if (all(has_key) if found else any(has_key)) else None


def _scorable(path: Path, correct_key: str, problems: list[tuple[int, str]]) -> Iterator[JsonObject]:
    """The lines that have a correct answer; the others are added to `problems`."""
    for number, line in jsonl.read_objects(path):
        if line.get(correct_key) is not None:
            yield line
        elif correct_key in line:
            problems.append((number, f"the correct answer {correct_key!r} is null"))
        else:
            problems.append((number, f"has no correct answer {correct_key!r}; it has {', '.join(line) or 'no keys'}"))


def _check_response_key(path: Path, lines: Iterable[JsonObject], response_key: str) -> None:
    """A key that no line has is a slip, not a run without answers."""
    keys: dict[str, None] = {}
    for line in lines:
        if response_key in line:
            return
        keys.update(dict.fromkeys(line))
    if keys:
        raise ConfigError(
            f"{path}: no line has the response key {response_key!r}; the lines have {_listed(keys)}. Name one of "
            f"them: {_REPAIR}",
            path=path,
            key="response_key",
        )


def _find_response_key(path: Path, lines: Iterable[JsonObject], own: set[str]) -> str:
    """The key of the responses: the default one, or the only one besides `own` that every line has.

    Of several such keys, the only one that ends with `_choice`.
    """
    everywhere: dict[str, None] | None = None  # dicts rather than sets: they keep the order of the keys
    somewhere: dict[str, None] = {}
    for line in lines:
        if DEFAULT_RESPONSE_KEY in line and DEFAULT_RESPONSE_KEY not in own:
            return DEFAULT_RESPONSE_KEY
        added = [key for key in line if key not in own]
        everywhere = dict.fromkeys(added if everywhere is None else (key for key in everywhere if key in line))
        somewhere.update(dict.fromkeys(added))
    if everywhere is None:  # all lines failed, or there were none
        return DEFAULT_RESPONSE_KEY
    choices = [key for key in everywhere if key.endswith(_CHOICE_SUFFIX)]
    for found in (list(everywhere), choices):
        if len(found) == 1:
            return found[0]
    if everywhere:
        told = f"every line has {_listed(everywhere)}"
    elif somewhere:
        told = f"no key was added to every line, some have {_listed(somewhere)}"
    else:
        told = "no key was added to the dataset's own; is this the output of a run?"
    raise ConfigError(
        f"{path}: cannot tell which key holds the responses ({told}). Name it: {_REPAIR}",
        path=path,
        key="response_key",
    )


def _listed(keys: dict[str, None]) -> str:
    names = [repr(key) for key in keys]
    more = len(names) - jsonl.MAX_LISTED
    return ", ".join(names[: jsonl.MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _write(score: Score, path: Path) -> None:
    text = json.dumps(score.to_json(), indent=2, ensure_ascii=False)
    try:
        content = text.encode()
    except UnicodeEncodeError:  # a subject with a lone surrogate
        content = json.dumps(score.to_json(), indent=2).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + b"\n")
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror}); choose another", path=path) from error


@hookimpl
def register_components(register: Callable[[str, Any], None]) -> None:
    """Component 2 comes with the package."""
    register(jsonl_score_multiplechoice.name, jsonl_score_multiplechoice)


if __name__ == "__main__":
    sys.exit(jsonl_score_multiplechoice.main())
