"""What goes wrong in a job, with the real components on the pins of a job: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.bundled import bundled_requirements
from mmlu_pipe.rehearsal import Azurite, Fault, Twin
from mmlu_pipe.rehearsal.exchange import Reply as TwinReply
from mmlu_pipe.rehearsal.interpreter import installed_interpreter
from mmlu_pipe.rehearsal.node import INSTALL_COMMAND
from mmlu_pipe.rehearsal.process import RunningStep
from tests.rehearsal.conftest import azurite
from tests.servers.aoai import AoaiServer, Reply, default_answer

__all__ = ["azurite"]

HOST = "drills.openai.azure.com"
LINES = 260
ONE_CHECKPOINT = 100
Drill = Callable[[RunningStep], None]


@dataclass
class Drills:
    """A folder, a twin and a deployment behind it."""

    folder: Path
    twin: Twin
    aoai: AoaiServer
    drill: list[Drill] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`mmlu-pipe run` on the cloud, to its end."""
        names = ("--workspace-config", "config.json", "--other-config", "other_configs.json")
        how = ("--dataset", "questions.jsonl", "--no-gate", "--wait", "--json")
        return subprocess.run(
            [sys.executable, "-m", "mmlu_pipe", "run", "--submit", *names, *how, *options],
            cwd=self.folder,
            env=os.environ | self.twin.environment(),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def output(self, folder: str) -> list[int]:
        """The numbers of the answered questions of a run folder."""
        text = (self.folder / folder / "output.jsonl").read_text(encoding="utf-8")
        return [json.loads(line)["number"] for line in text.splitlines()]


@pytest.fixture
def python() -> Path:
    """The interpreter of a job; the cache folder of the person has it, not that of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_CACHE_HOME")
        found = installed_interpreter(bundled_requirements())
    if found is None and os.environ.get("CI") != "true":
        pytest.skip(f"the interpreter of a job is not installed; install it with: {INSTALL_COMMAND}")
    assert found is not None, INSTALL_COMMAND
    return found


@pytest.fixture
def drills(python: Path, azurite: Azurite, tmp_path: Path) -> Iterator[Drills]:
    """A dataset whose answers take long enough for something to happen meanwhile."""
    lines = [
        {
            "dataset": "test",
            "subject": "astronomy",
            "question": f"Question {number}: pick {number % 4}",
            "choices": ["zero", "one", "two", "three"],
            "correct_answer": number % 4,
            "number": number,
        }
        for number in range(LINES)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    config = {
        "aoai_endpoint": f"https://{HOST}",
        "aoai_deployment": "dep",
        "aoai_model": "gpt-4o",
        "aoai_api_version": "2024-10-21",
        "aoai_compute": "cpu-cluster",
        "general_compute": "cpu-cluster",
    }
    with ExitStack() as stack:
        found: list[Drills] = []

        def answer(body: dict[str, Any], count: int) -> str | Reply:
            # Past the first checkpoint it waits for the drill, so that a fast machine does not finish before it.
            if count > ONE_CHECKPOINT + 60 and not found[0].gate.wait(60):
                return Reply(status=500)
            return default_answer(body, count)

        def drill(step: RunningStep) -> None:
            for each in found[0].drill:
                each(step)

        aoai = stack.enter_context(
            AoaiServer({"dep": "gpt-4o"}, key=None, bearer=lambda token: token.count(".") == 2, answer=answer)
        )
        doors = {HOST: int(aoai.endpoint.rpartition(":")[2])}
        quiet = {"MLFLOW_TRACKING_URI": ""}  # loading MLflow takes two seconds a step; test_tracking has it
        twin = stack.enter_context(Twin(python, storage=azurite, doors=doors, drill=drill, step_environment=quiet))
        found.append(Drills(tmp_path, twin, aoai))
        for name, value in {"config.json": twin.config(), "other_configs.json": config}.items():
            (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
        yield found[0]
        found[0].gate.set()


def _after_a_checkpoint(drills: Drills, act: Drill) -> Drill:
    """Act once on the step that asks, as soon as its first checkpoint is written, and let the endpoint go on."""

    def drill(step: RunningStep) -> None:
        if step.name != "run_aoai_guidance" or step.attempt > 1:
            return
        while not step.ended and not drills.gate.wait(0.1):
            if any(path.stat().st_size for path in step.outputs["checkpoints"].glob("ledger-*.jsonl")):
                act(step)
                drills.gate.set()

    return drill


def test_a_node_that_is_taken_away_goes_on_from_its_checkpoint_on_an_empty_disk(drills: Drills) -> None:
    drills.drill.append(_after_a_checkpoint(drills, RunningStep.preempt))
    done = drills.run("--output-dir", "out")
    assert done.returncode == 0, done.stderr
    assert drills.output("out") == list(range(LINES))
    assert json.loads(done.stdout)["score"]["count"] == LINES
    in_flight_and_after_the_checkpoint = 60 + 16
    assert LINES < len(drills.aoai.requests) <= LINES + in_flight_and_after_the_checkpoint


def test_a_step_that_is_killed_fails_its_job_and_a_new_job_goes_on_from_its_checkpoints(drills: Drills) -> None:
    drills.drill.append(_after_a_checkpoint(drills, RunningStep.kill))
    done = drills.run("--output-dir", "killed")
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"], told["error"]["type"]) == (1, "failed", "JobFailed")
    assert "failed in step run_aoai_guidance" in told["error"]["message"]
    assert "137" in told["error"]["message"]
    job = json.loads((drills.folder / "killed" / "manifest.json").read_text(encoding="utf-8"))["job"]["name"]
    assert f"--resume-from {job}" in told["error"]["message"]
    again = drills.run("--output-dir", "again", "--resume-from", job)
    assert again.returncode == 0, again.stderr
    assert drills.output("again") == list(range(LINES))
    assert len(drills.aoai.requests) <= LINES + 60 + 16
    assert again.stderr.count("unchanged") == 5


def test_a_snapshot_with_files_missing_fails_its_step_with_what_python_says(drills: Drills) -> None:
    drills.gate.set()
    lost = TwinReply(201, None, {"ETag": '"0x1"', "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"})
    drills.twin.faults.add(Fault("PUT", "blob/*/*", lost, times=60, after=10))
    done = drills.run("--output-dir", "out")
    told = json.loads(done.stdout)
    assert (done.returncode, told["error"]["type"]) == (1, "JobFailed"), done.stderr
    assert "failed in step run_aoai_guidance" in told["error"]["message"]
    assert "No module named" in told["error"]["message"]
    assert drills.aoai.requests == []


def test_answers_that_never_come_fail_the_job_and_leave_every_line_in_one_of_the_files(drills: Drills) -> None:
    drills.gate.set()
    drills.aoai.answer = lambda body, count: default_answer(body, count) if count <= 150 else Reply(status=401)
    done = drills.run("--output-dir", "out")
    told = json.loads(done.stdout)
    assert (done.returncode, told["error"]["type"]) == (1, "JobFailed"), done.stderr
    assert "Cognitive Services OpenAI User" in told["error"]["message"]
    errors = (drills.folder / "out" / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    numbers = drills.output("out") + [json.loads(line)["number"] for line in errors]
    assert sorted(numbers) == list(range(LINES))
    assert len(numbers) - len(errors) >= 150 - 16
