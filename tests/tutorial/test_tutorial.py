"""The tutorial's two command lines, verbatim, in a folder as the tutorial has it, against the twin."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.dataset.mmlu import DEFAULT_REVISION
from mmlu_pipe.rehearsal import Azurite, Twin
from tests.conftest import ROOT
from tests.rehearsal.conftest import azurite
from tests.servers.aoai import AoaiServer
from tests.servers.hub import LoopbackHub, mmlu_repository

__all__ = ["azurite"]

CREATE_DATASET = "python ./create_dataset.py --workspace_config config.json --mmlu_dataset astronomy --split validation"
RUN_EXPERIMENT = (
    "python ./run_experiment.py --workspace_config config.json --other_config other_configs.json "
    "--dataset_name mmlu_astronomy_validation --guidance_program ./guidance_programs/zero_shot.py"
)
KINDS = ("data", "environments", "components")
HOST = "my-resource.openai.azure.com"
ROWS = [
    {"question": f"Which is {n}?", "subject": "astronomy", "choices": ["0", "1", "2", "3"], "answer": n % 4}
    for n in range(5)
]


@dataclass
class Tutorial:
    """A folder with the tutorial's files, and what it reaches."""

    folder: Path
    twin: Twin
    aoai: AoaiServer
    hub: LoopbackHub

    def python(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command line that begins with `python`, in a fresh process."""
        words = shlex.split(command)
        assert words.pop(0) == "python"
        network = self.twin.environment()
        hub = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=os.environ | network | hub | {"HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def put(self, kind: str) -> list[str]:
        """`name:version` of what was put into the workspace."""
        paths = [request.path.split("/") for request in self.twin.requests if request.method == "PUT"]
        return [f"{path[-3]}:{path[-1]}" for path in paths if path[-4:-3] == [kind] and path[-2] == "versions"]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The jobs that were submitted."""
        return [
            {"name": request.path.rpartition("/")[2], **request.body["properties"]}
            for request in self.twin.requests
            if request.method == "PUT" and "/jobs/" in request.path
        ]


@pytest.fixture(scope="module")
def tutorial(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(ROOT / "tutorial", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "guidance_programs", folder / "guidance_programs")
    (folder / "other_configs_example.json").rename(folder / "other_configs.json")
    rows = dict.fromkeys(("test", "validation", "dev"), ROWS)
    repository = mmlu_repository({"all": rows, "astronomy": rows}, commit=DEFAULT_REVISION)
    with (
        AoaiServer({"my-gpt-4o": "gpt-4o"}, key=None, bearer=lambda token: token.count(".") == 2) as aoai,
        LoopbackHub({"cais/mmlu": repository}) as hub,
        Twin(sys.executable, storage=azurite, doors={HOST: int(aoai.endpoint.rpartition(":")[2])}) as twin,
    ):
        (folder / "config.json").write_text(json.dumps(twin.config()), encoding="utf-8")
        yield Tutorial(folder, twin, aoai, hub)


@pytest.fixture(scope="module")
def created(tutorial: Tutorial) -> str:
    """What the first command line said."""
    done = tutorial.python(CREATE_DATASET)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def submitted(tutorial: Tutorial, created: str) -> list[dict[str, Any]]:
    """The jobs of the second command line, given twice; both have ended."""
    for _ in range(2):
        done = tutorial.python(RUN_EXPERIMENT)
        assert done.returncode == 0, done.stderr
    for job in tutorial.jobs:
        assert tutorial.twin.job(job["name"]).wait(120)
    return tutorial.jobs


def test_the_first_command_registers_the_subject_as_a_data_asset(tutorial: Tutorial, created: str) -> None:
    path = tutorial.folder / "data" / "mmlu_astronomy_validation.jsonl"
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(ROWS)
    (reference,) = tutorial.put("data")
    assert reference.startswith("mmlu_astronomy_validation:")
    assert f"5 lines, registered as azureml:{reference}" in created


def test_the_second_command_registers_the_program_the_environment_and_both_components(
    tutorial: Tutorial, submitted: list[dict[str, Any]]
) -> None:
    put = [reference.partition(":")[0] for kind in KINDS for reference in tutorial.put(kind)]
    assert put == [
        *("mmlu_astronomy_validation", "guidance_program_zero_shot", "mmlu_pipe"),
        *("jsonl_guidance_aoai", "jsonl_score_multiplechoice"),
    ]


def test_its_job_has_the_tutorials_experiment_and_a_second_one_joins_it(submitted: list[dict[str, Any]]) -> None:
    assert [job["experimentName"] for job in submitted] == ["simple_mmlu_astronomy_validation"] * 2
    assert len({job["name"] for job in submitted}) == 2
    assert all(set(job["jobs"]) == {"run_aoai_guidance", "score_results"} for job in submitted)


def test_every_line_is_asked_once_a_job_by_the_identity_of_the_compute(
    tutorial: Tutorial, submitted: list[dict[str, Any]]
) -> None:
    assert [tutorial.twin.job(job["name"]).status for job in submitted] == ["Completed", "Completed"]
    assert tutorial.aoai.answered == 2 * len(ROWS)
    assert {"api-key"} & {name for request in tutorial.aoai.requests for name in request.headers} == set()


def test_the_outputs_hold_every_line_and_their_score(tutorial: Tutorial, submitted: list[dict[str, Any]]) -> None:
    for job in submitted:
        fetched = tutorial.python(f"python -m mmlu_pipe fetch {job['name']} --json")
        assert json.loads(fetched.stdout)["score"]["count"] == len(ROWS), fetched.stderr
        lines = (tutorial.folder / "runs" / job["name"] / "output.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["question"] for line in lines] == [row["question"] for row in ROWS]


def test_a_config_of_another_workspace_is_refused_in_one_line(tutorial: Tutorial, created: str) -> None:
    other = tutorial.twin.config() | {"workspace_name": "other"}
    (tutorial.folder / "elsewhere.json").write_text(json.dumps(other), encoding="utf-8")
    done = tutorial.python(CREATE_DATASET.replace("config.json", "elsewhere.json"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "workspace_name" in done.stderr
    assert "Traceback" not in done.stderr
