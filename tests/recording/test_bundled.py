"""The recordings that come with the package: what they say of themselves is true, and they hold nothing private."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import vcr.cassette
from vcr.record_mode import RecordMode

import mmlu_pipe
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_cassette, bundled_programs
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.recording import provenance
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer

FOLDERS = sorted(path for path in (ROOT / "cassettes").iterdir() if path.is_dir())
PRIVATE = {
    "an API key": r"api[-_]?key",
    "a bearer token": r"\bbearer\s+\S",
    "a JWT": r"eyJ[\w-]{10,}\.",
    "an authorisation": r"authorization",
    "a cookie": r"set-cookie",
    "a resource's host": r"(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn)|azure-api\.net",
    "a region": r"x-ms-region",
    "a local host": r"127\.0\.0\.1|localhost|\[::1\]",
    "a long hex or Base64 key": r"(?<![\w/+])(?:[0-9a-f]{32}|[A-Za-z0-9]{84})(?![\w/+])",
}

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def facts_of(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / provenance.FILE_NAME).read_text(encoding="utf-8"))
    return value


def played(path: Path) -> vcr.cassette.Cassette:
    """The shard as vcrpy itself reads it."""
    return vcr.cassette.Cassette.load(path=str(path), record_mode=RecordMode.NONE)


def test_the_default_run_has_its_recordings() -> None:
    assert bundled_cassette("sample", "zero_shot") in FOLDERS


@every_folder
def test_they_were_made_of_the_files_that_ship(folder: Path) -> None:
    facts = facts_of(folder)
    dataset, _, program = folder.name.partition("-")
    files = {"dataset": SAMPLE_DATASETS[dataset], "program": bundled_programs()[program]}
    for name, file in files.items():
        assert facts[name]["file"] == file.name
        assert facts[name]["sha256"] == sha256_file(file)
    assert facts["dataset"]["lines"] == len(files["dataset"].read_bytes().splitlines())


@every_folder
def test_they_name_the_model_that_answered_and_its_weights(folder: Path) -> None:
    facts = facts_of(folder)
    assert re.search(r"\b[0-9a-f]{64}\b", facts["note"])
    answered = [
        json.loads(response["body"]["string"])["model"]
        for path in folder.glob("*.yaml")
        for response in played(path).responses
    ]
    assert facts["served_models"] == {facts["model"]: len(answered)}
    assert set(answered) == {facts["model"]}
    assert facts["model"] in facts["note"]


@every_folder
def test_every_shard_is_a_cassette_that_vcrpy_plays(folder: Path) -> None:
    shards = sorted(folder.glob("*.yaml"))
    assert all(path.suffix == ".json" for path in {*folder.iterdir()} - {*shards})
    cassettes = [played(path) for path in shards]
    assert all(len(cassette) for cassette in cassettes)
    assert sum(map(len, cassettes)) == facts_of(folder)["recordings"]
    for cassette in cassettes:
        for request, response in zip(cassette.requests, cassette.responses, strict=True):
            assert response["status"]["code"] == 200
            assert (request.method, request.host, dict(request.headers)) == ("POST", "aoai.invalid", {})
            assert {name.lower() for name in response["headers"]} <= {"content-type"}


@every_folder
@pytest.mark.parametrize("what", PRIVATE)
def test_nothing_private_is_in_them(folder: Path, what: str) -> None:
    pattern = re.compile(PRIVATE[what], re.IGNORECASE)
    found = {
        path.name: match[0]
        for path in folder.iterdir()
        for match in [pattern.search(path.read_text(encoding="utf-8"))]
        if match
    }
    assert found == {}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an API key", "api-key: 7"),
        ("a bearer token", "Authorization: Bearer eyJ"),
        ("a JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x"),
        ("an authorisation", "Authorization"),
        ("a cookie", "Set-Cookie"),
        ("a resource's host", "https://mine.openai.azure.com/"),
        ("a region", "x-ms-region: Sweden Central"),
        ("a local host", "http://127.0.0.1:8080"),
        ("a long hex or Base64 key", f"'{'0f' * 16}'"),
    ],
)
def test_what_is_looked_for_would_be_found(what: str, text: str) -> None:
    assert re.search(PRIVATE[what], text, re.IGNORECASE)


def test_the_default_run_plays_all_of_them_and_misses_none(tmp_path: Path) -> None:
    run = mmlu_pipe.run(output_dir=tmp_path / "run")
    assert run.score is not None
    assert (run.score.count, run.score.answered, run.score.failed) == (114, 114, 0)
    manifest = json.loads((run.run_dir / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["run"]["recordings"] == {"used": 114, "in_cassette": 114, "unused": 0, "first_unused": []}


def test_answers_of_another_model_are_not_recorded_into_the_same_folder(
    tmp_path, write_dataset, write_config, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    with AoaiServer() as server:
        first = write_config(server.endpoint)
        mmlu_pipe.run(write_dataset(2), other_config=first, cassette="tape", record_mode="once", output_dir="a")
        asked = len(server.requests)
        other = write_config(server.endpoint, "other.json", aoai_model="gpt-4.1")
        with pytest.raises(mmlu_pipe.MmluPipeError, match="holds answers of 'gpt-4o'") as caught:
            mmlu_pipe.run(write_dataset(2), other_config=other, cassette="tape", record_mode="all", output_dir="b")
    assert caught.value.exit_code == 2
    assert len(server.requests) == asked
