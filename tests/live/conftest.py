"""Live tests: off by default. See docs/live.md for how to run them, and what they cost.

Without MMLU_PIPE_LIVE=1 they are not collected; with it nothing else in this folder is. What they found is written to
evidence.json. MMLU_PIPE_LIVE_ON_TWIN=1 runs them all against the twin (`make test-live-on-twin`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.bundled import bundled_program
from tests.live.evidence import EVIDENCE, note

LIVE = os.environ.get("MMLU_PIPE_LIVE") == "1"
LIVE_MODULES = ["test_endpoint.py", "test_workspace.py"]
OFFLINE_MODULES = ["test_claims.py", "test_on_the_twin.py"]
ON_THE_TWIN = ["test_on_the_twin.py"] if os.environ.get("MMLU_PIPE_LIVE_ON_TWIN") != "1" else []  # it takes minutes
collect_ignore = OFFLINE_MODULES if LIVE else LIVE_MODULES + ON_THE_TWIN

LINES = 24
_outcomes: dict[str, bool] = {}

if LIVE:

    @pytest.fixture(autouse=True)
    def _neutral_environment() -> None:
        """The person's login, proxy and keys are what is tested here."""

    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        """A claim holds if its test passes; one that was skipped was not put."""
        module, _, name = report.nodeid.partition("::test_")
        if Path(module).name in LIVE_MODULES and (report.failed or (report.passed and report.when == "call")):
            _outcomes[name] = report.passed and _outcomes.get(name, True)

    def pytest_sessionfinish() -> None:
        """Write the evidence, if there is any."""
        if _outcomes:
            note(_outcomes, Path(os.environ.get("MMLU_PIPE_LIVE_EVIDENCE", EVIDENCE)))


def setting(name: str, what: str) -> str:
    """A setting of the person who runs the live tests; the test is skipped without it."""
    value = os.environ.get(f"MMLU_PIPE_LIVE_{name}", "").strip()
    if not value:
        pytest.skip(f"set MMLU_PIPE_LIVE_{name} to {what}")
    return value


@dataclass(frozen=True)
class Told:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass(frozen=True)
class Machine:
    """A folder from which commands are given, with a dataset, a program and the two configuration files."""

    folder: Path

    def __call__(self, *words: str | Path, env: Mapping[str, str | None] | None = None) -> Told:
        """Give one command in a fresh process; a variable that is None is taken away."""
        environment = {name: value for name, value in (os.environ | dict(env or {})).items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-m", "mmlu_pipe", *map(str, words)],
            cwd=self.folder,
            env=environment | {"MMLU_PIPE_NO_PLUGINS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        return Told(done.returncode, done.stdout, done.stderr)

    def config(self, name: str, **changes: str) -> Path:
        """A copy of other_configs.json with changes."""
        value = json.loads((self.folder / "other_configs.json").read_text(encoding="utf-8-sig")) | changes
        path = self.folder / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    def manifest(self, run_dir: str | Path) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.folder / run_dir / "manifest.json").read_text(encoding="utf-8"))
        return value

    def lines(self, run_dir: str | Path, name: str) -> list[dict[str, Any]]:
        text = (self.folder / run_dir / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("live")
    other_config = setting("OTHER_CONFIG", "the path of a real other_configs.json")
    (folder / "other_configs.json").write_bytes(Path(other_config).read_bytes())
    if workspace := os.environ.get("MMLU_PIPE_LIVE_WORKSPACE_CONFIG"):
        (folder / "config.json").write_bytes(Path(workspace).read_bytes())
    program = bundled_program("zero_shot")
    assert program is not None
    (folder / "program.py").write_bytes(program.read_bytes())
    sample = (Path(sys.modules["mmlu_pipe"].__path__[0]) / "dataset" / "sample_test.jsonl").read_bytes()
    (folder / "mmlu_pipe_live.jsonl").write_bytes(b"".join(sample.splitlines(keepends=True)[:LINES]))
    return Machine(folder)


@pytest.fixture(scope="session")
def cassette(machine: Machine) -> Path:
    """The dataset recorded on the deployment, and verified."""
    inputs = ("--dataset=mmlu_pipe_live.jsonl", "--guidance-program=program.py", "--cassette=cassette")
    asked = ("--other-config=other_configs.json",)
    recorded = machine("run", *inputs, *asked, "--record-mode=new_episodes", "--output-dir=recorded", "--json")
    assert recorded.json["status"] == "completed"
    assert machine("verify", *inputs, *asked, "--json").json["passed"]
    return machine.folder / "cassette"
