"""What a workspace does: each name is a claim of claims.py. One job is waited for by most of them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import LINES, Machine, setting

FILES = ("calls.jsonl", "errors.jsonl", "manifest.json", "output.jsonl", "score.json")
FAILING = '''"""A program that gives what is no JSON value."""


def guidance_generation(lm, input):
    return {"zero_shot_choice": object()}
'''


@dataclass(frozen=True)
class Job:
    """A job that was submitted by a process of its own."""

    told: dict[str, Any]
    said: str
    run_dir: Path
    name: str

    def references(self, what: str) -> list[str]:
        """What the submission said it `registered`, or found `unchanged`."""
        return re.findall(rf"^{what} +(\S+)$", self.said, re.MULTILINE)


def submit(machine: Machine, run_dir: str, *words: str | Path, program: str = "program.py", config: str = "") -> Job:
    """Submit; without `--wait` among the words the job is left alone."""
    done = machine(
        "run",
        *("--backend=azureml", "--dataset=mmlu_pipe_live.jsonl", f"--guidance-program={program}"),
        *(f"--other-config={config or 'other_configs.json'}", f"--output-dir={run_dir}", "--json"),
        *(words if "--wait" in words else ("--no-wait", *words)),
    )
    told = done.json
    return Job(told, done.err, machine.folder / run_dir, machine.manifest(run_dir)["job"]["name"])


@pytest.fixture(scope="module", autouse=True)
def _workspace(machine: Machine) -> None:
    setting("WORKSPACE_CONFIG", "the path of a real config.json")


@pytest.fixture(scope="module")
def job(machine: Machine, cassette: Path) -> Job:
    return submit(machine, "first", f"--cassette={cassette}", "--wait")


@pytest.fixture(scope="module")
def again(machine: Machine, cassette: Path, job: Job) -> Job:
    assert job.told["status"] == "completed"
    return submit(machine, "again", f"--cassette={cassette}")


SLOWLY = """
import time

answered = guidance_generation


def guidance_generation(lm, input):
    time.sleep(60)  # its job is cancelled meanwhile, also where a node is there at once
    return answered(lm, input)
"""


@pytest.fixture(scope="module")
def changed(machine: Machine, job: Job) -> tuple[Job, dict[str, Any]]:
    """Another program, whose job is cancelled at once."""
    assert job.told["status"] == "completed"
    text = (machine.folder / "program.py").read_text(encoding="utf-8")
    (machine.folder / "changed.py").write_text(f"{text}\n# {time.time_ns()}\n{SLOWLY}", encoding="utf-8")
    submitted = submit(machine, "changed", "--no-gate", program="changed.py")
    return submitted, machine("cancel", submitted.name, "--json").json


def completes(machine: Machine, run_dir: str, *words: str | Path, config: str = "") -> dict[str, Any]:
    """A job of three lines; gives the facts that its first step wrote down."""
    ended = submit(machine, run_dir, "--no-gate", "--limit=3", "--wait", *words, config=config)
    assert (ended.told["status"], ended.told["answered"]) == ("completed", 3)
    facts: dict[str, Any] = machine.manifest(run_dir)["run"]
    return facts


def test_data_asset(machine: Machine) -> None:
    subject = ("--mmlu-dataset=anatomy", "--split=test", "--source=mmlu_pipe_live.jsonl")
    words = (*subject, "--workspace-config=config.json", "--json")
    first = machine("create-dataset", *words).json
    assert re.fullmatch(r"(azureml:)?mmlu_anatomy_test:[0-9a-f]{16}", first["asset"])
    assert machine("create-dataset", *words).json["asset"] == first["asset"]
    planned = ("--backend=azureml", "--dataset=mmlu_anatomy_test", "--other-config=other_configs.json", "--no-gate")
    found = machine("plan", *planned, "--data-dir=elsewhere", "--check-workspace", "--json").json
    assert found["lines"] == first["lines"]
    (fetched,) = (machine.folder / "elsewhere").rglob("*.jsonl")
    assert fetched.read_bytes() == (machine.folder / "data" / "mmlu_anatomy_test.jsonl").read_bytes()


def test_image_builds(job: Job) -> None:
    assert any(reference.startswith("azureml:mmlu_pipe:") for reference in job.references("(?:registered|unchanged)"))
    assert job.told["status"] == "completed"


def test_job_completes(job: Job) -> None:
    assert (job.told["status"], job.told["lines"], job.told["answered"]) == ("completed", LINES, LINES)
    assert job.told["score"]["count"] == LINES


def test_same_shape(machine: Machine, job: Job) -> None:
    assert sorted(path.name for path in job.run_dir.iterdir()) == sorted(FILES)
    for name in ("output.jsonl", "calls.jsonl"):
        here, there = machine.lines("recorded", name), machine.lines("first", name)
        assert [sorted(line) for line in here] == [sorted(line) for line in there]
    assert [line["question"] for line in machine.lines("first", "output.jsonl")] == [
        line["question"] for line in machine.lines(".", "mmlu_pipe_live.jsonl")
    ]


def test_managed_identity(machine: Machine, job: Job) -> None:
    assert job.told["status"] == "completed"
    assert machine.manifest("first")["run"]["auth"].startswith("managed identity")


def test_user_identity(machine: Machine) -> None:
    assert completes(machine, "user", "--identity=user")["auth"] == "submitting user"


def test_client_id(machine: Machine) -> None:
    client_id = setting("CLIENT_ID", "the client id of a user-assigned identity of the cluster")
    assert completes(machine, "client_id", f"--identity={client_id}")["auth"].startswith("managed identity …")


def test_serverless(machine: Machine) -> None:
    setting("SERVERLESS", "1 if the workspace has serverless compute")
    machine.config("serverless.json", aoai_compute="serverless", general_compute="serverless")
    completes(machine, "serverless", "--identity=user", config="serverless.json")


def test_second_submission(again: Job) -> None:
    assert again.references("registered") == []
    assert len(again.references("unchanged")) == 5


def test_asked_again(machine: Machine, job: Job, again: Job) -> None:
    assert machine("fetch", again.run_dir, "--wait", "--json").json["answered"] == LINES
    latencies = [[line["latency_s"] for line in machine.lines(run.run_dir, "calls.jsonl")] for run in (job, again)]
    assert latencies[0] != latencies[1]


def test_one_new_version(changed: tuple[Job, dict[str, Any]]) -> None:
    submitted, _ = changed
    (reference,) = submitted.references("registered")
    assert reference.startswith("azureml:guidance_program_changed:")


def test_first_version_again(machine: Machine, changed: tuple[Job, dict[str, Any]], cassette: Path) -> None:
    assert changed[1]["status"] == "cancelled"
    third = submit(machine, "third", f"--cassette={cassette}")
    machine("cancel", third.name, "--json")
    assert third.references("registered") == []


def test_epoch_versions(machine: Machine, job: Job) -> None:
    assert job.told["status"] == "completed"
    submitted = submit(machine, "epoch", "--no-gate", "--version-scheme=epoch")
    machine("cancel", submitted.name, "--json")
    versions = {reference.rpartition(":")[2] for reference in submitted.references("registered")}
    assert len(versions) == 1
    assert abs(int(versions.pop()) - time.time()) < 3600


def test_cancel(machine: Machine, changed: tuple[Job, dict[str, Any]]) -> None:
    submitted, told = changed
    assert told["status"] == "cancelled"
    assert machine("status", submitted.name, "--json").code == 1


def test_from_elsewhere(machine: Machine, again: Job) -> None:
    fetched = machine("fetch", again.name, "--wait", "--output-dir=elsewhere_fetched", "--json").json
    assert (fetched["status"], fetched["answered"]) == ("completed", LINES)
    found = machine("status", again.name, "--json").json
    assert {step["name"]: step["status"] for step in found["steps"]} == {
        "run_aoai_guidance": "completed",
        "score_results": "completed",
    }


def test_resume_from(machine: Machine, job: Job, cassette: Path) -> None:
    resumed = submit(machine, "resumed", f"--cassette={cassette}", f"--resume-from={job.name}", "--wait")
    assert resumed.told["answered"] == LINES
    for name in ("output.jsonl", "calls.jsonl"):  # the very same calls, with their times
        assert (resumed.run_dir / name).read_bytes() == (job.run_dir / name).read_bytes()


def test_failed_step(machine: Machine) -> None:
    (machine.folder / "failing.py").write_text(FAILING, encoding="utf-8")
    words = ("--backend=azureml", "--dataset=mmlu_pipe_live.jsonl", "--guidance-program=failing.py", "--no-gate")
    ended = machine("run", *words, "--other-config=other_configs.json", "--limit=3", "--wait", "--output-dir=failed")
    assert ended.code == 1
    assert "failed in step run_aoai_guidance" in ended.err
    assert "failing.py: guidance_generation" in ended.err
    assert "is not JSON" in ended.err


def test_plan_asks_the_workspace(machine: Machine, job: Job) -> None:
    assert job.told["status"] == "completed"
    words = ("--backend=azureml", "--dataset=mmlu_pipe_live.jsonl", "--guidance-program=program.py", "--no-gate")
    found = machine("plan", *words, "--other-config=other_configs.json", "--check-workspace", "--json").json
    assert [asset["exists"] for asset in found["assets"]] == [True] * 5
    assert found["objections"] == []


def test_own_environment(machine: Machine, job: Job) -> None:
    (reference,) = (
        found for found in job.references("(?:registered|unchanged)") if found.startswith("azureml:mmlu_pipe:")
    )
    assert completes(machine, "environment", f"--environment={reference}")["answered"] == 3


def test_extra_package(machine: Machine) -> None:
    setting("EXTRA_PACKAGE", "a small package, as NAME==VERSION; its image takes a while to build")
    package = setting("EXTRA_PACKAGE", "")
    assert completes(machine, "extra", f"--extra-package={package}")["answered"] == 3


def test_registry(machine: Machine) -> None:
    registry = setting("REGISTRY", "the name of an AzureML registry that you may write to")
    version = f"0.0.{int(time.time())}"
    words = (f"--registry={registry}", f"--version={version}", "--json")
    first, again = (machine("publish", *words).json for _ in range(2))
    assert (len(first["created"]), again["created"], again["reused"]) == (3, [], first["created"])
    assert completes(machine, "registry", f"--components={first['components']}")["answered"] == 3


def test_doctor_workspace(machine: Machine) -> None:
    words = ("--workspace-config=config.json", "--other-config=other_configs.json", "--identity=user")
    found = machine("doctor", *words, "--json").json
    assert found["ok"], [check for check in found["checks"] if check["state"] == "failed"]
