"""`mmlu-pipe status`, `fetch` and `cancel`, each in a fresh process as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mmlu_pipe.rehearsal import Azurite, Run, Twin
from tests.backends.azureml.small_jobs import ASKS, SCORES, checkpoint, submit

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path, mmlu_pipe_command: Command) -> Command:
    """Run a command against a twin."""

    def run(twin: Twin, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "config.json").write_text(json.dumps(twin.config()), encoding="utf-8")
        return mmlu_pipe_command(*arguments, **twin.environment())

    return run


@pytest.fixture
def running(make_twin: Callable[..., Twin]) -> tuple[Twin, Run]:
    """A job whose first step goes on until it is told to end."""
    begun = threading.Event()
    twin = make_twin(drill=lambda step: begun.set(), grace_s=0.5)
    job = submit(twin, first="echo working on it; sleep 100")
    assert begun.wait(60)
    return twin, job


def test_status_of_a_running_job_shows_its_steps_the_log_and_the_studio(
    running: tuple[Twin, Run], command: Command
) -> None:
    twin, job = running
    shown = command(twin, "status", job.name)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[:4] == [
        f"job           {job.name}",
        "experiment    simple_three",
        "state         Running",
        f"step          {ASKS}: Running",
    ]
    assert "  | working on it" in lines
    assert lines[-1].startswith("studio        https://ml.azure.com/runs/")
    assert max(map(len, lines[:-1])) <= 80


def test_status_shows_neither_tokens_nor_signatures_of_a_log(twin: Twin, command: Command) -> None:
    job = submit(twin, first="echo 'eyJhbGciOi.eyJzdWIi.c2ln and https://x.blob.core.windows.net/c?sig=abc'; exit 1")
    assert job.wait(60)
    shown = command(twin, "status", job.name).stdout
    assert "  | [token] and https://x.blob.core.windows.net/c\n" in shown


def test_status_of_a_failed_job_shows_why_and_ends_with_1(twin: Twin, command: Command) -> None:
    job = submit(twin, first="echo 'error: no such deployment'; exit 1")
    assert job.wait(60)
    shown = command(twin, "status", job.name)
    assert shown.returncode == 1
    assert "status code 1" in shown.stdout
    assert "  | error: no such deployment" in shown.stdout
    told = json.loads(command(twin, "status", job.name, "--json").stdout)
    assert (told["status"], told["steps"][0]["log"][-1]) == ("failed", "error: no such deployment")


def test_fetch_brings_the_outputs_and_prints_the_score_as_run_does(
    twin: Twin, command: Command, tmp_path: Path
) -> None:
    job = submit(twin)
    assert job.wait(60)
    shown = command(twin, "fetch", job.name)
    assert shown.returncode == 0, shown.stderr
    assert "correct       1 of 3 lines" in shown.stdout
    folder = tmp_path / "runs" / job.name
    assert (folder / "score.json").is_file()
    again = command(twin, "fetch", str(folder), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["score"]["n_correct"] == 1


def test_fetch_of_a_failed_job_says_why_and_what_is_there_and_ends_with_1(
    twin: Twin, command: Command, tmp_path: Path
) -> None:
    job = submit(twin, second="echo 'error: no answers'; exit 2")
    shown = command(twin, "fetch", job.name, "--wait", "--output-dir", str(tmp_path / "out"))
    assert shown.returncode == 1
    assert f"error: the job {job.name} failed in step {SCORES}" in shown.stderr
    assert "  | error: no answers" in shown.stderr
    assert (tmp_path / "out" / "output.jsonl").is_file()
    assert "Traceback" not in shown.stderr


def test_fetch_of_a_running_job_says_that_it_goes_on(
    running: tuple[Twin, Run], tmp_path: Path, command: Command
) -> None:
    twin, job = running
    shown = command(twin, "fetch", job.name)
    assert shown.returncode == 1
    assert f"error: the job {job.name} goes on (Running)" in shown.stderr
    assert not (tmp_path / "runs").exists()


def test_cancel_ends_a_running_job_and_says_how_to_go_on(
    running: tuple[Twin, Run], azurite: Azurite, command: Command
) -> None:
    twin, job = running
    checkpoint(twin, azurite, job.name)
    shown = command(twin, "cancel", job.name)
    assert shown.returncode == 0, shown.stderr
    assert job.status == "Canceled"
    assert "state         Canceled" in shown.stdout
    assert f"--resume-from {job.name}" in shown.stdout


@pytest.mark.parametrize("subcommand", ["status", "fetch", "cancel"])
def test_a_job_or_a_folder_that_is_not_there_ends_with_2(
    twin: Twin, command: Command, tmp_path: Path, subcommand: str
) -> None:
    (tmp_path / "empty").mkdir()
    for job, told in (("no_such_job", "is not in workspace twin"), ("empty", "there is no run in this folder")):
        shown = command(twin, subcommand, job)
        assert (shown.returncode, told in shown.stderr) == (2, True), shown.stderr


def test_ctrl_c_leaves_the_job_as_it_is_and_says_how_to_return(running: tuple[Twin, Run], tmp_path: Path) -> None:
    twin, job = running
    (tmp_path / "config.json").write_text(json.dumps(twin.config()), encoding="utf-8")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "mmlu_pipe", "fetch", job.name, "--wait"],
        cwd=tmp_path,
        env=os.environ | twin.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        encoding="utf-8",
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )
    assert waiting.stderr is not None
    told = []
    for line in waiting.stderr:
        told.append(line)
        if "working on it" in line:
            waiting.send_signal(signal.SIGINT)
    assert waiting.wait(60) == 130
    waiting.stderr.close()
    assert f"the job {job.name} goes on; to return to it: mmlu-pipe status|fetch|cancel {job.name}\n" in told
    assert job.status == "Running"
