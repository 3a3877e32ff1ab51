"""Our code with the unmodified SDK, in forks of a process that has it loaded, against a twin."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.rehearsal import Twin
from tests.rehearsal.conftest import azurite, azurite_cache, make_twin, twin

__all__ = ["Failed", "InFork", "azurite", "azurite_cache", "in_fork", "make_twin", "twin"]

_ROOT = Path(__file__).parents[3]


class Failed(Exception):
    """What was raised in the fork."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.type, self.attributes, self.trace = error["type"], error["attributes"], error.get("trace", "")


class InFork:
    """Calls `module:function(config, **arguments)` in a fresh fork that has the twin's environment.

    Arguments and results are JSON. With `hurry` the waits before retries are short. Its output goes to `log`.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._handle = log.open("w", encoding="utf-8")
        polls = {"AZUREML_RUN_POLLING_INTERVAL_MIN": "1", "AZUREML_RUN_POLLING_INTERVAL_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forked.py"))],
            env=os.environ | polls | {"PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._handle,
            encoding="utf-8",
        )

    def close(self) -> None:
        self._process.communicate()
        self._handle.close()

    def __call__(
        self, twin: Twin, do: str, *, more: dict[str, str] | None = None, hurry: bool = False, **arguments: Any
    ) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        environment = os.environ | twin.environment() | (more or {})
        task = {"do": do, "config": twin.config(), "environment": environment, "hurry": hurry, "arguments": arguments}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["value"]


@pytest.fixture(scope="session")
def in_fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InFork]:
    if importlib.util.find_spec("azure.ai") is None:
        pytest.skip("azure-ai-ml is not installed; install it with: pip install -c constraints.txt -e '.[test]'")
    process = InFork(tmp_path_factory.mktemp("fork") / "output.txt")
    yield process
    process.close()
