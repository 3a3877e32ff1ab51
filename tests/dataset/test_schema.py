from __future__ import annotations

import codecs
import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.bundled import SAMPLE_DATASETS
from mmlu_pipe.dataset.schema import check_dataset
from mmlu_pipe.errors import DatasetError
from mmlu_pipe.jsonl import MAX_LISTED

GOOD: dict[str, Any] = {
    "dataset": "invented",
    "subject": "knots",
    "question": "Which knot forms a fixed loop?",
    "choices": ["Bowline", "Reef knot", "Half hitch", "Sheet bend"],
    "correct_answer": 0,
}


def write(path: Path, *lines: object) -> Path:
    """One line per argument: bytes as they are, everything else as JSON."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in raw))
    return path


def problem_of(tmp_path: Path, line: object) -> str:
    path = write(tmp_path / "data.jsonl", GOOD, line)
    with pytest.raises(DatasetError) as caught:
        check_dataset(path)
    assert caught.value.line_number == 2
    assert caught.value.path == path
    head, problem = str(caught.value).split("\n")
    assert head.startswith(f"{path}: 1 bad line;")
    assert problem.startswith("  line 2: ")
    return problem.removeprefix("  line 2: ")


def test_the_facts_of_a_good_dataset(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data.jsonl", GOOD, GOOD | {"subject": "anchors"}, b"", GOOD, {**GOOD, "correct_answer": "3"}
    )
    facts = check_dataset(path)
    assert facts.lines == 4
    assert facts.subjects == {"knots": 3, "anchors": 1}
    assert facts.keys == tuple(sorted(GOOD))
    assert facts.bytes == path.stat().st_size
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", sorted(SAMPLE_DATASETS))
def test_the_bundled_datasets_are_good(name: str) -> None:
    assert len(check_dataset(SAMPLE_DATASETS[name]).subjects) == 57


@pytest.mark.parametrize(
    "line",
    [
        {key: GOOD[key] for key in ("question", "choices", "correct_answer")},
        GOOD | {"_error": {"kind": "content_filter", "line_number": 7}, "hint": "What: a loop: fixed"},
        GOOD | {"choices": [1, 2.5], "correct_answer": 1},
        GOOD | {"choices": ["same", "same", ""], "correct_answer": 2},
        GOOD | {"correct_answer": "0"},
        json.dumps(GOOD).encode() + b"\r",
    ],
    ids=["no dataset and subject", "an error line", "numbers", "equal choices", "digits", "CRLF"],
)
def test_what_a_line_may_be(tmp_path: Path, line: object) -> None:
    assert check_dataset(write(tmp_path / "data.jsonl", line)).lines == 1


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + json.dumps(GOOD).encode())
    assert check_dataset(path).lines == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"question": "\xff"}', "is not UTF-8"),
        (b'{"question": ', "is not JSON"),
        (b'["question"]', "is a JSON array, not an object"),
        (b'{"question": NaN}', "holds NaN"),
        (b"[" * 100_000, "is nested too deeply"),
        ({"choices": ["a", "b"], "correct_answer": 0}, 'misses the key "question"'),
        ({"question": "?", "correct_answer": 0}, 'misses the key "choices"'),
        ({"question": "?", "choices": ["a", "b"]}, 'misses the key "correct_answer"'),
        (GOOD | {"question": " \n"}, r'question is " \n", not a text'),
        (GOOD | {"question": 7}, "question is 7, not a text"),
        (GOOD | {"subject": None}, "subject is null, not a text"),
        (GOOD | {"dataset": 1}, "dataset is 1, not a text"),
        (GOOD | {"choices": "ABCD"}, 'choices is "ABCD", not a list'),
        (GOOD | {"choices": ["a"]}, "choices has 1 of the two or more entries it needs"),
        (GOOD | {"choices": ["a", None]}, "choices[1] is null, neither a text nor a number"),
        (GOOD | {"choices": [True, "b"]}, "choices[0] is true, neither a text nor a number"),
        (GOOD | {"choices": ["a", ["b"]]}, 'choices[1] is ["b"], neither'),
        (GOOD | {"correct_answer": True}, "correct_answer is true, not a 0-based index"),
        (GOOD | {"correct_answer": None}, "correct_answer is null, not a 0-based index"),
        (GOOD | {"correct_answer": 1.0}, "correct_answer is 1.0, not a 0-based index"),
        (GOOD | {"correct_answer": ""}, 'correct_answer is "", not a 0-based index'),
        (GOOD | {"correct_answer": "AB"}, 'correct_answer is "AB", not a 0-based index'),
        (GOOD | {"correct_answer": "²"}, r'correct_answer is "\u00b2", not a 0-based index'),
        (GOOD | {"correct_answer": 4}, "correct_answer is 4, but the choices are 0 to 3"),
        (GOOD | {"correct_answer": -1}, "correct_answer is -1, but the choices are 0 to 3"),
        (GOOD | {"correct_answer": "-1"}, 'correct_answer is "-1", but the choices are 0 to 3'),
        (GOOD | {"correct_answer": "9" * 5000}, "but the choices are 0 to 3"),
        (b'{"question": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    ],
)
def test_what_a_line_may_not_be(tmp_path: Path, line: object, problem: str) -> None:
    found = problem_of(tmp_path, line)
    assert problem in found
    assert len(found) < 200


@pytest.mark.parametrize("letter", ["A", "d", " B "])
def test_a_letter_names_the_command_that_rewrites_it(tmp_path: Path, letter: str) -> None:
    found = problem_of(tmp_path, GOOD | {"correct_answer": letter})
    assert "is the letter" in found
    assert "create-dataset" in found


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        (b'{"question": "?", "choices": ["a", "b"], "correct_answer": 0, "correct_answer": 1}', ['"correct_answer"']),
        (b'{"question": "a: b", "choices": ["a", "b"], "correct_answer": 0, "x": {"y": 1, "y": 1}}', ['"y"']),
        (
            b'{"question":"?","question":"?","choices":["a","b"],"choices":[],"correct_answer":0}',
            ['"question"', '"choices"'],
        ),
        (b'{"question" : "?", "choices"\t: ["a", "b"], "correct_answer" : 0, "x": 1, "x" : 2}', ['"x"']),
    ],
    ids=["top", "inside", "two", "blanks before the colon"],
)
def test_a_key_written_twice_is_reported(tmp_path: Path, line: bytes, keys: list[str]) -> None:
    found = problem_of(tmp_path, line)
    assert all(f"has the key {key} more than once" in found for key in keys)


def test_one_line_can_have_several_problems(tmp_path: Path) -> None:
    found = problem_of(tmp_path, {"question": "", "choices": [], "correct_answer": "z"})
    assert found.count(";") == 2


def test_the_keys_are_those_of_all_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", GOOD | {"tags": []}, GOOD, GOOD | {"id": 7})
    assert check_dataset(path).keys == ("choices", "correct_answer", "dataset", "id", "question", "subject", "tags")


@pytest.mark.parametrize("value", [0, 3, "0", "3", "B", "a text", 0.5])
def test_under_another_key_an_answer_is_an_index_or_a_choice(tmp_path: Path, value: object) -> None:
    line = {"question": "?", "choices": ["B", "a text", 0.5, 7], "label": value}
    assert check_dataset(write(tmp_path / "data.jsonl", line), correct_key="label").lines == 1


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        *((value, "but the choices are 0 to 3") for value in (4, 7, -1, "4", "-1", "9" * 5000)),
        ("A", 'is the letter "A", neither a 0-based index nor one of the choices; create-dataset'),
        ("b", 'is the letter "b", neither'),
        ("a  text", 'is "a  text", neither a 0-based index nor one of the choices; create-dataset'),
        *(
            (value, "neither a 0-based index nor one of the choices")
            for value in (1.0, 0.25, True, None, [0], {"a": 1})
        ),
    ],
)
def test_under_another_key_nothing_else_is_an_answer(tmp_path: Path, value: object, problem: str) -> None:
    line = {"question": "?", "choices": ["B", "a text", 0.5, 1.0], "label": value}
    path = write(tmp_path / "data.jsonl", line | {"label": 1}, line, GOOD)
    with pytest.raises(DatasetError) as caught:
        check_dataset(path, correct_key="label")
    _, second, third = str(caught.value).split("\n")
    assert second.startswith("  line 2: label is ")
    assert problem in second
    assert len(second) < 200
    assert third == '  line 3: misses the key "label"'


def test_under_another_key_bad_choices_are_the_only_problem(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"question": "?", "choices": [None, "b"], "label": "a"})
    with pytest.raises(DatasetError, match=r"\n  line 1: choices\[0\] is null, neither a text nor a number$"):
        check_dataset(path, correct_key="label")


@pytest.mark.parametrize("content", [b"", b"\n \n", codecs.BOM_UTF8])
def test_an_empty_file_is_no_dataset(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="is empty"):
        check_dataset(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        check_dataset(tmp_path / "none.jsonl")
    with pytest.raises(DatasetError, match="cannot be read"):
        check_dataset(tmp_path)
    (tmp_path / "wide.jsonl").write_bytes(json.dumps(GOOD).encode("utf-16"))
    with pytest.raises(DatasetError, match="save it as UTF-8"):
        check_dataset(tmp_path / "wide.jsonl")


BAD_LINES = [b"{", b"\xff", b"7", json.dumps(GOOD | {"correct_answer": 4}).encode(), b'{"question": "?"}']


@given(st.lists(st.one_of(st.just(None), st.sampled_from(BAD_LINES)), min_size=1, max_size=MAX_LISTED))
def test_all_bad_lines_are_reported_and_no_good_one(
    tmp_path_factory: pytest.TempPathFactory, bad: list[bytes | None]
) -> None:
    path = write(tmp_path_factory.mktemp("lines") / "data.jsonl", *(line or GOOD for line in bad))
    expected = [number for number, line in enumerate(bad, start=1) if line]
    if not expected:
        assert check_dataset(path).lines == len(bad)
        return
    with pytest.raises(DatasetError) as caught:
        check_dataset(path)
    reported = [int(line.split(":")[0].removeprefix("  line ")) for line in str(caught.value).split("\n")[1:]]
    assert reported == expected


@pytest.mark.parametrize("line", [GOOD, GOOD | {"correct_answer": 9}], ids=["good", "bad"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, line: object) -> None:
    count = 20_000
    path = tmp_path / "data.jsonl"
    path.write_bytes((json.dumps(line).encode() + b"\n") * count)
    message = ""
    tracemalloc.start()
    try:
        try:
            assert check_dataset(path).lines == count
        except DatasetError as error:
            message = str(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 600_000
    if message:
        assert f"{count} bad lines" in message
        assert message.endswith(f"… and {count - MAX_LISTED} more")
        assert message.count("\n") == MAX_LISTED + 1
