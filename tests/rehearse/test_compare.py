"""Of two files that differ, the first place is told as a person would look for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.proving.compare import first_difference


def pair(folder: Path, ours: bytes, theirs: bytes, name: str = "output.jsonl") -> tuple[Path, Path]:
    paths = (folder / "local" / name, folder / "job" / name)
    for path, content in zip(paths, (ours, theirs), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (b'{"a": 1}\n{"a": 2, "b": 3}\n', b'{"a": 1}\n{"a": 2, "b": 4}\n', "output.jsonl line 2: b: 3 became 4"),
        (b'{"a": {"b": [1]}}\n', b'{"a": {"b": [2]}}\n', "output.jsonl line 1: a.b: [1] became [2]"),
        (b'{"a": 1}\n', b'{"a": 1, "b": 2}\n', "output.jsonl line 1: b: nothing became 2"),
        (b'{"a": 1, "b": 2}\n', b'{"a": 1}\n', "output.jsonl line 1: b: 2 became nothing"),
        (b'{"a": 1}\n', b'{"a": 1}\n{"a": 2}\n', 'output.jsonl line 2: nothing became {"a": 2}'),
        (b'{"a": 1}\n', b"", 'output.jsonl line 1: {"a": 1} became nothing'),
        (b'{"a": 1}\n', b'{"a":1}\n', 'output.jsonl line 1: {"a": 1} became {"a":1}'),
        (b'{"a": 1}\n', b"no JSON\n", 'output.jsonl line 1: {"a": 1} became no JSON'),
    ],
    ids=["value", "nested", "new key", "lost key", "new line", "lost line", "spelling", "no JSON"],
)
def test_the_first_difference_of_lines_is_told_with_line_and_key(
    tmp_path: Path, ours: bytes, theirs: bytes, told: str
) -> None:
    assert first_difference(*pair(tmp_path, ours, theirs)) == told


def test_the_first_difference_of_a_score_is_told_with_its_key(tmp_path: Path) -> None:
    ours, theirs = ({"lines": 4, "by_subject": {"virology": {"correct": right}}} for right in (3, 2))
    paths = pair(tmp_path, json.dumps(ours, indent=2).encode(), json.dumps(theirs, indent=2).encode(), "score.json")
    assert first_difference(*paths) == "score.json: by_subject.virology.correct: 3 became 2"


def test_a_file_that_is_not_there_differs(tmp_path: Path) -> None:
    ours, theirs = pair(tmp_path, b"", b"")
    theirs.unlink()
    assert first_difference(ours, theirs) == "there is no output.jsonl in job/"


@given(ours=st.binary(max_size=60), theirs=st.binary(max_size=60))
def test_whatever_the_bytes_equal_means_equal(
    tmp_path_factory: pytest.TempPathFactory, ours: bytes, theirs: bytes
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    told = first_difference(*pair(folder, ours, theirs))
    assert (told is None) == (ours == theirs)
    assert first_difference(*pair(folder, ours, ours)) is None
