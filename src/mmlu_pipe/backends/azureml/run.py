"""A job as a run: watched, fetched into its folder, finished in its manifest; by whichever process."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mmlu_pipe.backends.azureml.adoption import adopted
from mmlu_pipe.backends.azureml.download import OUTPUTS, Fetched, fetch_outputs
from mmlu_pipe.backends.azureml.failures import scrubbed
from mmlu_pipe.backends.azureml.history import JobState, RunHistory
from mmlu_pipe.backends.azureml.resuming import resume_advice
from mmlu_pipe.backends.azureml.watch import log_tail, watch
from mmlu_pipe.backends.base import Status
from mmlu_pipe.errors import (
    ConfigError,
    DownloadFailed,
    JobCancelled,
    JobFailed,
    MmluPipeError,
    RunFolderError,
    WorkspaceUnavailable,
)
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.plugins import notify
from mmlu_pipe.records import Score
from mmlu_pipe.reporting.leave import leave_report
from mmlu_pipe.runfolder import LEFT_OVERS, RunFolder, alone, unwritable

if TYPE_CHECKING:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient
    from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig

__all__ = ["AzureMLRun", "cancel", "job_of", "reopen"]

_log = logging.getLogger("mmlu_pipe.backends")

_SHOWN_LINES = 8
_CANCEL_PATIENCE_S = 300.0


class AzureMLRun:
    """A job that was submitted.

    Args:
        client: its workspace.
        folder: its run folder.
        manifest: that of the folder; None where the job is not known here, and one is made when it is fetched.
        job_name: its name.
        studio_url: its page in the studio; never written to a file.
    """

    def __init__(
        self,
        client: WorkspaceClient,
        folder: RunFolder,
        manifest: Manifest | None,
        job_name: str,
        *,
        studio_url: str | None = None,
    ) -> None:
        self._client, self._folder, self._manifest = client, folder, manifest
        self.job_name, self.studio_url = job_name, studio_url
        self._error: MmluPipeError | None = None
        self._status: Status = "running"
        if manifest is not None and manifest.nothing_left:
            files = [folder.output, folder.errors, folder.calls, folder.score]
            there = [path for path in files if path.exists()]
            manifest.refuse_changed(there)
            if there == files:  # what is gone is fetched again
                self._status = "completed"

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def status(self) -> Status:
        """How it stands: `running` until `wait` or `fetch` has found how it ended, and brought what it left."""
        return self._status

    @property
    def error(self) -> MmluPipeError | None:
        """Why it failed or was cancelled, as far as `wait` or `fetch` found out."""
        return self._error

    @property
    def outputs(self) -> Mapping[str, Path]:
        """File name → path of what was fetched."""
        if not self.run_dir.is_dir():
            return {}
        return {path.name: path for path in sorted(self.run_dir.iterdir()) if path.is_file()}

    @property
    def score(self) -> Score | None:
        """The result; None before it was fetched."""
        return self._folder.read_score() if self._status == "completed" else None

    def wait(self) -> Self:
        """Return once the job has completed and its outputs are in the run folder.

        What happens meanwhile is told to the logger `mmlu_pipe.backends`. Ctrl-C leaves the job as it is.

        Raises:
            JobFailed: a step failed; what it says is in the message.
            JobCancelled: somebody cancelled it.
            DownloadFailed: the job completed, and its outputs did not arrive; `wait` may be called again.
            WorkspaceUnavailable, AuthenticationFailed: the workspace has not answered for a long time.
        """
        if self._status == "running" or isinstance(self._error, DownloadFailed):
            try:
                with RunHistory(self._client) as history:
                    self._settle(history, watch(history, self.job_name, tell=_tell))
            except KeyboardInterrupt:
                known = self.job_name if self._manifest is None else shlex.quote(str(self.run_dir))
                _log.info("the job %s goes on; to return to it: mmlu-pipe status|fetch|cancel %s", self.job_name, known)
                raise
        if self._error is not None:
            raise self._error
        return self

    def fetch(self) -> Self:
        """Bring what a job that has ended left behind.

        Raises:
            DownloadFailed: it goes on, or as for `wait`.
            MmluPipeError: as for `wait`.
        """
        if self._status == "running" or isinstance(self._error, DownloadFailed):
            with RunHistory(self._client) as history:
                state = history.state(self.job_name)
                if state.status == "running":
                    raise DownloadFailed(
                        f"the job {self.job_name} goes on ({state.service_status}), and its outputs are not there yet; "
                        "add --wait, or come back later",
                        path=self.run_dir,
                    )
                self._settle(history, state)
        if self._error is not None:
            raise self._error
        return self

    def cancel(self) -> JobState:
        """Ask for the end of the job, and wait until it has ended.

        Raises:
            WorkspaceUnavailable: it has not ended after five minutes; the service keeps trying.
            MmluPipeError: the workspace refuses it, or cannot be reached.
        """
        return cancel(self._client, self.job_name)

    def _settle(self, history: RunHistory, state: JobState) -> None:
        """Fetch what an ended job left, and write down how it ended."""
        self.studio_url = self.studio_url or state.studio_url
        error = _error_of(self._client, history, state)
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            with alone(self.run_dir, patient=True):  # another process may be waiting for the same job
                self._folder.tidy()
                self._bring(state, error)
        except OSError as failure:
            raise unwritable(self.run_dir, failure.strerror) from failure

    def _bring(self, state: JobState, error: JobFailed | JobCancelled | None) -> None:
        place, known = shlex.quote(str(self.run_dir)), self._manifest
        again = f"{self.job_name} --output-dir {place}" if known is None else place
        status, fetched = state.status, Fetched({}, (), ())
        told: MmluPipeError | None = error and _headline(error)
        try:
            fetched = fetch_outputs(
                self._client,
                state,
                self.run_dir,
                inputs={} if known is None else known.inputs,
                command=f"mmlu-pipe fetch {again}",
            )
        except (DownloadFailed, JobFailed) as lost:
            if error is not None:
                _log.info("what the job left was not fetched: %s", lost)
            elif isinstance(lost, JobFailed):
                status, error, told = "failed", lost, lost
            else:  # the manifest is left unfinished, for another try
                self._status, self._error = "failed", lost
                return
        manifest = known or adopted(self._client.config, self._folder, state, fetched.facts)
        manifest.accept()
        manifest.finish(status, list(fetched.files), fetched.facts, told)
        self._manifest, self._status, self._error = manifest, status, error
        if (score := self.score) is not None:
            if known is None or not known.nothing_left:
                notify("score_finished", score=score, facts=fetched.facts, options=manifest.options)
            leave_report(self.run_dir)


def cancel(client: WorkspaceClient, job_name: str) -> JobState:
    """Ask for the end of a job, and wait until it has ended; one that has ended already stays as it is.

    Raises:
        WorkspaceUnavailable: it has not ended after five minutes; the service keeps trying.
        MmluPipeError: the workspace refuses it, or cannot be reached.
    """
    with RunHistory(client) as history:
        state = history.state(job_name)
        if state.status != "running":
            return state
        history.cancel(job_name)
        until = time.monotonic() + _CANCEL_PATIENCE_S
        while (state := history.state(job_name)).status == "running":
            if time.monotonic() > until:
                raise WorkspaceUnavailable(
                    f"the job {job_name} was asked to end, and is {state.service_status} still; see later with "
                    f"mmlu-pipe status {job_name}"
                )
            time.sleep(1.0)
        return state


def job_of(config: WorkspaceConfig, job: str) -> tuple[str, Manifest | None]:
    """The name of a job that is given by its name or by its run folder, and that folder's manifest.

    Raises:
        ConfigError: none is named, the folder's run has no job, or the job is in another workspace.
        RunFolderError: the folder holds no run.
    """
    if not job.strip():
        raise ConfigError("no job is named; give its name, or its run folder", key="job")
    folder = Path(job)
    if not folder.is_dir():
        return job, None
    manifest = Manifest.reopen(folder / "manifest.json")
    if manifest.job is None:
        raise ConfigError(f"{folder}: is the folder of a local run; no job belongs to it", path=folder, key="job")
    if manifest.job["workspace"] != config.digest(manifest.salt):
        raise ConfigError(
            f"{folder}: its job {manifest.job['name']} is in another workspace than {config.shown}; name that one's "
            "file with --workspace-config",
            path=folder,
            key="workspace_config",
        )
    return str(manifest.job["name"]), manifest


def reopen(client: WorkspaceClient, job: str, output_dir: Path | None = None) -> AzureMLRun:
    """A job that another process submitted, to be waited for or fetched.

    Args:
        client: its workspace.
        job: its run folder; or its name, for which a folder is made.
        output_dir: that folder; by default `runs/<name>`.

    Raises:
        ConfigError: the folder's run has no job, or another one, or one of another workspace.
        RunFolderError: the folder holds no run, or something else.
    """
    name, manifest = job_of(client.config, job)
    if manifest is not None:
        if output_dir is not None and output_dir.resolve() != Path(job).resolve():
            raise ConfigError(f"{job}: is a run folder, so leave out --output-dir", key="output_dir")
        return AzureMLRun(client, RunFolder(Path(job)), manifest, name)
    folder = RunFolder(output_dir or Path("runs", name))
    if folder.manifest.is_file():
        held, manifest = job_of(client.config, str(folder.path))
        if held != name:
            raise RunFolderError(
                f"{folder.path}: holds the job {held}; give --output-dir a new folder", path=folder.path
            )
    elif folder.path.exists() and (not folder.path.is_dir() or any(map(_is_strange, folder.path.iterdir()))):
        raise RunFolderError(f"{folder.path}: holds other files; give --output-dir a new folder", path=folder.path)
    return AzureMLRun(client, folder, manifest, name)


def _is_strange(path: Path) -> bool:
    """Whether a file of a folder without a manifest is none that an interrupted `fetch` leaves."""
    return path.name not in OUTPUTS.values() and not path.name.startswith(LEFT_OVERS)


def _headline(error: JobFailed | JobCancelled) -> JobFailed | JobCancelled:
    """How a job ended, for a file: without the words of service and log, which may name the deployment's host."""
    if isinstance(error, JobCancelled):
        return JobCancelled(f"the job {error.job} was cancelled", job=error.job)
    where = "" if error.step is None else f" in step {error.step}"
    return JobFailed(f"the job {error.job} failed{where}", job=error.job, step=error.step)


def _error_of(client: WorkspaceClient, history: RunHistory, state: JobState) -> JobFailed | JobCancelled | None:
    """Why a job did not complete: the words of the step that failed first, and not only those of the job."""
    name = state.name
    if state.status == "completed":
        return None
    resume = resume_advice(client, state)
    if state.status == "cancelled":
        return JobCancelled(f"the job {name} was cancelled\n  {resume}", job=name)
    step = next((step for step in state.steps if step.status == "failed"), None)
    if step is None:
        told = scrubbed(state.error or "the service gives no reason")
        return JobFailed(f"the job {name} failed: {told}\n  {resume}", job=name)
    said = scrubbed(step.error or "the service gives no reason")
    tail = log_tail(history, step)
    lines = [f"the job {name} failed in step {step.name}: {said}", *(f"  | {line}" for line in _essence(tail))]
    child_error = "\n".join([said, *tail])
    return JobFailed("\n".join([*lines, f"  {resume}"]), job=name, step=step.name, child_error=child_error)


def _essence(tail: list[str]) -> list[str]:
    """The lines of a log that tell why: from the last `error:` on, which the components print; or its last ones."""
    starts = [number for number, line in enumerate(tail) if line.startswith("error: ")]
    return tail[starts[-1] :] if starts else tail[-_SHOWN_LINES:]


def _tell(line: str) -> None:
    _log.info("%s", line)
