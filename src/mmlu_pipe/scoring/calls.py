"""The model calls of a run, beside the lines that they were made for.

Answered lines do not tell their number in the dataset, calls and failed lines do. Calls come in the order of the
dataset, so where as many lines with calls did not fail as there are answered lines, they are these, one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from itertools import groupby, zip_longest
from pathlib import Path

from mmlu_pipe import jsonl
from mmlu_pipe.errors import DatasetError
from mmlu_pipe.records import Calibration, JsonObject
from mmlu_pipe.scoring.calibration import Calibrator

__all__ = ["calibrate", "calls_by_line"]

_log = logging.getLogger("mmlu_pipe.scoring")


def calls_by_line(path: Path) -> Iterator[tuple[int, list[JsonObject]]]:
    """Yield (line number, its calls) in the order of the dataset.

    Raises:
        DatasetError: the file cannot be read, or holds what is not the calls of a run in their order.
    """
    for number, calls in groupby(_numbered(path), key=lambda numbered: numbered[0]):
        yield number, [call for _, call in calls]


def calibrate(
    answers: Path, calls: Path, failed: Collection[int], *, response_key: str, correct_key: str
) -> Calibration | None:
    """The calibration of answered lines by their calls, in memory that does not grow with them.

    Args:
        answers: JSONL file of the answered lines.
        calls: JSONL file of the model calls.
        failed: numbers of the lines that failed.
        response_key: key of the response.
        correct_key: key of the correct answer.

    Returns:
        None where there is nothing to tell, and, with a warning, where it cannot be told.

    Raises:
        DatasetError: a file cannot be read, or `calls` is no file of calls.
    """
    calibrator = Calibrator(response_key=response_key, correct_key=correct_key)
    seen = False
    groups = (made for number, made in calls_by_line(calls) if number not in failed)
    for answered, made in zip_longest(jsonl.raw_lines(answers), groups):
        if made is not None and any(call.get("distribution") for call in made):
            seen = True
            if answered is not None:
                calibrator.add(jsonl.parse_object(answered[1]), made)
        if answered is None or made is None:
            if seen:
                _log.warning("%s: not every answered line has calls there, and no other; no calibration", calls)
            return None
    found = calibrator.result()
    if found is None and seen:
        _log.warning("%s: the responses do not follow the probabilities of the options; no calibration", calls)
    return found


def _numbered(path: Path) -> Iterator[tuple[int, JsonObject]]:
    before = 0
    for place, call in jsonl.read_objects(path):
        number = call.get("line_number")
        if type(number) is not int or number < max(before, 1):
            raise DatasetError(
                f"{path}:{place}: line_number is {number!r} after {before}; these are not the calls of a run in "
                "their order; leave --calls out, or give the calls.jsonl of the run",
                path=path,
                line_number=place,
            )
        before = number
        yield number, call
