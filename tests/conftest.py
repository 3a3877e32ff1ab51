"""Fixtures for all tests: no plugin of the machine, no credential of the person, no proxy in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
_PERSONAL = ("AZURE_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_", "MMLU_PIPE_", "HF_")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """On CI nothing may be skipped: a skip there is a part that the script forgot to install."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("skipped tests fail the run where CI=true", red=True)


_TOGETHER = {
    "tests/rehearse/test_evidence.py": "a rehearsal",
    "tests/rehearse/test_same_numbers.py": "a rehearsal",
    "tests/backends/azureml/test_bodies.py": "bodies of all kinds",
    "tests/backends/azureml/test_drills.py": "drills",
    "tests/tutorial/test_tutorial.py": "the tutorial",
}
"""What these modules make once takes long, so one worker has all their tests."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep modules together; pytest-xdist 3.8's own mark for it has no effect with pytest 9.2."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class Together(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _TOGETHER.get(nodeid.partition("::")[0], nodeid)

    return Together(config, log)


@pytest.fixture(autouse=True)
def _neutral_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.upper().startswith(_PERSONAL):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MMLU_PIPE_NO_PLUGINS", "1")
    monkeypatch.setenv("MMLU_PIPE_NO_REPORT", "1")  # a second each; tests/reporting has the runs with one
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def mmlu_pipe_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `mmlu-pipe` in a fresh process and folder, as a person would."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mmlu_pipe", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write questions whose right answer is in the question: `Pick <n>`."""

    def write(count: int, name: str = "questions.jsonl", subject: str = "astronomy") -> Path:
        path = tmp_path / name
        lines = [
            {
                "dataset": "test",
                "subject": subject,
                "question": f"Question {number}: pick {number % 4}",
                "choices": ["zero", "one", "two", "three"],
                "correct_answer": number % 4,
            }
            for number in range(count)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Write an `other_configs.json` for an endpoint."""

    def write(endpoint: str, name: str = "other_configs.json", **changes: str | None) -> Path:
        value = {
            "aoai_endpoint": endpoint,
            "aoai_deployment": "dep",
            "aoai_model": "gpt-4o",
            "aoai_api_version": "2024-10-21",
            "aoai_compute": "cluster",
            "general_compute": "cluster",
        } | changes
        path = tmp_path / name
        kept = {key: text for key, text in value.items() if text is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")
        return path

    return write
