"""The local backend: the component functions, called in this process one after the other."""

from __future__ import annotations

import html
import json
import shlex
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mmlu_pipe.backends.base import Description, Status
from mmlu_pipe.config import RunConfig
from mmlu_pipe.dataset.locate import locate
from mmlu_pipe.errors import MmluPipeError, RunCancelled, RunFolderError
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.pipeline import OutputOf, Pipeline, Step
from mmlu_pipe.plugins import hookimpl, notify
from mmlu_pipe.records import JsonObject, Score
from mmlu_pipe.reporting.leave import leave_report
from mmlu_pipe.runfolder import RunFolder

__all__ = ["LocalBackend", "LocalRun"]

_FACTS = ".facts.json"


@dataclass(frozen=True)
class LocalRun:
    """A run that has ended: local steps run while they are submitted."""

    folder: RunFolder
    status: Status
    error: MmluPipeError | None
    score: Score | None

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def outputs(self) -> Mapping[str, Path]:
        """File name → path of what was written."""
        known = {path.name: path for path in sorted(self.run_dir.iterdir()) if path.is_file()}
        known.pop(self.folder.ledger.name, None)
        return known

    def wait(self) -> Self:
        """Return a completed run.

        Raises:
            MmluPipeError: the run failed or was cancelled.
        """
        if self.error is not None:
            raise self.error
        return self

    def _repr_html_(self) -> str:
        """For notebooks; whatever names a file or a model is escaped."""
        shown = "no score" if self.score is None or self.score.accuracy is None else f"{self.score.accuracy:.1%}"
        told = "" if self.error is None else f"<br>{html.escape(str(self.error))}"
        return f"<b>{html.escape(self.status)}</b>: {shown} · <code>{html.escape(str(self.run_dir))}</code>{told}"


class LocalBackend:
    """Runs each step in this process, its outputs placed in the run folder."""

    demands_verification = False
    asks_live = False

    def locate(self, config: RunConfig, *, ask_service: bool = True) -> Path:
        """The file of the run's dataset.

        Raises:
            DatasetError: there is none.
        """
        return locate(config.dataset, config.data_dir)

    def describe(self, pipeline: Pipeline, config: RunConfig, *, ask_service: bool = False) -> Description:
        """The commands that would do the same."""
        folder = RunFolder(config.output_dir or Path("RUN_DIR"))
        return Description(
            commands={
                step.name: shlex.join(
                    ["python", "-m", step.component.module, *step.component.arguments(_bound(step, pipeline, folder))]
                )
                for step in pipeline.steps
            }
        )

    def submit(self, pipeline: Pipeline, config: RunConfig, folder: RunFolder, manifest: Manifest) -> LocalRun:
        """Run the pipeline to its end, from where an earlier process left it.

        Raises:
            RunFolderError: the folder's run cannot go on.
        """
        files = [folder.output, folder.errors, folder.calls, folder.score]
        if manifest.nothing_left:
            manifest.refuse_changed(files)
            return LocalRun(folder, "completed", None, folder.read_score())
        if not folder.ledger.is_file() and any(path.is_file() for path in files):
            raise RunFolderError(
                f"{folder.ledger}: is gone, so it cannot be told which lines are finished; give --output-dir a new "
                "folder",
                path=folder.ledger,
            )
        manifest.begin()
        facts: JsonObject = {}
        status: Status = "completed"
        error: MmluPipeError | None = None
        try:
            for step in pipeline.steps:
                step.component(**_bound(step, pipeline, folder))
        except RunCancelled as cancelled:
            status, error = "cancelled", cancelled
        except KeyboardInterrupt as stop:
            number = int(getattr(stop, "signal_number", signal.SIGINT))
            status, error = "cancelled", RunCancelled("stopped at once", signal_number=number)
        except MmluPipeError as failure:
            status, error = "failed", failure
        except Exception as bug:
            self._finish(folder, manifest, "failed", bug)
            raise
        try:
            facts = self._finish(folder, manifest, status, error)
        except RunFolderError as failure:
            status, error = "failed", error or failure
        score = folder.read_score() if error is None else None
        if score is not None:
            notify("score_finished", score=score, facts=facts, options=manifest.options)
            leave_report(folder.path)
            if not score.failed:
                folder.ledger.unlink(missing_ok=True)
        if error is not None and error.exit_code == 2:
            folder.discard()
        return LocalRun(folder, status, error, score)

    @staticmethod
    def _finish(folder: RunFolder, manifest: Manifest, status: Status, error: BaseException | None) -> JsonObject:
        facts = _facts(folder)
        manifest.finish(status, [folder.output, folder.errors, folder.calls, folder.score], facts, error)
        return facts


@hookimpl
def register_backends(register: Callable[[str, Any], None]) -> None:
    """The local backend comes with the package."""
    register("local", LocalBackend())


def _bound(step: Step, pipeline: Pipeline, folder: RunFolder) -> dict[str, Any]:
    values = {
        name: _place(pipeline, value, folder) if isinstance(value, OutputOf) else value
        for name, value in step.inputs.items()
    }
    for port in step.component.ports:
        if port.direction == "output" and port.type == "uri_file":
            values[port.name] = _place(pipeline, OutputOf(step.name, port.name), folder)
    return values


def _place(pipeline: Pipeline, output: OutputOf, folder: RunFolder) -> Path:
    (step,) = (step for step in pipeline.steps if step.name == output.step)
    (port,) = (port for port in step.component.ports if port.name == output.port)
    assert port.file_name is not None
    return folder.path / (_FACTS if port.name == "run_facts" else port.file_name)


def _facts(folder: RunFolder) -> JsonObject:
    """What component 1 settled and counted; it becomes part of the manifest."""
    path = folder.path / _FACTS
    if not path.is_file():
        return {}
    value: JsonObject = {}
    with suppress(ValueError):  # cut, where the disk was full
        value = json.loads(path.read_text(encoding="utf-8"))
    path.unlink(missing_ok=True)
    return value
