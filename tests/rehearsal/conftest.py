"""One Azurite and one process with the SDK for the whole session; a twin for every test that wants one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.rehearsal import Azurite, Twin
from mmlu_pipe.rehearsal.node import INSTALL_COMMAND, azurite_main


class SdkError(Exception):
    """What the SDK raised in its process."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.type, self.status = error["type"], error["status"]


class Sdk:
    """The process with the SDK; its stderr goes to a file that a failing test can show."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w", encoding="utf-8")
        polls = {"AZUREML_RUN_POLLING_INTERVAL_MIN": "1", "AZUREML_RUN_POLLING_INTERVAL_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("sdk.py"))],
            env=os.environ | polls,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
        )

    def close(self) -> None:
        self._process.communicate()
        self._log.close()

    def __call__(
        self, twin: Twin, do: str, credential: str = "principal", more: dict[str, str] | None = None, **arguments: Any
    ) -> Any:
        """Do it in a fresh fork that has the twin's environment; raises what the SDK raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        environment = os.environ | twin.environment() | (more or {})
        task = {"do": do, "config": twin.config(), "credential": credential, "environment": environment}
        self._process.stdin.write(json.dumps(task | {"arguments": arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise SdkError(answer["error"])
        return answer["value"]


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    if azurite_main() is None and os.environ.get("CI") != "true":
        pytest.skip(f"Azurite is not installed; `make test` installs it, and so does: {INSTALL_COMMAND}")
    with Azurite() as running:
        yield running


@pytest.fixture(scope="session")
def azurite_cache(azurite: Azurite) -> str:
    """The cache folder in which Azurite is installed; tests have another one in their environment."""
    main = azurite_main()
    assert main is not None
    return str(main.parents[7])


@pytest.fixture(scope="session")
def _sdk_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    if importlib.util.find_spec("azure.ai") is None:
        pytest.skip("azure-ai-ml is not installed; install it with: pip install -c constraints.txt -e '.[test]'")
    process = Sdk(tmp_path_factory.mktemp("sdk") / "stderr.txt")
    yield process
    process.close()


@pytest.fixture
def make_twin(azurite: Azurite, tmp_path: Path) -> Iterator[Callable[..., Twin]]:
    """A twin of this test; it ends with it."""
    with ExitStack() as stack:

        def make(**options: Any) -> Twin:
            return stack.enter_context(Twin(sys.executable, storage=azurite, **options))

        yield make


@pytest.fixture
def twin(make_twin: Callable[..., Twin]) -> Twin:
    return make_twin()


@pytest.fixture
def sdk(_sdk_process: Sdk) -> Sdk:
    return _sdk_process
