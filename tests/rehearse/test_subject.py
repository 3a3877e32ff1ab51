"""What a rehearsal takes from the options of `run`, and what it refuses before anything starts."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from mmlu_pipe.bundled import bundled_cassette, bundled_program
from mmlu_pipe.cli.options import run_options
from mmlu_pipe.cli.rehearse import rehearse as command
from mmlu_pipe.config import CLOUD_OPTIONS, Computes, RunConfig
from mmlu_pipe.errors import ConfigError, DatasetError, RecordingError
from mmlu_pipe.proving.subject import prepare
from mmlu_pipe.records import Endpoint
from mmlu_pipe.rehearsal.workspace import CredentialKind

SAMPLE = bundled_cassette("sample", "zero_shot")
GUID = "11111111-2222-3333-4444-555555555555"


def parsed(words: list[str]) -> RunConfig:
    """The options of a command line, as `run` would have them."""
    found: list[RunConfig] = []

    @click.command()
    @run_options
    def run(config: RunConfig) -> None:
        found.append(config)

    run.main(words[1:], standalone_mode=False)
    return found[0]


def changed(**more: object) -> RunConfig:
    """Every option that a rehearsal takes, and none as by default."""
    options: dict[str, object] = {
        "examples": "sample_dev",
        "program_option": ("k=2", "note=a b"),
        "select_strategy": "text",
        "limit": 3,
        "workers": 2,
        "rpm": 60,
        "tpm": 6000,
        "timeout": 20.0,
        "max_wait": 30.0,
        "max_errors": "5%",
        "on_content_filter": "count",
        "correct_key": "answer",
        "response_key": "found",
        "auth": "entra",
        "require": ("temperature=0", "seed"),
        "seed": 0,
        "reasoning_effort": "low",
        "stream": True,
        "output_encoding": "utf-8-sig",
        "identity": GUID,
        "extra_package": ("one==1", "two"),
        "version_scheme": "epoch",
        "gate": False,
    }
    return RunConfig(**(options | more))  # type: ignore[arg-type]


def test_without_options_it_is_the_bundled_sample_on_a_deployment_that_is_made_up(tmp_path: Path) -> None:
    found = prepare(RunConfig(), tmp_path)
    assert (found.dataset.name, found.program) == ("sample_test.jsonl", bundled_program("zero_shot"))
    assert found.host == "rehearsal.openai.azure.com"
    assert (found.endpoint.model, found.endpoint.api_version) == ("Qwen2.5-Coder-1.5B-Instruct", "2024-10-21")
    assert found.computes == Computes("cpu-cluster", "cpu-cluster")
    copied = {path.name: path.read_bytes() for path in found.cassette.iterdir()}
    assert copied == {path.name: path.read_bytes() for path in SAMPLE.iterdir()}


def test_with_a_file_of_ones_own_it_is_that_deployment(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    own = write_config("https://mine.openai.azure.us/", aoai_compute="big", general_compute="serverless")
    (tmp_path / "folder").mkdir()
    found = prepare(RunConfig(other_config=own), tmp_path / "folder")
    assert found.endpoint == Endpoint("https://mine.openai.azure.us", "dep", "gpt-4o", "2024-10-21")
    assert (found.other_config, found.computes) == (own, Computes("big", "serverless"))


def test_every_option_reaches_the_submission_and_those_of_a_cloud_no_other_command(tmp_path: Path) -> None:
    config = changed()
    found = prepare(config, tmp_path)
    named = {"backend": "azureml", "cassette": found.cassette, "other_config": found.other_config}
    places = {
        "dataset": str(found.dataset),
        "guidance_program": str(found.program),
        "examples": str(found.examples),
    }
    assert parsed(found.cloud) == dataclasses.replace(config, **named, **places)
    defaults = {name: getattr(RunConfig(), name) for name in CLOUD_OPTIONS}
    assert parsed(found.local) == dataclasses.replace(parsed(found.cloud), backend="local", **defaults)
    assert [word.partition("=")[0] for word in found.gate] == [
        *("verify", "--dataset", "--guidance-program", "--examples", "--cassette", "--other-config"),
        *("--program-option", "--program-option", "--select-strategy", "--correct-key", "--seed", "--reasoning-effort"),
    ]


def test_no_option_of_run_is_forgotten() -> None:
    taken = {field.name for field in dataclasses.fields(RunConfig) if getattr(changed(), field.name) != field.default}
    elsewhere = {"dataset", "guidance_program", "cassette", "other_config", "workspace_config", "data_dir", "lines"}
    refused = {"backend", "record_mode", "record_note", "output_dir", "retry_errors", "environment", "components"}
    assert taken | elsewhere | refused | {"resume_from"} == {field.name for field in dataclasses.fields(RunConfig)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backend": "elsewhere"}, "--backend elsewhere"),
        ({"environment": "mine:1"}, "--environment names something in a workspace of yours"),
        ({"components": "azureml://registries/r/components/c/versions/1"}, "--components names something"),
        ({"resume_from": "earlier"}, "--resume-from names something"),
        ({"output_dir": Path("runs/1")}, "--keep DIR keeps all of it"),
        ({"identity": "somebody"}, "--identity 'somebody'"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(tmp_path: Path, options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        prepare(RunConfig(**options), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_deployment_on_this_machine_is_refused(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="which no job can reach"):
        prepare(RunConfig(other_config=write_config("http://127.0.0.1:8080")), tmp_path / "folder")


def test_without_recordings_the_command_that_makes_some_is_named(
    tmp_path: Path, write_dataset: Callable[..., Path]
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordingError, match="--record-mode new_episodes --limit 20"):
        prepare(RunConfig(dataset=str(write_dataset(2))), tmp_path / "folder")
    with pytest.raises(RecordingError, match="there are no recordings"):
        prepare(RunConfig(cassette=tmp_path / "nowhere"), tmp_path / "folder")


def test_a_dataset_that_is_nowhere_is_told_as_run_tells_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="create-dataset --mmlu-dataset astronomy --split test"):
        prepare(RunConfig(dataset="mmlu_astronomy_test", data_dir=tmp_path), tmp_path)


def test_the_command_offers_the_kinds_of_credentials_that_the_twin_has() -> None:
    (option,) = (each for each in command.params if each.name == "credential_kind")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == CredentialKind.__args__  # type: ignore[attr-defined]


def test_a_folder_that_holds_something_is_not_kept_in(
    tmp_path: Path, mmlu_pipe_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("precious", encoding="utf-8")
    ended = mmlu_pipe_command("rehearse", "--keep", "mine", "--json")
    assert ended.returncode == 2
    assert "give --keep a new or empty folder" in json.loads(ended.stdout)["error"]["message"]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious.txt"]
