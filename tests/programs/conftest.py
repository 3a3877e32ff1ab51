"""The bundled programs, called as a person would call them, and run as a run does."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mmlu_pipe
from mmlu_pipe.bundled import bundled_programs
from tests.servers.aoai import AoaiServer

Line = dict[str, Any]
RunOver = Callable[..., mmlu_pipe.Run]


def program(name: str) -> ModuleType:
    """The module of a bundled program."""
    spec = importlib.util.spec_from_file_location(name, bundled_programs()[name])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def solved(number: int, subject: str = "astronomy", **changes: Any) -> Line:
    """A question with its answer; each number makes another."""
    line = {
        "dataset": "test",
        "subject": subject,
        "question": f"Which of these is word{number}?",
        "choices": [f"thing{place}" for place in range(4)],
        "correct_answer": number % 4,
    }
    return line | changes


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[[str, list[Line]], Path]:
    """Write a dataset of these lines."""

    def write(name: str, lines: list[Line]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run_over(
    write_lines: Callable[[str, list[Line]], Path],
    write_config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> RunOver:
    """Run a program over lines, live on a server or, without one, on recordings."""
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    monkeypatch.chdir(tmp_path)

    def run(
        name: str, lines: list[Line], server: AoaiServer | None = None, examples: list[Line] | None = None, **more: Any
    ) -> mmlu_pipe.Run:
        if examples is not None:
            more["examples"] = write_lines("examples.jsonl", examples)
        if server is not None:
            more["other_config"] = write_config(server.endpoint)
        dataset = write_lines("lines.jsonl", lines)
        return mmlu_pipe.run(dataset, name, max_errors="0", **more)

    return run
