"""A job is seen to its end, and its steps' own words with it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.backends.azureml.history import StepState
from mmlu_pipe.backends.azureml.watch import LogReader
from mmlu_pipe.rehearsal import Fault, Twin, cut, expired_token, server_error, too_many_requests
from tests.backends.azureml.conftest import Failed, InFork
from tests.backends.azureml.small_jobs import ASKS, SCORES, WAITS_ON_ITS_FIRST_NODE, preempt_once_it_waits, submit

TASKS = "tests.backends.azureml.tasks_jobs"


def follow(in_fork: InFork, twin: Twin, job: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = in_fork(twin, f"{TASKS}:follow", job=job, **options)
    return found


def test_a_watch_tells_every_steps_states_and_its_log_line_by_line_and_ends_with_the_job(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = submit(twin, f"echo line 1; while [ ! -e {gate} ]; do sleep 0.1; done; echo line 2", "echo the score")

    def open_when_seen() -> None:  # a log is read after its step was seen to run
        while not job.wait(0.1):
            if len([kept for kept in twin.requests if kept.route == "blob/*/*" and kept.method == "GET"]) > 4:
                gate.touch()

    threading.Thread(target=open_when_seen, daemon=True).start()
    found = follow(in_fork, twin, job.name)
    told = found["told"]
    assert (found["status"], found["service_status"]) == ("completed", "Completed")
    assert [line for line in told if line.startswith(f"{ASKS} | ")] == [
        f"{ASKS} | step {ASKS}",
        *(f"{ASKS} | line {n}" for n in (1, 2)),
    ]
    assert f"{SCORES} | the score" in told
    assert told.index(f"{ASKS}: Running") < told.index(f"{ASKS} | line 2") < told.index(f"{ASKS}: Completed")
    assert told.index(f"{SCORES} | the score") < told.index(f"{SCORES}: Completed") == len(told) - 1


def test_a_state_names_the_steps_the_studio_and_where_every_output_is(twin: Twin, in_fork: InFork) -> None:
    job = submit(twin)
    assert job.wait(60)
    found = in_fork(twin, f"{TASKS}:state", job=job.name)
    assert [(step["name"], step["status"]) for step in found["steps"]] == [
        (ASKS, "completed"),
        (SCORES, "completed"),
    ]
    assert found["studio_url"].startswith(f"https://ml.azure.com/runs/{job.name}")
    assert found["outputs"]["score_dataset"] == (
        f"azureml://datastores/workspaceblobstore/paths/mmlu_pipe/{job.name}/score_dataset/score.json"
    )


def test_a_failed_step_tells_its_own_error_and_not_only_the_jobs(twin: Twin, in_fork: InFork) -> None:
    found = follow(in_fork, twin, submit(twin, first="echo the reason >&2; exit 3").name)
    first, second = found["steps"]
    assert (found["status"], first["status"], second["status"]) == ("failed", "failed", "cancelled")
    assert "status code 3" in first["error"]
    assert "Failed nodes" in found["error"]
    assert f"{ASKS} | the reason" in found["told"]


def test_the_log_of_an_image_that_is_not_built_is_told(make_twin: Callable[..., Twin], in_fork: InFork) -> None:
    twin = make_twin(broken_images={"e": "collecting guidance\nERROR: no matching distribution\n"})
    found = follow(in_fork, twin, submit(twin).name)
    assert f"{ASKS} | ERROR: no matching distribution" in found["told"]
    assert found["steps"][0]["log_name"] == "azureml-logs/20_image_build_log.txt"


def test_of_a_long_log_only_the_end_is_told(twin: Twin, in_fork: InFork) -> None:
    job = submit(twin, first="seq -f 'a longer line, of number %g' 1 20000")
    assert job.wait(60)
    told = [line for line in follow(in_fork, twin, job.name)["told"] if line.startswith(f"{ASKS} | ")]
    assert "earlier lines are left out" in told[0]
    assert told[-1] == f"{ASKS} | a longer line, of number 20000"
    assert len(told) < 4000


def test_tokens_and_signatures_of_a_log_are_not_told(twin: Twin, in_fork: InFork) -> None:
    job = submit(twin, first="echo 'eyJhbGciOi.eyJzdWIi.c2ln and https://x.blob.core.windows.net/c?sig=abc'")
    assert job.wait(60)
    assert f"{ASKS} | [token] and https://x.blob.core.windows.net/c" in follow(in_fork, twin, job.name)["told"]


def test_control_characters_of_a_log_do_not_reach_the_terminal(twin: Twin, in_fork: InFork) -> None:
    job = submit(twin, first=r"printf '10 %%\r100 %%\n\033[31mred\033[0m\033]0;title\007\n'")
    assert job.wait(60)
    told = follow(in_fork, twin, job.name)["told"]
    assert f"{ASKS} | 100 %" in told
    assert f"{ASKS} | red]0;title" in told


STEP = StepState(ASKS, "1", "running", "Running", log_name="user_logs/std_log.txt", log_url="https://of.the/log")


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_however_a_log_grows_every_line_of_it_is_told_once_and_in_order(pieces: list[bytes]) -> None:
    log = b""

    def read(url: str, start: int, length: int) -> tuple[bytes, int]:
        return log[start : start + length], len(log)

    reader, told = LogReader(read), []
    for piece in pieces:
        log += piece
        told += reader.new_lines(STEP)
        assert len(told) == log.count(b"\n")
    told += reader.new_lines(dataclasses.replace(STEP, status="completed"))
    assert told == LogReader(read).new_lines(dataclasses.replace(STEP, status="completed"))
    assert len(told) == len(log.removesuffix(b"\n").split(b"\n")) * bool(log)
    assert not [character for line in told for character in line if category(character) == "Cc" and character != "\t"]


def test_a_log_that_begins_anew_is_told_from_its_beginning() -> None:
    logs = [b"one\ntwo\n", b"again\n"]
    reader = LogReader(lambda url, start, length: (logs[0][start : start + length], len(logs[0])))
    assert reader.new_lines(STEP) == ["one", "two"]
    del logs[0]
    assert reader.new_lines(STEP) == ["again"]


def test_a_step_that_starts_again_on_another_node_is_followed_there(
    make_twin: Callable[..., Twin], in_fork: InFork
) -> None:
    twin = make_twin(drill=preempt_once_it_waits)
    job = submit(twin, first=WAITS_ON_ITS_FIRST_NODE)
    told = follow(in_fork, twin, job.name)["told"]
    assert told.count(f"{ASKS} | step {ASKS}") == 2


@pytest.mark.parametrize(
    "fault",
    [
        cut("GET", "history/*/details", times=8, after=1),
        server_error("GET", "jobs/*", 8),
        too_many_requests("GET", "history/*/children", 8),
        expired_token("GET", "jobs/*", 6),
    ],
    ids=["connection cut", "500", "429", "expired token"],
)
def test_a_watch_that_is_lost_in_mid_run_is_taken_up_again_and_says_so_once(
    twin: Twin, in_fork: InFork, fault: Fault
) -> None:
    job = submit(twin, first="sleep 2; echo after the loss")
    twin.faults.add(fault)
    found = in_fork(twin, f"{TASKS}:follow", job=job.name, hurry=True)
    told = found["told"]
    assert found["status"] == "completed"
    assert [line.partition("\n")[0] for line in told if "cannot be seen" in line] == [
        "the job cannot be seen at the moment, and goes on meanwhile; asking again"
    ]
    assert told.count("the job can be seen again") == 1
    assert f"{ASKS} | after the loss" in told


def test_tokens_that_end_while_a_job_runs_are_renewed_unnoticed(twin: Twin, in_fork: InFork) -> None:
    twin.identity.lifetime_s = 2
    found = follow(in_fork, twin, submit(twin, first="sleep 5").name)
    assert found["status"] == "completed"
    assert not [line for line in found["told"] if "cannot be seen" in line]


def test_a_watch_without_any_answer_is_given_up_in_the_end(twin: Twin, in_fork: InFork) -> None:
    job = submit(twin, first="sleep 60")
    twin.faults.add(cut("GET", "jobs/*", times=None))
    with pytest.raises(Failed, match=f"cannot look up job {job.name}") as lost:
        in_fork(twin, f"{TASKS}:follow", job=job.name, patience_s=1.0, hurry=True)
    assert lost.value.type == "WorkspaceUnavailable"


def test_a_job_that_does_not_exist_is_refused_by_name(twin: Twin, in_fork: InFork) -> None:
    with pytest.raises(Failed, match=r"job no_such: is not in workspace twin .* --workspace-config") as refused:
        in_fork(twin, f"{TASKS}:state", job="no_such")
    assert refused.value.type == "WorkspaceRejected"


def test_a_running_job_that_is_cancelled_has_ended_when_the_call_returns(
    make_twin: Callable[..., Twin], in_fork: InFork
) -> None:
    running = threading.Event()
    twin = make_twin(drill=lambda step: running.set(), grace_s=0.5)
    job = submit(twin, first="sleep 60")
    assert running.wait(60)
    assert in_fork(twin, f"{TASKS}:end", job=job.name) == "cancelled"
    assert job.status == "Canceled"
    before = len([kept for kept in twin.requests if kept.route.endswith("/cancel")])
    assert in_fork(twin, f"{TASKS}:end", job=job.name) == "cancelled"
    assert len([kept for kept in twin.requests if kept.route.endswith("/cancel")]) == before
