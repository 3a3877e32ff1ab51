"""What goes up as the code of a job, and that it is enough there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmlu_pipe.backends.azureml import snapshot
from mmlu_pipe.backends.azureml.snapshot import snapshot_files, snapshot_hash, write_snapshot
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_cassette, bundled_program, bundled_requirements
from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.components.jsonl_score_multiplechoice import jsonl_score_multiplechoice
from mmlu_pipe.rehearsal.interpreter import installed_interpreter
from mmlu_pipe.rehearsal.node import INSTALL_COMMAND
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def job_python() -> Path:
    """The interpreter of a job, from the user's cache."""
    found = installed_interpreter(bundled_requirements())
    if found is None:
        message = f"the packages of a job are not installed; `make test` installs them, and so does: {INSTALL_COMMAND}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def unpacked_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


# What it is


def test_it_is_one_folder_of_modules_and_nothing_else(tmp_path: Path) -> None:
    write_snapshot(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mmlu_pipe"]
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(snapshot_files())
    assert {path.rpartition(".")[2] for path in written} == {"py"}
    assert "mmlu_pipe/components/jsonl_guidance_aoai.py" in written


@pytest.mark.parametrize(
    "name",
    [
        "_bundled",
        "backends/azureml",
        "cli",
        "pytest_plugin",
        "recording/server",
        "rehearsal",
        "reporting/console",
        "reporting/export",
        "reporting/html",
        "reporting/progress",
        "serve",
    ],
)
def test_what_no_job_imports_stays_here(name: str) -> None:
    assert not [path for path in snapshot_files() if path.startswith((f"mmlu_pipe/{name}/", f"mmlu_pipe/{name}.py"))]


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in snapshot_files().values()) < 1_000_000


def test_its_hash_changes_with_a_name_or_a_byte_and_not_with_the_ends_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_snapshot(tmp_path)
    package = tmp_path / "mmlu_pipe"
    monkeypatch.setattr(snapshot, "_PACKAGE", package)
    before = snapshot_hash()
    module = package / "errors.py"
    module.write_bytes(module.read_bytes().replace(b"\n", b"\r\n"))
    assert snapshot_hash() == before
    write_snapshot(tmp_path / "again")
    assert b"\r" not in (tmp_path / "again" / "mmlu_pipe" / "errors.py").read_bytes()
    module.write_bytes(module.read_bytes() + b"\n")
    changed = snapshot_hash()
    module.rename(package / "mistakes.py")
    assert len({before, changed, snapshot_hash()}) == 3


def test_a_wheel_gives_the_same_snapshot_as_the_checkout(unpacked_wheel: Path) -> None:
    code = (
        "from mmlu_pipe.backends.azureml.snapshot import snapshot_hash; from mmlu_pipe.bundled import *\n"
        "import hashlib; print(snapshot_hash(), hashlib.sha256(bundled_requirements().read_bytes()).hexdigest())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for folder in (unpacked_wheel, ROOT / "src")
    ]
    assert found[0] == found[1]
    assert "_bundled" in str(next(unpacked_wheel.rglob("requirements.txt")))


# That it is enough


def test_the_packages_of_a_job_fit_together(job_python: Path) -> None:
    done = subprocess.run([job_python, "-m", "pip", "check"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


def test_the_interpreter_of_a_job_has_the_pins_and_not_the_package(job_python: Path) -> None:
    done = subprocess.run([job_python, "-m", "pip", "freeze"], capture_output=True, encoding="utf-8", check=True)
    pins = [line for line in bundled_requirements().read_text(encoding="utf-8").splitlines() if "==" in line]
    assert set(pins) <= set(done.stdout.splitlines())
    assert "mmlu" not in done.stdout


class Job:
    """A step's process: the snapshot is its working folder, and its environment is empty."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.code, self.outputs = python, folder / "code", folder / "outputs"
        self.outputs.mkdir()
        write_snapshot(self.code)

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.python, *arguments], cwd=self.code, env={}, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def job(job_python: Path, tmp_path: Path) -> Job:
    return Job(job_python, tmp_path)


def test_both_components_run_from_it_alone_and_give_the_same_bytes_as_here(job: Job, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for outputs in (here, job.outputs):
        answer = {
            "guidance_program": bundled_program("zero_shot"),
            "input_dataset": SAMPLE_DATASETS["sample"],
            "cassette": bundled_cassette("sample", "zero_shot"),
            **dict.fromkeys(("output_dataset", "error_dataset", "calls_dataset", "run_facts"), outputs),
        }
        score = {
            "input_dataset": outputs / "output.jsonl",
            "error_dataset": outputs / "errors.jsonl",
            "calls_dataset": outputs / "calls.jsonl",
            "score_dataset": outputs,
        }
        for component, values in ((jsonl_guidance_aoai, answer), (jsonl_score_multiplechoice, score)):
            if outputs == here:
                component(**values)
            else:
                job.run("-m", component.module, *component.arguments(values))
    for name in ("output.jsonl", "errors.jsonl", "score.json"):
        assert (job.outputs / name).read_bytes() == (here / name).read_bytes(), name
    facts = [json.loads((outputs / "facts.json").read_text(encoding="utf-8")) for outputs in (here, job.outputs)]
    assert facts[0]["answered"] == facts[1]["answered"] > 100
    assert facts[0]["outputs"]["output.jsonl"] == facts[1]["outputs"]["output.jsonl"]


def test_the_credentials_of_a_job_and_its_metrics_can_be_imported_there(job: Job) -> None:
    job.run("-c", "import mlflow, azureml.mlflow; from azure.ai.ml.identity import AzureMLOnBehalfOfCredential")


def test_a_plugins_hooks_can_be_imported_there(job: Job) -> None:
    job.run("-c", "from mmlu_pipe import hookimpl, MmluPipeError, Endpoint; import mmlu_pipe.plugins as p; p.manager()")
