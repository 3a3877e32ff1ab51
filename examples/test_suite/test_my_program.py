"""Tests of my_program.py on recorded answers: no account, no network."""

import json
from pathlib import Path

import pytest

from mmlu_pipe.errors import CassetteMiss

pytestmark = pytest.mark.mmlu_cassette("cassettes/my_program", program="my_program.py")

LINES = Path(__file__).with_name("questions.jsonl").read_text(encoding="utf-8").splitlines()
QUESTIONS = [json.loads(line) for line in LINES]


def test_the_program_returns_the_number_and_the_text_of_the_choice(mmlu_run_line):
    """One line through the program, as a run would put it through."""
    assert mmlu_run_line(QUESTIONS[0]) == {"my_choice": 2, "my_text": "Near the northern horizon"}


def test_the_program_asks_once_and_shows_every_choice(mmlu_run_line, mmlu_calls):
    """What was asked, and how."""
    mmlu_run_line(QUESTIONS[0])
    (call,) = mmlu_calls()
    assert call.strategy == "json_schema"
    for number, choice in enumerate(QUESTIONS[0]["choices"]):
        assert f"{number}: {choice}" in call.messages[-1]["content"]


@pytest.mark.mmlu_cassette("cassettes/my_program", program="my_program.py", must_play_all=True)
def test_the_questions_are_scored(mmlu_run_file):
    """The whole pipeline; the closest marker wins, and this one demands that no recording is left over."""
    run = mmlu_run_file("questions.jsonl", response_key="my_choice")
    assert (run.score.count, run.score.n_correct, run.score.failed) == (6, 3, 0)
    assert run.score.by_subject["astronomy"].accuracy == 1.0


def test_another_question_is_not_answered_by_a_recording(mmlu_run_line):
    """A request that was never recorded is an error; it is not answered by something similar."""
    with pytest.raises(CassetteMiss, match="messages"):
        mmlu_run_line(QUESTIONS[0] | {"question": "Where does Polaris appear?"})
