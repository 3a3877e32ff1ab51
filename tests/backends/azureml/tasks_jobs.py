"""What the tests of watching and fetching do in a fork."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.client import connect
from mmlu_pipe.backends.azureml.history import JobState, RunHistory
from mmlu_pipe.backends.azureml.run import AzureMLRun, cancel, reopen
from mmlu_pipe.backends.azureml.watch import watch
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.cli.root import invoke
from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.plugins import hookimpl, manager
from mmlu_pipe.records import Score


def state(config: dict[str, str], job: str) -> dict[str, Any]:
    with connect(WorkspaceConfig(**config)) as client, RunHistory(client) as history:
        return _shown(history.state(job))


def follow(config: dict[str, str], job: str, patience_s: float = 600.0) -> dict[str, Any]:
    told: list[str] = []
    with connect(WorkspaceConfig(**config)) as client, RunHistory(client) as history:
        found = watch(history, job, tell=told.append, poll_s=0.1, patience_s=patience_s)
    return _shown(found) | {"told": told}


def end(config: dict[str, str], job: str) -> str:
    with connect(WorkspaceConfig(**config)) as client:
        return cancel(client, job).status


def command(config: dict[str, str], folder: str, arguments: list[str]) -> dict[str, Any]:
    """A command line in a folder."""
    os.chdir(folder)
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            invoke(arguments)
        except SystemExit as end:
            code = end.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def fetch(
    config: dict[str, str], job: str, output_dir: str | None = None, wait: bool = True, times: int = 1
) -> dict[str, Any]:
    """What became of the run, and what was told."""
    told: list[str] = []
    _log_to(told)
    manager().register(Observer(told))
    with connect(WorkspaceConfig(**config)) as client:
        run = reopen(client, job, None if output_dir is None else Path(output_dir))
        for _ in range(times):
            error: MmluPipeError | None = None
            try:
                (run.wait if wait else run.fetch)()
            except MmluPipeError as raised:
                error = raised
    return _run(run) | {"told": told, "raised": error and type(error).__name__}


def _run(run: AzureMLRun) -> dict[str, Any]:
    error = run.error
    attributes = {} if error is None else {name: str(value) for name, value in vars(error).items()}
    return {
        "run_dir": str(run.run_dir),
        "status": run.status,
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)} | attributes,
        "outputs": sorted(run.outputs),
        "count": None if run.score is None else run.score.count,
        "studio_url": run.studio_url,
    }


class Observer:
    """A plugin that watches scores."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    @hookimpl
    def score_finished(self, score: Score) -> None:
        self._told.append(f"a plugin saw the score of {score.count} lines")


def _log_to(told: list[str]) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    log = logging.getLogger("mmlu_pipe")
    log.setLevel(logging.INFO)
    log.addHandler(Handler())


def _shown(found: JobState) -> dict[str, Any]:
    return dataclasses.asdict(found)
