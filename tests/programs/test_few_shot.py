"""few_shot and few_shot_knn: which examples are shown, and how."""

from __future__ import annotations

import random
import string
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.programs import Examples
from tests.programs.conftest import Line, RunOver, program, solved
from tests.servers.aoai import AoaiServer

EXAMPLES = [solved(number, ("astronomy", "virology")[number % 2]) for number in range(8)]


def frozen(lines: list[Line]) -> Examples:
    return Examples(MappingProxyType(line | {"choices": tuple(line["choices"])}) for line in lines)


def turns(server: AoaiServer) -> list[tuple[str, str]]:
    (body,) = server.bodies
    return [(message["role"], message["content"]) for message in body["messages"]]


def test_examples_of_the_subject_are_turns_in_the_order_of_their_dataset(run_over: RunOver) -> None:
    with AoaiServer() as server:
        run_over("few_shot", [solved(9)], server, EXAMPLES, program_option="k=3")
    found = turns(server)
    assert [role for role, _ in found] == ["system", *["user", "assistant"] * 3, "user"]
    shown = [text.partition("\n")[0] for role, text in found if role == "user"]
    assert shown == [f"Which of these is word{number}?" for number in (0, 2, 4, 9)]
    assert [text for role, text in found if role == "assistant"] == ["0", "2", "0"]
    assert "0: thing0\n1: thing1\n2: thing2\n3: thing3\n" in found[1][1]


def test_a_line_is_never_shown_its_own_answer(run_over: RunOver) -> None:
    for name in ("few_shot", "few_shot_knn"):
        with AoaiServer() as server:
            run_over(name, [EXAMPLES[0]], server, EXAMPLES, program_option="k=3")
        questions = [text for role, text in turns(server) if role == "user"]
        assert len(set(questions)) == len(questions) == 4


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("few_shot", "k=5", "k is 5, but the examples have only 4 of the subject 'astronomy'; lower k"),
        ("few_shot", "k=-1", "k is -1; it must be at least 1, or 0 for as many as there are, at most 5"),
        ("few_shot_knn", "k=9", "k is 9; it must be at least 1 and at most 8, the number of examples"),
        ("few_shot_knn", "k=0", "k is 0; it must be at least 1"),
    ],
)
def test_a_k_that_the_examples_do_not_allow_stops_the_run_before_anything_is_asked(
    name: str, option: str, said: str, run_over: RunOver
) -> None:
    with AoaiServer() as server, pytest.raises(MmluPipeError) as raised:
        run_over(name, [solved(9)], server, EXAMPLES, program_option=option)
    assert said in str(raised.value)
    assert raised.value.exit_code == 2
    assert not server.requests


@pytest.mark.parametrize("name", ["few_shot", "few_shot_knn"])
def test_examples_whose_answers_have_another_key_stop_the_run_before_anything_is_asked(
    name: str, run_over: RunOver
) -> None:
    def renamed(line: Line) -> Line:
        return {("answer" if key == "correct_answer" else key): value for key, value in line.items()}

    lines = [renamed(line) for line in (solved(9), *EXAMPLES)]
    first_is_usual = [lines[1] | {"correct_answer": 0}, *lines[2:]]
    for examples in (lines[1:], first_is_usual):
        with AoaiServer() as server, pytest.raises(MmluPipeError) as raised:
            run_over(name, lines[:1], server, examples, program_option="k=2", correct_key="answer")
        assert "the examples must have the key 'correct_answer', the index" in str(raised.value)
        assert raised.value.exit_code == 2
        assert not server.requests


@pytest.mark.parametrize("name", ["few_shot", "few_shot_knn"])
def test_choices_that_are_numbers_and_answers_in_digits_are_shown_as_in_a_question(
    name: str, run_over: RunOver
) -> None:
    examples = [solved(1, question="How much?", choices=[10, 2.5]) | {"correct_answer": "01"}]
    line = solved(0, question="How many?", choices=[1, 2])
    with AoaiServer() as server:
        run = run_over(name, [line], server, examples, program_option="k=1")
    assert run.score is not None
    assert run.score.answered == 1
    shown = [message["content"] for message in server.bodies[0]["messages"][1:3]]
    assert shown == ["How much?\n\n0: 10\n1: 2.5\n\nThe number of the correct choice is:", "1"]


def shown(examples: Any, question: str, k: int, **changes: Any) -> list[str]:
    line = solved(0, question=question, **changes)
    return [example["question"] for example in KNN._nearest(line, examples, k)]


KNN = program("few_shot_knn")
ANIMALS = [
    solved(0, question="How many legs has a spider?", choices=["eight", "six"]),
    solved(0, "virology", question="Which planet has rings?", choices=["Saturn", "Mars"]),
    solved(0, "virology", question="How many legs has an insect?", choices=["eight", "six"]),
    solved(0, question="Who wrote this poem?", choices=["Keats", "Yeats"]),
]


def test_the_nearest_example_of_any_subject_comes_last(run_over: RunOver) -> None:
    spider, _, insect, _ = (line["question"] for line in ANIMALS)
    assert shown(ANIMALS, "What is special about the legs of an insect?", 2) == [spider, insect]
    assert shown(ANIMALS, "A question of its own", 1, choices=["Saturn", "Jupiter"]) == ["Which planet has rings?"]
    with AoaiServer() as server:
        run_over("few_shot_knn", [solved(0, question="An insect?")], server, ANIMALS, program_option="k=4")
    assert turns(server)[-3][1].startswith(insect)


def test_of_equally_near_examples_the_first_of_the_dataset_is_the_nearest() -> None:
    texts = ("word {} here", "another one {}")  # one letter is no word
    alike = [solved(0, question=text.format(letter)) for letter in string.ascii_letters for text in texts]
    assert shown(alike, "a word here", 3) == ["word c here", "word b here", "word a here"]
    assert shown(alike, "nothing alike", 2, choices=[]) == ["another one a", "word a here"]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_any_texts_and_any_kind_of_sequence_give_the_same_k_examples(data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(["the", "a", "é", "😀", "größer", "star", "stars", "1.5", "?"]), max_size=5)
    questions = data.draw(st.lists(words.map(" ".join), min_size=1, max_size=8))
    examples = [solved(0, question=text, choices=[]) for text in questions]
    k = data.draw(st.integers(1, len(examples)))
    question = data.draw(words.map(" ".join))
    found = shown(examples, question, k, choices=[])
    assert len(found) == k
    assert found == shown(tuple(examples), question, k, choices=[]) == shown(frozen(examples), question, k, choices=[])
    best = shown(examples, question, len(examples), choices=[])
    assert found == best[-k:]
    assert sorted(best) == sorted(questions)


def test_many_threads_share_one_index_and_a_list_that_grew_is_read_anew() -> None:
    examples = frozen([solved(number) for number in range(200)])
    numbers = random.Random(0).choices(range(200), k=64)
    before = KNN._index.cache_info().misses
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: shown(examples, f"word{number}", 1), numbers))
    assert found == [[f"Which of these is word{number}?"] for number in numbers]
    assert KNN._index.cache_info().misses == before + 1
    growing = [solved(0), solved(1)]
    assert shown(growing, "word2", 1) == ["Which of these is word0?"]
    growing.append(solved(2))
    assert shown(growing, "word2", 1) == ["Which of these is word2?"]
