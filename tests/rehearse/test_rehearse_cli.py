"""`mmlu-pipe rehearse` as a person runs it, and what goes wrong.

What goes well is shown with every kind of datastore credential and of identity, and with programs that show examples or
ask twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmlu_pipe.bundled import bundled_cassette, bundled_program

MODEL = "Qwen2.5-Coder-1.5B-Instruct"
GUID = "11111111-2222-3333-4444-555555555555"
FEW = ("--lines", "3,17,20-24")


@pytest.fixture
def start(tmp_path: Path, cache: str) -> Callable[..., subprocess.Popen[str]]:
    """Begin to rehearse in a fresh process, with a folder of its own for temporary files."""
    (tmp_path / "temporary").mkdir()

    def begin(*arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mmlu_pipe", "rehearse", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"XDG_CACHE_HOME": cache, "TMPDIR": str(tmp_path / "temporary")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    return begin


@pytest.fixture
def rehearse(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Rehearse to the end; nothing stays in the folder for temporary files."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        with start(*arguments) as process:
            told, errors = process.communicate(timeout=600)
        assert not list((tmp_path / "temporary").iterdir())
        return subprocess.CompletedProcess(process.args, process.returncode, told, errors)

    return run


def test_a_table_shows_what_was_proven_and_everything_is_kept_where_asked(
    tmp_path: Path, rehearse: Callable[..., subprocess.CompletedProcess[str]], write_config: Callable[..., Path]
) -> None:
    config = write_config("https://mine.services.ai.azure.com", aoai_model=MODEL, aoai_api_version="v1")
    options = ("--credential-kind", "AccountKey", "--identity", "user", "--keep", "kept")
    ended = rehearse("--guidance-program", "few_shot_knn", "--other-config", config, *options, *FEW)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("simple_sample_test rehearsed in ")
    assert max(map(len, lines[:-1])) <= 80
    assert [line.split()[0] for line in lines[1:16]] == ["ok"] * 15
    assert "ok        identity         UserIdentity in the job; asked as the submitting user" in ended.stdout
    assert "ok        answers          7 requests, 7 answered by their recordings" in ended.stdout
    assert [line.split()[0] for line in ended.stderr.splitlines()] == [
        *("local", "gate", "environment", "twin", "submission", "submitted"),
    ]
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"local", "job", "again", "cassette", "requests.jsonl", "job.log", "step_run_aoai_guidance.log"} <= kept
    text = (tmp_path / "kept" / "requests.jsonl").read_text(encoding="utf-8")
    requests = [json.loads(line) for line in text.splitlines()]
    jobs = [each["body"]["properties"] for each in requests if (each["method"], each["route"]) == ("PUT", "jobs/*")]
    assert [job["experimentName"] for job in jobs] == ["simple_sample_test"] * 2
    assert "authorised by" in (tmp_path / "kept" / "step_run_aoai_guidance.log").read_text(encoding="utf-8")


def test_it_works_by_entra_tokens_alone_and_as_an_assigned_identity_on_no_cluster(
    rehearse: Callable[..., subprocess.CompletedProcess[str]], write_config: Callable[..., Path]
) -> None:
    computes = {"aoai_compute": "serverless", "general_compute": "small"}
    config = write_config("https://mine.openai.azure.us", aoai_model=MODEL, **computes)
    options = ("--credential-kind", "None", "--identity", GUID, "--json")
    ended = rehearse("--guidance-program", "zero_shot_cot", "--other-config", config, *options, *FEW)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert (found["passed"], found["credential_kind"], found["kept"]) == (True, "None", None)
    assert {proof["name"]: proof["holds"] for proof in found["proofs"]} == dict.fromkeys(
        [
            *("gate", "package", "program", "dataset", "environment", "commands", "identity", "answers"),
            *("output.jsonl", "errors.jsonl", "score.json", "mlflow", "again", "secrets", "network"),
        ],
        True,
    )
    puts = {kind: count for kind, count in found["requests"].items() if kind.startswith("PUT ")}
    blobs = puts.pop("PUT blobs")
    assert puts == {"PUT data": 2, "PUT codes": 1, "PUT environments": 1, "PUT components": 2, "PUT jobs": 2}
    assert blobs > 50


def test_a_program_that_needs_what_a_job_lacks_fails_in_the_words_of_the_step(
    tmp_path: Path, rehearse: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    original = bundled_program("zero_shot")
    assert original is not None
    program = tmp_path / "mine.py"
    program.write_text(
        original.read_text(encoding="utf-8").replace("import guidance\n", "import guidance\nimport hypothesis\n"),
        encoding="utf-8",
    )
    cassette = bundled_cassette("sample", "zero_shot")
    ended = rehearse("--guidance-program", program, "--cassette", cassette, "--limit", "2", "--json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert not found["passed"]
    (failed,) = (stage for stage in found["stages"] if stage["error"])
    assert failed["name"] == "submission"
    assert "No module named 'hypothesis'" in failed["error"]
    holds = {proof["name"]: proof["holds"] for proof in found["proofs"]}
    assert (holds["program"], holds["environment"], holds["output.jsonl"], holds["again"]) == (True, False, None, None)


def test_a_run_that_fails_here_is_not_submitted(
    tmp_path: Path, rehearse: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    ended = rehearse("--limit", "2", "--require", "seed", "--json")
    found = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert [(stage["name"], bool(stage["error"])) for stage in found["stages"]] == [("local run", True)]
    assert "seed is required" in found["stages"][0]["error"]
    assert {proof["holds"] for proof in found["proofs"]} == {None}


def test_nothing_stays_of_a_rehearsal_that_is_stopped(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with start(*FEW) as process:
        assert process.stderr is not None
        while not (line := process.stderr.readline()).startswith("twin"):
            assert line, "it ended before"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (143, "stopped")
    assert not list((tmp_path / "temporary").iterdir())


def test_where_a_part_is_missing_the_command_that_installs_it_is_named(
    mmlu_pipe_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = mmlu_pipe_command("rehearse")  # with an empty cache
    assert ended.returncode == 2
    assert "install it once with: python -m mmlu_pipe.rehearsal" in ended.stderr
