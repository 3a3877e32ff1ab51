"""The AzureML backend: the same two components as a pipeline job of a workspace."""

from __future__ import annotations

import logging
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.backends.base import Description
from mmlu_pipe.config import RunConfig, load_computes
from mmlu_pipe.errors import ConfigError, DatasetError, MmluPipeError, RunFolderError, WorkspaceRejected
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.pipeline import Pipeline
from mmlu_pipe.plugins import hookimpl
from mmlu_pipe.runfolder import RunFolder

if TYPE_CHECKING:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient
    from mmlu_pipe.backends.azureml.run import AzureMLRun
    from mmlu_pipe.backends.azureml.submission import Submission
    from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig

__all__ = ["AzureMLBackend"]

_log = logging.getLogger("mmlu_pipe.backends")


class AzureMLBackend:
    """Submits a pipeline to the workspace of `--workspace-config`, on the computes of `--other-config`."""

    demands_verification = True
    asks_live = True

    def locate(self, config: RunConfig, *, ask_service: bool = True) -> Path:
        """The dataset's file: one of this machine, or that of a data asset, which is downloaded once.

        Raises:
            MmluPipeError: there is no such dataset, here or in the workspace.
        """
        from mmlu_pipe.backends.azureml.datasets import fetch_dataset
        from mmlu_pipe.backends.azureml.workspace import load_workspace
        from mmlu_pipe.dataset.locate import advice

        workspace = load_workspace(config.workspace_config)
        if config.other_config is not None:
            load_computes(config.other_config)  # a slip in it is told before anything is fetched

        def workspace_client() -> WorkspaceClient:
            if not ask_service:
                raise DatasetError(
                    f"dataset {config.dataset!r}: is not on this machine; --check-workspace looks for it in the "
                    f"workspace, and brings it{advice(config.dataset, config.data_dir)}"
                )
            from mmlu_pipe.backends.azureml.client import connect

            return connect(workspace)

        return fetch_dataset(workspace_client, config.dataset, config.data_dir)

    def describe(self, pipeline: Pipeline, config: RunConfig, *, ask_service: bool = False) -> Description:
        """What is registered and sent for a run.

        Raises:
            MmluPipeError: an option or a configuration file is refused.
        """
        from mmlu_pipe.backends.azureml.description import PLANNED_JOB, description
        from mmlu_pipe.backends.azureml.workspace import load_workspace

        workspace = load_workspace(config.workspace_config)
        config = _resuming(config, workspace)
        planned = _submission(pipeline, config, PLANNED_JOB)
        there: dict[str, bool] = {}
        resumable = True
        if ask_service:
            from mmlu_pipe.backends.azureml.client import connect
            from mmlu_pipe.backends.azureml.register import look_up
            from mmlu_pipe.backends.azureml.resuming import checkpoints_exist

            with connect(workspace) as client:
                there = look_up(client, planned)
                resumable = config.resume_from is None or checkpoints_exist(client, config.resume_from)
        objections = [] if resumable else [_nothing_to_resume(config, workspace)]
        return description(planned, pipeline, config, workspace, there, objections)

    def submit(self, pipeline: Pipeline, config: RunConfig, folder: RunFolder, manifest: Manifest) -> AzureMLRun:
        """Register what is not there yet, and create the job; or find the job of the folder's run again.

        Raises:
            MmluPipeError: nothing was submitted; or it is not known, and the message says how to go on.
        """
        from mmlu_pipe.backends.azureml.client import connect
        from mmlu_pipe.backends.azureml.register import refuse_changed_inputs, register, submit
        from mmlu_pipe.backends.azureml.render import new_job_name
        from mmlu_pipe.backends.azureml.resuming import checkpoints_exist
        from mmlu_pipe.backends.azureml.run import AzureMLRun
        from mmlu_pipe.backends.azureml.workspace import load_workspace

        workspace = load_workspace(config.workspace_config)
        config = _resuming(config, workspace)
        client = connect(workspace)
        if manifest.job is not None and (found := self._again(client, folder, manifest, config)) is not None:
            return found
        if config.resume_from is not None and not checkpoints_exist(client, config.resume_from):
            raise ConfigError(_nothing_to_resume(config, workspace), key="resume_from")
        sent = _submission(pipeline, config, new_job_name())
        refuse_changed_inputs(sent, manifest.inputs)
        _log.info("submitting to %s", workspace.shown)
        with tempfile.TemporaryDirectory(prefix="mmlu-pipe-") as temporary:
            registered = register(client, sent, Path(temporary))
            for reference in registered.created:
                _log.info("registered  %s", reference)
            for reference in registered.reused:
                _log.info("unchanged   %s", reference)
            # Before the job is there, so that no job is ever without a folder that knows it.
            place = workspace.digest(manifest.salt)
            manifest.begin(job={"name": sent.job_name, "workspace": place, "resumes": config.resume_from})
            with _kept(folder, sent.job_name):
                job = submit(client, sent, Path(temporary))
                manifest.accept()
        _log.info("submitted   %s in experiment %s", job.name, sent.experiment)
        if job.studio_url:
            _log.info("studio      %s", job.studio_url)
        _log.info("run folder  %s", folder.path)
        _log.info("to return   mmlu-pipe status|fetch|cancel %s", shlex.quote(str(folder.path)))
        return AzureMLRun(client, folder, manifest, job.name, studio_url=job.studio_url)

    @staticmethod
    def _again(client: WorkspaceClient, folder: RunFolder, manifest: Manifest, config: RunConfig) -> AzureMLRun | None:
        """The job that an earlier process submitted for this folder; None where that process never got so far."""
        from mmlu_pipe.backends.azureml.history import RunHistory
        from mmlu_pipe.backends.azureml.run import AzureMLRun, job_of

        name, _ = job_of(client.config, str(folder.path))
        job = manifest.job or {}
        if config.resume_from not in (None, job.get("resumes")):
            raise RunFolderError(
                f"{folder.path}: is the folder of the job {name}; a run that goes on from {config.resume_from} is "
                "another one: give --output-dir a new folder",
                path=folder.path,
            )
        found = AzureMLRun(client, folder, manifest, name)
        if found.status == "running":
            try:
                with RunHistory(client) as history:
                    history.state(name)
            except WorkspaceRejected as error:
                if error.status != 404:
                    raise
                if job.get("accepted"):
                    raise RunFolderError(
                        f"{folder.path}: its job {name} is not in {client.shown} any more; a new job needs a new "
                        "--output-dir",
                        path=folder.path,
                    ) from error
                _log.info("the job %s of this folder was never created", name)
                return None
            manifest.accept()
        _log.info("the job of this folder is %s; nothing is submitted again", name)
        return found


@hookimpl
def register_backends(register: Callable[[str, Any], None]) -> None:
    """The backend comes with the package; what it needs comes with the extra `azureml`."""
    register("azureml", AzureMLBackend())


@contextmanager
def _kept(folder: RunFolder, job_name: str) -> Iterator[None]:
    """Within it a job is created: whatever comes in between, the folder stays, and it is said how to go on.

    Raises:
        MmluPipeError: what was raised within, saying that too.
    """
    advice = (
        f"it is not known whether the job {job_name} was created; to go on with it, or to create it, repeat the "
        f"command with --output-dir {shlex.quote(str(folder.path))}"
    )
    try:
        yield
    except WorkspaceRejected:  # there is no job
        folder.discard()
        raise
    except MmluPipeError as error:
        error.args = (f"{error}\n  {advice}",)
        raise
    except BaseException:
        _log.info("%s", advice)
        raise


def _resuming(config: RunConfig, workspace: WorkspaceConfig) -> RunConfig:
    """The options with the name of the job to go on from, which may be given by its run folder."""
    from mmlu_pipe.backends.azureml.run import job_of

    if config.resume_from is None:
        return config
    return replace(config, resume_from=job_of(workspace, config.resume_from)[0])


def _nothing_to_resume(config: RunConfig, workspace: WorkspaceConfig) -> str:
    return (
        f"--resume-from {config.resume_from}: no finished lines of such a job are in the {workspace.shown}; check the "
        "name, or leave the option out"
    )


def _submission(pipeline: Pipeline, config: RunConfig, job_name: str) -> Submission:
    from mmlu_pipe.backends.azureml.render import submission

    if config.record_mode != "none":
        raise ConfigError("a job records nothing: record on this machine, with --backend local", key="record_mode")
    if config.auth == "key":
        raise ConfigError(
            "--auth key: no key enters a job; leave it out, and say with --identity as whom the job asks", key="auth"
        )
    if config.retry_errors:
        raise ConfigError(
            "--retry-errors is for local runs; a job's errors.jsonl can be run as a dataset of its own",
            key="retry_errors",
        )
    assert config.other_config is not None  # a backend that asks live has one
    return submission(pipeline, config, load_computes(config.other_config), job_name)
