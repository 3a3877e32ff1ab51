"""choice_shuffle_ensemble and zero_shot_cot: what is asked, and what is made of the answers."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.errors import ErrorBudgetExceeded, MmluPipeError
from tests.programs.conftest import RunOver, program, solved
from tests.programs.test_every_program import read
from tests.servers.aoai import AoaiServer, Reply

ENSEMBLE = program("choice_shuffle_ensemble")


def numbered(body: dict[str, Any]) -> list[str]:
    """The choices as they were asked."""
    text = next(message["content"] for message in body["messages"] if message["role"] == "user")
    return [line.partition(": ")[2] for line in text.split("\n\n")[1].splitlines()]


def first(body: dict[str, Any], _count: int) -> str:
    """A model that likes the first position whatever stands there."""
    return json.dumps({"choice": "0"})


def knowing(body: dict[str, Any], _count: int) -> str:
    """A model that finds the second of the choices wherever it stands."""
    return json.dumps({"choice": str(numbered(body).index("thing1"))})


# The ensemble


def test_a_model_that_knows_gets_all_votes_whatever_the_order(run_over: RunOver) -> None:
    with AoaiServer(answer=knowing) as server:
        run = run_over("choice_shuffle_ensemble", [solved(number) for number in range(6)], server, workers=1)
    for line in read(run, "output.jsonl"):
        assert line["choice_shuffle_ensemble_votes"] == [1] * 5
        assert (line["choice_shuffle_ensemble_choice"], line["choice_shuffle_ensemble_confidence"]) == (1, 1.0)
    asked = [numbered(body) for body in server.bodies]
    assert asked[0] == solved(0)["choices"]
    assert len({tuple(choices) for choices in asked}) > 5


def test_a_model_that_likes_a_position_contradicts_itself_and_a_tie_goes_to_the_first_vote(run_over: RunOver) -> None:
    lines = [solved(number, choices=["yes", "no"], correct_answer=0) for number in range(24)]
    with AoaiServer(answer=first) as server:
        run = run_over("choice_shuffle_ensemble", lines, server, program_option="n=4")
    ties = 0
    for line in read(run, "output.jsonl"):
        votes = line["choice_shuffle_ensemble_votes"]
        counts = Counter(votes)
        assert line["choice_shuffle_ensemble_confidence"] == max(counts.values()) / 4
        ties += counts[0] == counts[1]
        wanted = votes[0] if counts[0] == counts[1] else max(counts, key=counts.__getitem__)
        assert line["choice_shuffle_ensemble_choice"] == wanted
        assert votes[0] == 0
    assert 0 < ties < 24


def test_one_vote_is_zero_shot(run_over: RunOver) -> None:
    with AoaiServer() as server:
        run_over("choice_shuffle_ensemble", [solved(0)], server, program_option="n=1", output_dir="one")
        run_over("zero_shot", [solved(0)], server, output_dir="two")
    one, two = server.bodies
    assert one == two


@given(st.text(), st.integers(2, 10), st.integers(1, 8), st.integers())
def test_orders_are_shuffles_that_depend_on_seed_and_question_alone(
    question: str, count: int, n: int, seed: int
) -> None:
    orders = list(ENSEMBLE._orders(question, count, n, seed))
    assert len(orders) == n
    assert orders[0] == list(range(count))
    assert all(sorted(order) == orders[0] for order in orders)
    assert orders == list(ENSEMBLE._orders(question, count, n + 1, seed))[:n]


def test_the_orders_are_those_of_any_machine_process_and_python() -> None:
    pinned = [[0, 1, 2, 3], [0, 2, 1, 3], [1, 3, 2, 0], [2, 0, 1, 3]]
    assert list(ENSEMBLE._orders("Which?", 4, 4, 0)) == pinned
    assert list(ENSEMBLE._orders("Which?", 4, 4, 1)) != pinned
    assert list(ENSEMBLE._orders("What?", 4, 4, 0)) != pinned


# The chain of thought


def test_the_choice_is_asked_after_the_reasoning_in_a_turn_of_its_own(run_over: RunOver) -> None:
    def answer(body: dict[str, Any], _count: int) -> str:
        return json.dumps({"choice": "2"}) if "response_format" in body else "Because.\nSo it is 2 — ½."

    with AoaiServer(answer=answer) as server:
        run = run_over("zero_shot_cot", [solved(0)], server, program_option="max_tokens=77")
    reasoning, choosing = server.bodies
    assert reasoning["max_tokens"] == 77
    assert [message["role"] for message in reasoning["messages"]] == ["system", "user"]
    assert [message["role"] for message in choosing["messages"]] == ["system", "user", "assistant", "user"]
    assert choosing["messages"][2]["content"] == "Because.\nSo it is 2 — ½."
    (line,) = read(run, "output.jsonl")
    assert line["zero_shot_cot_choice"] == 2
    assert line["zero_shot_cot_reasoning"] == "Because.\nSo it is 2 — ½."


def test_a_reasoning_that_is_cut_fails_its_line(run_over: RunOver) -> None:
    cut = Reply("Because", "length")
    with (
        AoaiServer(answer=lambda _body, _count: cut) as server,
        pytest.raises(ErrorBudgetExceeded, match="Truncated"),
    ):
        run_over("zero_shot_cot", [solved(0)], server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("choice_shuffle_ensemble", "n=0", "n is 0; it must be at least 1"),
        ("zero_shot_cot", "max_tokens=0", "max_tokens is 0; it must be at least 1"),
    ],
)
def test_an_option_out_of_range_stops_the_run_before_anything_is_asked(
    name: str, option: str, said: str, run_over: RunOver
) -> None:
    with AoaiServer() as server, pytest.raises(MmluPipeError) as raised:
        run_over(name, [solved(0)], server, program_option=option)
    assert said in str(raised.value)
    assert raised.value.exit_code == 2
    assert not server.requests
