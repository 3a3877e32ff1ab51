"""One run in which every outcome is there, on a loopback endpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import mmlu_pipe
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt

QUESTIONS = (
    "=1+1",
    "plain",
    'a "quote", a comma\nand a second line',
    "ש́לום 🎓 ‮right to left",
    "<script>alert(1)</script>",
    "'apostrophe",
    "blocked",
    "cut",
    "\ud800 alone",
    "\x00 nothing",
)
PROGRAM = '''
"""The number of the answer, and a note of mixed types; one answer is none of the choices, one is none at all."""

from guidance import assistant, select, system, user


def guidance_generation(lm, input):
    with system():
        lm += "Answer with a number."
    with user():
        lm += input["question"].encode("utf-8", "replace").decode().replace("\\x00", "nul")
    with assistant():
        lm += select(["0", "1", "2", "3"], name="choice")
    note = input["correct_answer"]
    answer = {"plain": None, "'apostrophe": 9}.get(input["question"], int(lm["choice"]))
    return {"zero_shot_choice": answer, "note": ["a", {"b": note}] if note else "-text"}
'''


def _answer(body: dict[str, Any], _count: int) -> Reply:
    text = body["messages"][1]["content"]
    if "blocked" in text:
        return filtered_prompt()
    return Reply(json.dumps({"choice": "0"}), finish_reason="length" if "cut" in text else "stop")


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("exported")
    lines = [
        {
            "dataset": "test",
            "subject": ("astronomy", "virology")[number % 2],
            "question": question,
            "choices": ["zero", "one", "two", "three"],
            "correct_answer": number % 4,
        }
        for number, question in enumerate(QUESTIONS)
    ]
    (home / "questions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    (home / "program.py").write_text(PROGRAM, encoding="utf-8")
    with AoaiServer(answer=_answer) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_OPENAI_API_KEY", "test-key")
        patch.setenv("NO_PROXY", "127.0.0.1")
        config = {"aoai_endpoint": server.endpoint, "aoai_deployment": "dep", "aoai_model": "gpt-4o"}
        config |= {"aoai_api_version": "2024-10-21", "aoai_compute": "none", "general_compute": "none"}
        (home / "other.json").write_text(json.dumps(config), encoding="utf-8")
        for encoding in ("utf-8", "utf-8-sig"):
            mmlu_pipe.run(
                home / "questions.jsonl",
                home / "program.py",
                other_config=home / "other.json",
                output_dir=home / encoding,
                output_encoding=encoding,
                on_content_filter="count",
            )
    return home


@pytest.fixture
def run_dir(_made: Path, tmp_path: Path) -> Path:
    """A fresh copy of the run."""
    return shutil.copytree(_made / "utf-8", tmp_path / "run")


@pytest.fixture
def run_dir_with_bom(_made: Path, tmp_path: Path) -> Path:
    """The same, with a byte-order mark in its files."""
    return shutil.copytree(_made / "utf-8-sig", tmp_path / "run-with-bom")
