"""What holds for every bundled program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import guidance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.bundled import bundled_programs
from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.programs import load_program
from tests.conftest import ROOT
from tests.programs.conftest import Line, RunOver, program, solved
from tests.servers.aoai import AoaiServer, default_answer

CALLS = {"zero_shot": 1, "few_shot": 1, "few_shot_knn": 1, "zero_shot_cot": 2, "choice_shuffle_ensemble": 5}
EXAMPLES = [solved(number, ("astronomy", "virology")[number % 2]) for number in range(12)]
# With two choices an ensemble of five asks the same thing twice, and examples are among the lines.
LINES = [
    *(solved(number, question=f"Is word{number} a word?", choices=["yes", "no"]) for number in range(2)),
    *(solved(number, "virology", question=f"Which is {number}?", choices=list("abcdefghij")) for number in range(2)),
    solved(0, question="Was ist größer, 😀 oder “é”?", choices=["größer", "\u2028", "0", "1: zero"]),
    *EXAMPLES[:3],
]
FAST = {
    "few_shot": {"k": 2},
    "few_shot_knn": {"k": 2},
    "zero_shot_cot": {"max_tokens": 5},
    "choice_shuffle_ensemble": {"n": 2},
}
MOCK = guidance.models.Mock()
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def read(run: mmlu_pipe.Run, name: str) -> list[Line]:
    return [json.loads(line) for line in (run.run_dir / name).read_bytes().splitlines()]


def data(run: mmlu_pipe.Run) -> list[bytes]:
    return [(run.run_dir / name).read_bytes() for name in ("output.jsonl", "errors.jsonl", "score.json")]


def examples_of(name: str) -> list[Line] | None:
    return EXAMPLES if name.startswith("few_shot") else None


def test_these_are_the_bundled_programs() -> None:
    assert set(bundled_programs()) == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_program_is_short_and_says_its_method(name: str) -> None:
    path = bundled_programs()[name]
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
    assert len(program(name).__doc__ or "") > 60


@pytest.mark.parametrize("name", CALLS)
@given(question=texts, choices=st.lists(texts, min_size=2, max_size=10))
@settings(max_examples=6, deadline=None)
def test_any_question_of_two_to_ten_choices_is_answered_on_mock(name: str, question: str, choices: list[str]) -> None:
    line = {"subject": "astronomy", "question": question, "choices": choices}
    arguments = (MOCK, line, EXAMPLES) if examples_of(name) else (MOCK, line)
    found = program(name).guidance_generation(*arguments, **FAST.get(name, {}))
    assert found[f"{name}_choice"] in range(len(choices))
    assert json.loads(json.dumps(found)) == found
    assert not found.keys() & line.keys()


@pytest.mark.parametrize("name", CALLS)
def test_any_number_of_workers_and_a_replay_give_the_same_bytes(name: str, run_over: RunOver) -> None:
    with AoaiServer(answer=default_answer) as server:
        one = run_over(name, LINES, server, examples_of(name), workers=1, output_dir="one")
        assert len(server.requests) == CALLS[name] * len(LINES)
        taped = {"cassette": "tape", "record_mode": "new_episodes"}
        many = run_over(name, LINES, server, examples_of(name), workers=16, output_dir="many", **taped)
    replayed = run_over(name, LINES, None, examples_of(name), workers=8, output_dir="replayed", cassette="tape")
    assert data(one) == data(many) == data(replayed)
    assert one.score is not None
    assert one.score.count == len(LINES)
    asked = [[call["line_number"], call["messages"]] for call in read(one, "calls.jsonl")]
    assert asked == [[call["line_number"], call["messages"]] for call in read(replayed, "calls.jsonl")]


@pytest.mark.parametrize("name", CALLS)
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(
    name: str, run_over: RunOver, write_config: Callable[..., Path]
) -> None:
    with AoaiServer(answer=default_answer) as server:
        whole = run_over(name, LINES, server, examples_of(name), output_dir="whole")
    killed = threading.Event()
    few = 3 * CALLS[name]

    def answer(body: Line, count: int) -> str:
        if len(server.requests) > few:
            killed.wait(30)
        return default_answer(body, count)

    with AoaiServer(answer=answer) as server:
        words = ["--guidance-program", name, "--dataset", "lines.jsonl", "--output-dir", "out", "--workers", "1"]
        words += ["--examples", "examples.jsonl"] if examples_of(name) else []
        words += ["--other-config", str(write_config(server.endpoint))]
        process = subprocess.Popen([sys.executable, "-m", "mmlu_pipe", "run", *words], stderr=subprocess.PIPE)
        with server.changed:
            assert server.changed.wait_for(lambda: len(server.requests) > few, 60), process.communicate()
        process.kill()
        process.communicate()
        killed.set()
        gone_on = run_over(name, LINES, server, examples_of(name), output_dir="out", workers=3)
        assert len(server.requests) <= CALLS[name] * len(LINES) + CALLS[name]
    assert data(gone_on) == data(whole)


@pytest.mark.parametrize("name", CALLS)
def test_a_program_loads_as_a_cluster_loads_it(name: str, tmp_path: Path) -> None:
    examples = tmp_path / "examples.jsonl"
    examples.write_text("".join(json.dumps(line) + "\n" for line in EXAMPLES), encoding="utf-8")
    copy = tmp_path / "input_file"
    copy.write_bytes(bundled_programs()[name].read_bytes())
    loaded = load_program(copy, {}, examples if examples_of(name) else None)
    assert loaded.shows_examples is bool(examples_of(name))
    assert f"{name}_choice" in loaded.function(MOCK, LINES[0])


def test_the_program_of_the_page_runs_and_its_check_refuses(run_over: RunOver, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "longest.py"
    path.write_text(code, encoding="utf-8")
    with AoaiServer() as server:
        run = run_over(str(path), LINES[:2], server, EXAMPLES, program_option=["k=3", "hint= Say it."])
        assert [len(body["messages"]) for body in server.bodies] == [7, 7]
        assert all(line["longest_choice"] in (0, 1) for line in read(run, "output.jsonl"))
        with pytest.raises(MmluPipeError, match="k is 13, but there are 12 examples"):
            run_over(str(path), LINES[:2], server, EXAMPLES, program_option="k=13")
