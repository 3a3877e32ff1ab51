"""`mmlu-pipe verify` and `mmlu-pipe estimate`, run as a person runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mmlu_pipe.bundled import bundled_cassette, bundled_program

Command = Callable[..., subprocess.CompletedProcess[str]]
GATE = ("verify", "--dataset", "sample", "--guidance-program", "zero_shot", "--cassette", "recordings")


@pytest.fixture(autouse=True)
def recordings(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_cassette("sample", "zero_shot"), tmp_path / "recordings"))


def test_verify_passes_without_a_network(mmlu_pipe_command: Command, recordings: Path) -> None:
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9") | {"NO_PROXY": ""}
    done = mmlu_pipe_command(*GATE, "--gate-lines", "1", **nowhere)
    assert done.returncode == 0, done.stderr
    assert "verification  passed\n" in done.stdout
    assert "replayed      57 lines: 57 calls, 57 of them recorded\n" in done.stdout
    assert (recordings / "verification.json").is_file()


def test_verify_that_fails_exits_with_1_and_names_the_command(mmlu_pipe_command: Command, tmp_path: Path) -> None:
    original = bundled_program("zero_shot")
    assert original is not None
    text = original.read_text(encoding="utf-8").replace("Exactly one", "Only one")
    (tmp_path / "changed.py").write_text(text, encoding="utf-8")
    done = mmlu_pipe_command(*GATE, "--guidance-program", "changed.py", "--gate-lines", "1")
    assert done.returncode == 1
    assert "verification  did not pass\n" in done.stdout
    assert "missing       57 calls on 57 lines differ in: 57 × messages\n" in done.stdout
    assert "--record-mode new_episodes --lines 2,3,6," in done.stdout
    assert "Traceback" not in done.stderr


def test_verify_prints_one_json_object(mmlu_pipe_command: Command) -> None:
    done = mmlu_pipe_command(*GATE, "--json")
    value = json.loads(done.stdout)
    assert (value["passed"], value["lines"], value["calls_played"]) == (True, 114, 114)


def test_estimate_prints_what_was_recorded(mmlu_pipe_command: Command) -> None:
    done = mmlu_pipe_command("estimate", "--cassette", "recordings", "--lines", "14042", "--rpm", "60")
    assert done.returncode == 0, done.stderr
    assert "lines               14,042\n" in done.stdout
    assert "114 calls of a cassette, answered by Qwen2.5-Coder-1.5B-Instruct\n" in done.stdout
    assert "time                3.9 h, bound by requests per minute\n" in done.stdout
    assert "cost" not in done.stdout


def test_estimate_prints_one_json_object_and_money_by_a_prices_file(mmlu_pipe_command: Command, tmp_path: Path) -> None:
    price = {"prompt": 1, "completion": 2}
    value = {"currency": "EUR", "written": "2026-11-20", "per_million_tokens": {"Qwen2.5-Coder-1.5B-Instruct": price}}
    (tmp_path / "prices.json").write_text(json.dumps(value), encoding="utf-8")
    arguments = ("estimate", "--cassette", "recordings", "--dataset", "sample", "--prices", "prices.json")
    found = json.loads(mmlu_pipe_command(*arguments, "--json").stdout)
    assert found["lines"] == 114
    tokens = found["prompt_tokens"]["value"] + 2 * found["completion_tokens"]["value"]
    assert found["cost"]["amount"]["value"] == pytest.approx(tokens / 1_000_000)
    assert "EUR, by your prices of 2026-11-20 for Qwen" in mmlu_pipe_command(*arguments).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        (*GATE, "--gate-lines", "none"),
        (*GATE, "--dataset", "nothing"),
        (*GATE, "--guidance-program", "nothing"),
        (*GATE, "--cassette", "nowhere"),
        (*GATE, "--other-config", "none.json"),
        (*GATE, "--select-strategy", "guess"),
        ("estimate",),
        ("estimate", "--cassette", "recordings", "--run", "recordings"),
        ("estimate", "--run", "recordings"),
        ("estimate", "--cassette", "nowhere"),
        ("estimate", "--cassette", "recordings", "--lines", "0"),
        ("estimate", "--cassette", "recordings", "--workers", "4"),
        ("estimate", "--cassette", "recordings", "--prices", "none.json"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(
    arguments: tuple[str, ...], mmlu_pipe_command: Command, recordings: Path
) -> None:
    done = mmlu_pipe_command(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.lower().count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (recordings / "verification.json").exists()
