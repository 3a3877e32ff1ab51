"""The bundled sample: two scored questions and one for the prompt in each subject of MMLU, none of them MMLU's own."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.bundled import SAMPLE_DATASETS
from mmlu_pipe.dataset.schema import check_dataset
from mmlu_pipe.scoring.categories import SUBJECTS
from tests.conftest import ROOT

Line = dict[str, Any]

PER_SUBJECT = {"sample": 2, "sample_dev": 1}
MMLU = [ROOT.parent / "shared" / "data" / "mmlu" / name for name in ("dev.jsonl", "validation.jsonl")]
RUN = 8

every_file = pytest.mark.parametrize("name", sorted(PER_SUBJECT))


def lines_of(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def sample(name: str) -> list[Line]:
    return lines_of(SAMPLE_DATASETS[name])


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def runs(line: Line) -> Iterator[tuple[str, ...]]:
    """Every run of `RUN` words in the question, and in each choice."""
    for text in (line["question"], *map(str, line["choices"])):
        found = words(text)
        yield from (tuple(found[start : start + RUN]) for start in range(len(found) - RUN + 1))


def test_the_samples_are_those_that_the_package_names() -> None:
    assert set(SAMPLE_DATASETS) == set(PER_SUBJECT)
    assert len(SUBJECTS) == 57


@every_file
def test_every_line_is_good_and_every_subject_has_its_number(name: str) -> None:
    facts = check_dataset(SAMPLE_DATASETS[name])
    assert facts.lines == 57 * PER_SUBJECT[name]
    assert facts.subjects == dict.fromkeys(SUBJECTS, PER_SUBJECT[name])
    assert facts.keys == ("choices", "correct_answer", "dataset", "question", "subject")


@every_file
def test_the_right_choices_are_spread_evenly(name: str) -> None:
    counts = Counter(line["correct_answer"] for line in sample(name))
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) - min(counts.values()) <= 1


@every_file
def test_a_line_has_four_distinct_choices_and_says_where_it_comes_from(name: str) -> None:
    for line in sample(name):
        assert line["dataset"] == "mmlu_pipe_sample"
        assert len({" ".join(str(choice).casefold().split()) for choice in line["choices"]}) == 4, line


def test_no_question_is_there_twice_in_one_file_or_in_both() -> None:
    counts = Counter(" ".join(words(line["question"])) for name in PER_SUBJECT for line in sample(name))
    assert [question for question, count in counts.items() if count > 1] == []


def test_no_run_of_words_is_found_in_mmlu() -> None:
    """Looks at those of MMLU's files that are on this machine; the package comes with none."""
    theirs = {run for path in MMLU if path.is_file() for line in lines_of(path) for run in runs(line)}
    ours = {run for name in PER_SUBJECT for line in sample(name) for run in runs(line)}
    assert ours
    assert ours & theirs == set()
