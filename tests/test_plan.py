"""`plan`: what would be done, without doing any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import mmlu_pipe
from mmlu_pipe.bundled import bundled_cassette
from mmlu_pipe.errors import ConfigError

Command = Callable[..., subprocess.CompletedProcess[str]]
WORKSPACE = {
    "subscription_id": "00000000-0000-4000-8000-00000000abcd",
    "resource_group": "our-group",
    "workspace_name": "our-workspace",
}


@pytest.fixture
def cloud(tmp_path: Path, write_config: Callable[..., Path]) -> list[str]:
    """The options of a run in a workspace that nobody can reach."""
    (tmp_path / "config.json").write_text("\ufeff" + json.dumps(WORKSPACE), encoding="utf-8")
    model = "Qwen2.5-Coder-1.5B-Instruct"  # whose answers are recorded
    other = write_config("https://my-resource.openai.azure.com", aoai_model=model, general_compute="serverless")
    return ["--backend", "azureml", "--workspace-config", "config.json", "--other-config", str(other)]


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """A copy of the bundled recordings."""
    folder = tmp_path / "tape"
    folder.mkdir()
    for path in bundled_cassette("sample", "zero_shot").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return "tape"


@pytest.fixture
def verified(recorded: str, mmlu_pipe_command: Command) -> str:
    """The recordings with the record of a verification."""
    names = ("--dataset", "sample", "--guidance-program", "zero_shot")
    assert mmlu_pipe_command("verify", *names, "--cassette", recorded).returncode == 0
    return recorded


def test_a_verified_run_is_planned_with_nothing_against_it(
    mmlu_pipe_command: Command, cloud: list[str], verified: str
) -> None:
    done = mmlu_pipe_command("plan", *cloud, "--cassette", verified)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "simple_sample_test: 114 lines on the backend azureml",
        "workspace our-workspace (resource group our-group, subscription …abcd)",
        "data        sample_test:",
        "environment mmlu_pipe:",
        "component   jsonl_guidance_aoai:",
        "component   jsonl_score_multiplechoice:",
        "python -m mmlu_pipe.components.jsonl_guidance_aoai",
        "--azure_openai_deployment='dep'",
        "prompt tokens",
        "nothing stands against it",
    ):
        assert said in done.stdout
    assert WORKSPACE["subscription_id"] not in done.stdout + done.stderr


def test_the_gate_objects_to_a_run_without_a_verification_and_names_the_command(
    mmlu_pipe_command: Command, cloud: list[str], recorded: str
) -> None:
    done = mmlu_pipe_command("plan", *cloud, "--cassette", recorded)
    assert done.returncode == 2
    assert "holds no verification" in done.stdout
    assert "mmlu-pipe verify --dataset" in done.stdout


def test_the_gate_objects_to_another_model_than_the_recorded_one(
    mmlu_pipe_command: Command, cloud: list[str], verified: str, write_config: Callable[..., Path]
) -> None:
    write_config("https://my-resource.openai.azure.com", aoai_model="o3-mini")
    done = mmlu_pipe_command("plan", *cloud, "--cassette", verified)
    assert done.returncode == 2
    assert "verified on answers of Qwen2.5-Coder-1.5B-Instruct, but o3-mini would be asked" in done.stdout


def test_an_estimate_is_of_the_lines_that_are_asked_for(mmlu_pipe_command: Command) -> None:
    for chosen in (["--limit", "3"], ["--lines", "2,5-6"]):
        assert json.loads(mmlu_pipe_command("plan", *chosen, "--json").stdout)["estimate"]["lines"] == 3


def test_a_misspelt_dataset_is_told_what_it_may_be(mmlu_pipe_command: Command, cloud: list[str]) -> None:
    assert "did you mean sample_dev" in mmlu_pipe_command("plan", *cloud, "--dataset", "sample_dve").stderr


def test_the_gate_can_be_left_out(mmlu_pipe_command: Command, cloud: list[str]) -> None:
    assert mmlu_pipe_command("plan", *cloud).returncode == 2
    assert mmlu_pipe_command("plan", *cloud, "--no-gate").returncode == 0


def test_a_plan_imports_nothing_of_azure_and_asks_nobody(tmp_path: Path, cloud: list[str]) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*given): raise AssertionError(f'asked {given}')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from mmlu_pipe.cli.root import invoke\n"
        "try: invoke(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('MODULES', ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", *cloud, "--no-gate"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.rpartition("MODULES")[2].split()
    assert [name for name in loaded if name.startswith(("azure", "msal", "openai"))] == []


def test_the_documents_can_be_kept_and_are_what_is_shown(
    mmlu_pipe_command: Command, cloud: list[str], tmp_path: Path
) -> None:
    done = mmlu_pipe_command("plan", *cloud, "--no-gate", "--documents", "sent", "--json")
    found = json.loads(done.stdout)
    kept = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "sent").iterdir()}
    assert kept == found["documents"]
    assert yaml.safe_load(kept["job.yml"])["experiment_name"] == "simple_sample_test"
    assert {asset["exists"] for asset in found["assets"]} == {None}
    again = mmlu_pipe_command("plan", *cloud, "--no-gate", "--documents", "sent")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)


@pytest.mark.parametrize("place", ["config.json/sent", "d" * 300])
def test_documents_that_cannot_be_kept_are_told(mmlu_pipe_command: Command, cloud: list[str], place: str) -> None:
    done = mmlu_pipe_command("plan", *cloud, "--no-gate", "--documents", place)
    assert (done.returncode, "give --documents another folder" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_dataset_of_any_name_is_planned_for_an_experiment_that_the_service_takes(
    mmlu_pipe_command: Command, cloud: list[str], write_dataset: Callable[..., Path]
) -> None:
    path = write_dataset(3)
    path = path.rename(path.with_name("o'brien 2.dev.jsonl"))
    found = json.loads(mmlu_pipe_command("plan", *cloud, "--no-gate", "--dataset", path, "--json").stdout)
    assert (
        found["pipeline"] == yaml.safe_load(found["documents"]["job.yml"])["experiment_name"] == "simple_o_brien_2_dev"
    )


@pytest.mark.parametrize("name", ["config.json", "other_configs.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 10_000 + "}"], ids=["deep", "long"])
def test_a_configuration_that_no_reader_takes_is_refused(
    mmlu_pipe_command: Command, cloud: list[str], tmp_path: Path, name: str, text: str
) -> None:
    path = Path(cloud[-1]) if name == "other_configs.json" else tmp_path / name
    path.write_text(text, encoding="utf-8")
    done = mmlu_pipe_command("plan", *cloud)
    assert (done.returncode, f"{path.name}: the " in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_a_slip_in_the_computes_is_told_before_a_dataset_is_looked_for(
    mmlu_pipe_command: Command, cloud: list[str], write_config: Callable[..., Path]
) -> None:
    write_config("https://my-resource.openai.azure.com", general_compute="")
    done = mmlu_pipe_command("plan", *cloud, "--dataset", "nowhere")
    assert (done.returncode, "'general_compute' must be a text" in done.stderr) == (2, True), done.stderr


def test_a_local_run_is_planned_as_the_two_commands_that_do_the_same(
    tmp_path: Path, mmlu_pipe_command: Command
) -> None:
    found = json.loads(mmlu_pipe_command("plan", "--limit", "5", "--output-dir", "out", "--json").stdout)
    (tmp_path / "out").mkdir()
    for command in found["commands"].values():
        done = subprocess.run(
            command.replace("python", sys.executable, 1), shell=True, cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert mmlu_pipe_command("run", "--limit", "5", "--output-dir", "in-process").returncode == 0
    for name in ("output.jsonl", "errors.jsonl", "score.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in-process" / name).read_bytes()


def test_a_plan_is_the_same_from_python(cloud: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = mmlu_pipe.plan(backend="azureml", other_config=cloud[-1], gate=False)
    assert found.pipeline == "simple_sample_test"
    assert found.objections == ()
    with pytest.raises(TypeError, match="nonsense"):
        mmlu_pipe.plan(nonsense=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--auth", "key"], "no key enters a job"),
        (["--record-mode", "once", "--cassette", "tape"], "a job records nothing"),
        (["--retry-errors", "--output-dir", "out"], "for local runs"),
        (["--workspace-config", "nowhere.json"], "download config.json"),
        (["--dataset", "nowhere"], "--check-workspace"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    mmlu_pipe_command: Command, cloud: list[str], options: list[str], said: str
) -> None:
    done = mmlu_pipe_command("plan", *cloud, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subscription_id": None}, "'subscription_id' is missing"),
        ({"subscription_id": "mine"}, "no subscription's id"),
        ({"workspace_name": "<WORKSPACE>"}, "is still '<WORKSPACE>'"),
        ({"resource_group": " "}, "'resource_group' is missing or empty"),
    ],
)
def test_a_workspace_configuration_with_a_slip_is_refused_by_its_key(
    mmlu_pipe_command: Command, cloud: list[str], tmp_path: Path, change: dict[str, str | None], said: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(WORKSPACE | change), encoding="utf-8")
    done = mmlu_pipe_command("plan", *cloud)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_cloud_option_of_a_local_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--identity is for a cloud backend"):
        mmlu_pipe.run(identity="user")
    with pytest.raises(ConfigError, match="--no-gate is for a cloud backend"):
        mmlu_pipe.run(gate=False)


def test_serverless_compute_as_the_computes_identity_is_noted(
    mmlu_pipe_command: Command, cloud: list[str], write_config: Callable[..., Path]
) -> None:
    write_config("https://my-resource.openai.azure.com", aoai_compute="serverless")
    said = "serverless compute has no identity of its own"
    assert said in mmlu_pipe_command("plan", *cloud, "--no-gate").stdout
    assert said not in mmlu_pipe_command("plan", *cloud, "--no-gate", "--identity", "user").stdout
