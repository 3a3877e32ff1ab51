"""From the command to the job and back: whatever comes in between, no job is lost, and none is paid for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.rehearsal import Azurite, Fault, Run, Twin, cut, server_error
from mmlu_pipe.rehearsal.exchange import Refusal
from tests.backends.azureml.conftest import InFork
from tests.backends.azureml.small_jobs import checkpoint
from tests.servers.aoai import AoaiServer

HOST = "submit.openai.azure.com"
RUN = ("run", "--submit", "--other-config", "other_configs.json", "--no-gate", "--limit", "3")
DEPLOYMENT = {
    "aoai_endpoint": f"https://{HOST}",
    "aoai_deployment": "dep",
    "aoai_model": "gpt-4o",
    "aoai_api_version": "2024-10-21",
    "aoai_compute": "cpu-cluster",
    "general_compute": "cpu-cluster",
}
Command = Callable[..., dict[str, Any]]


@pytest.fixture
def command(in_fork: InFork, tmp_path: Path) -> Command:
    """A command in a folder that has both configuration files."""

    def run(twin: Twin, *arguments: str, **options: Any) -> dict[str, Any]:
        prepare(twin, tmp_path)
        task = "tests.backends.azureml.tasks_jobs:command"
        found: dict[str, Any] = in_fork(twin, task, folder=str(tmp_path), arguments=list(arguments), **options)
        assert "Traceback" not in found["err"], found["err"]
        return found

    return run


def prepare(twin: Twin, folder: Path) -> None:
    for name, value in {"config.json": twin.config(), "other_configs.json": DEPLOYMENT}.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def submitted(twin: Twin) -> list[Run]:
    """The jobs that were created, without their steps."""
    puts = [kept for kept in twin.requests if kept.method == "PUT" and kept.route.startswith("jobs/")]
    return [twin.job(kept.path.rpartition("/")[2]) for kept in puts if kept.status in (200, 201)]


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def forbidden(method: str, route: str) -> Fault:
    return Fault(method, route, Refusal(403, "AuthorizationFailed", "You may not.").reply, times=None)


def test_a_command_is_repeated_until_the_score_is_there_and_what_is_lost_is_brought_again(
    make_twin: Callable[..., Twin], command: Command, tmp_path: Path
) -> None:
    with AoaiServer({"dep": "gpt-4o"}, key=None, bearer=lambda token: token.count(".") == 2) as aoai:
        twin = make_twin(doors={HOST: int(aoai.endpoint.rpartition(":")[2])})
        first = command(twin, *RUN, "--no-wait", "--output-dir", "out")
        (job,) = submitted(twin)
        assert first["code"] == 0, first["err"]
        assert first["out"].splitlines() == [f"job           {job.name}", "run folder    out"]
        assert "mmlu-pipe status|fetch|cancel out" in first["err"]
        assert job.wait(120)
        again = command(twin, *RUN, "--wait", "--json", "--output-dir", "out")
    told = json.loads(again["out"])
    assert (again["code"], told["status"], told["job"], told["answered"]) == (0, "completed", job.name, 3), again["err"]
    assert submitted(twin) == [job]
    answers = (tmp_path / "out" / "output.jsonl").read_bytes()
    (tmp_path / "out" / "output.jsonl").unlink()
    fetched = command(twin, "fetch", "out")
    assert (fetched["code"], (tmp_path / "out" / "output.jsonl").read_bytes()) == (0, answers), fetched["err"]


def test_a_job_that_ended_badly_meanwhile_is_the_repeated_commands_error(
    twin: Twin, command: Command, tmp_path: Path
) -> None:
    command(twin, *RUN, "--no-wait", "--output-dir", "out")
    (job,) = submitted(twin)
    job.cancel()
    assert job.wait(60)
    again = command(twin, *RUN, "--wait", "--output-dir", "out")
    assert (again["code"], submitted(twin)) == (1, [job])
    assert f"error: the job {job.name} was cancelled" in again["err"]
    other = command(twin, *RUN, "--output-dir", "out", "--resume-from", job.name)
    assert (other["code"], submitted(twin)) == (2, [job])
    assert "give --output-dir a new folder" in other["err"]
    assert manifest(tmp_path / "out")["status"] == "cancelled"


def test_a_wait_that_fails_is_an_error_which_names_folder_and_job(twin: Twin, command: Command) -> None:
    twin.faults.add(forbidden("GET", "jobs/*"))
    found = command(twin, *RUN, "--wait", "--json", "--output-dir", "out")
    told = json.loads(found["out"])
    (job,) = submitted(twin)
    assert (found["code"], told["status"], told["error"]["type"]) == (1, "running", "WorkspaceRejected")
    assert (told["run_dir"], told["job"]) == ("out", job.name)
    assert f"the job {job.name} stays as it is; to return to it: mmlu-pipe status|fetch|cancel out" in found["err"]


def test_a_submission_succeeds_though_the_new_job_cannot_be_looked_up(twin: Twin, command: Command) -> None:
    twin.faults.add(server_error("GET", "jobs/*", times=None))
    found = command(twin, *RUN, "--no-wait", "--json", hurry=True)
    told = json.loads(found["out"])
    assert (found["code"], told["status"], told["job"]) == (0, "running", submitted(twin)[0].name)


def test_a_creation_without_an_answer_names_the_folder_with_which_the_command_goes_on(
    twin: Twin, command: Command, tmp_path: Path
) -> None:
    twin.faults.add(cut("PUT", "jobs/*", times=None))
    lost = command(twin, *RUN, "--no-wait", hurry=True)
    (folder,) = (tmp_path / "runs").iterdir()
    assert lost["code"] == 1
    assert f"repeat the command with --output-dir runs/{folder.name}\n" in lost["err"]
    twin.faults.clear()
    again = command(twin, *RUN, "--no-wait", "--output-dir", f"runs/{folder.name}")
    assert again["code"] == 0, again["err"]
    assert "was never created" in again["err"]
    assert manifest(folder)["job"]["name"] == submitted(twin)[0].name
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("fault", "begun"),
    [(server_error("GET", "data/*", times=None), False), (cut("PUT", "jobs/*", times=None), True)],
    ids=["before the job is created", "while it is created"],
)
def test_ctrl_c_leaves_no_folder_or_names_the_one_to_go_on_with(
    twin: Twin, tmp_path: Path, fault: Fault, begun: bool
) -> None:
    prepare(twin, tmp_path)
    twin.faults.add(fault)
    running = subprocess.Popen(
        [sys.executable, "-m", "mmlu_pipe", *RUN],
        cwd=tmp_path,
        env=os.environ | twin.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while running.poll() is None and not _met(twin, fault):
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    told = running.communicate(timeout=60)[1]
    folders = list((tmp_path / "runs").iterdir())
    assert running.returncode == 130, told
    assert [f"--output-dir runs/{folder.name}\n" in told for folder in folders] == [True] * begun, told


def _met(twin: Twin, fault: Fault) -> bool:
    family = fault.route.partition("/")[0]
    return any(kept.method == fault.method and kept.route.startswith(family) for kept in twin.requests)


@pytest.mark.parametrize(
    ("resumed", "told"), [("mmlu_typo", "no finished lines of such a job"), ("", "no job is named")]
)
def test_a_job_that_left_no_finished_lines_is_not_gone_on_from(
    twin: Twin, command: Command, tmp_path: Path, resumed: str, told: str
) -> None:
    found = command(twin, *RUN, "--resume-from", resumed)
    assert (found["code"], submitted(twin)) == (2, [])
    assert told in found["err"]
    assert not [kept for kept in twin.requests if kept.method == "PUT"]
    assert list(tmp_path.glob("runs/*")) == []
    planned = command(twin, "plan", *RUN[1:], "--check-workspace", "--resume-from", resumed)
    assert (planned["code"], told in planned["out"] + planned["err"]) == (2, True), planned


def test_a_chain_of_jobs_goes_on_from_the_last_one_that_finished_a_line(
    twin: Twin, azurite: Azurite, command: Command, tmp_path: Path
) -> None:
    command(twin, *RUN, "--no-wait", "--output-dir", "first")
    (first,) = submitted(twin)
    checkpoint(twin, azurite, first.name)
    resumed = command(twin, *RUN, "--no-wait", "--output-dir", "second", "--resume-from", "first")
    assert resumed["code"] == 0, resumed["err"]
    _, second = submitted(twin)
    assert manifest(tmp_path / "second")["job"]["resumes"] == first.name
    second.cancel()
    assert second.wait(60)
    advice = f"what {first.name} had finished is not asked again by: mmlu-pipe run … --backend azureml --resume-from"
    assert f"{advice} {first.name}\n" in command(twin, "fetch", "second")["err"]


def test_a_folder_whose_job_is_gone_says_so_and_pays_for_no_other(twin: Twin, command: Command, tmp_path: Path) -> None:
    command(twin, *RUN, "--no-wait", "--output-dir", "out")
    held = manifest(tmp_path / "out")
    held["job"]["name"] = "mmlu_gone"
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(held), encoding="utf-8")
    again = command(twin, *RUN, "--no-wait", "--output-dir", "out")
    assert (again["code"], len(submitted(twin))) == (2, 1)
    assert "its job mmlu_gone is not in workspace twin" in again["err"]
