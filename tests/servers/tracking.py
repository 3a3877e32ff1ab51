"""MLflow's own server, and the interpreter that has the client of a job, for tests of what is logged."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.bundled import bundled_requirements
from mmlu_pipe.errors import BackendError
from mmlu_pipe.rehearsal.interpreter import installed_interpreter, job_interpreter
from mmlu_pipe.rehearsal.node import INSTALL_COMMAND
from tests.conftest import ROOT

__all__ = ["Tracking", "job_python", "tracking"]


def _unavailable(message: str) -> None:
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)


@pytest.fixture(scope="session")
def job_python() -> Path:
    """The interpreter of a job: mlflow-skinny and azureml-mlflow at its pins."""
    found = installed_interpreter(bundled_requirements())
    if found is None:
        _unavailable(
            f"the packages of a job are not installed; `make test` installs them, and so does: {INSTALL_COMMAND}"
        )
    assert found is not None
    return found


class Tracking:
    """MLflow's own server, and its REST API."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def ask(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def experiment(self, name: str) -> str:
        return str(self.ask("experiments/create", name=name)["experiment_id"])

    def new_run(self, experiment_id: str, parent: str | None = None) -> str:
        tags = [{"key": "mlflow.parentRunId", "value": parent}] if parent else []
        run = self.ask("runs/create", experiment_id=experiment_id, start_time=1, tags=tags)["run"]
        return str(run["info"]["run_id"])

    def runs(self, experiment: str) -> dict[str, dict[str, Any]]:
        """Id → status, parameters and figures of every run of an experiment."""
        found = self.ask("experiments/search", filter=f"name = '{experiment}'", max_results=1).get("experiments")
        if not found:
            return {}
        runs = self.ask("runs/search", experiment_ids=[found[0]["experiment_id"]]).get("runs", [])
        return {
            run["info"]["run_id"]: {
                "status": run["info"]["status"],
                **{
                    kind: {each["key"]: each["value"] for each in run["data"].get(kind, [])}
                    for kind in ("params", "metrics")
                },
            }
            for run in runs
        }


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """A server on a free port, with a database of its own; its packages are installed into the user's cache."""
    try:
        python = job_interpreter(ROOT / "tests" / "reporting" / "test_mlflow_server.txt")
    except (BackendError, OSError) as error:
        _unavailable(f"no MLflow server: {error}")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'runs.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [python, "-m", "flask", "--app", "mlflow.server:app", "run", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=log, stderr=log)
    try:
        found = Tracking(f"http://127.0.0.1:{port}")
        until = time.monotonic() + 120
        while True:
            try:
                found.ask("experiments/search", max_results=1)
                break
            except OSError:  # not up yet
                assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")
                assert time.monotonic() < until, (folder / "log").read_text(encoding="utf-8")
                time.sleep(0.2)
        yield found
    finally:
        server.terminate()
        server.wait(30)
