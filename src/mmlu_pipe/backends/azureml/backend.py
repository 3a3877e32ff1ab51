"""The AzureML backend: the same two components as a pipeline job of a workspace."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.backends.base import Description, PlannedAsset
from mmlu_pipe.config import RunConfig, load_computes
from mmlu_pipe.errors import ConfigError, DatasetError, MmluPipeError, WorkspaceRejected, WorkspaceUnavailable
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.pipeline import Pipeline
from mmlu_pipe.plugins import hookimpl
from mmlu_pipe.records import JsonObject
from mmlu_pipe.runfolder import RunFolder

if TYPE_CHECKING:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient
    from mmlu_pipe.backends.azureml.run import AzureMLRun
    from mmlu_pipe.backends.azureml.submission import Submission

__all__ = ["AzureMLBackend"]

_log = logging.getLogger("mmlu_pipe.backends")

PLANNED_JOB = "JOB"
"""Stands for the name of a job that is only planned."""


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
        from mmlu_pipe.backends.azureml.environment import differing_pins, missing_plugins
        from mmlu_pipe.backends.azureml.workspace import load_workspace

        workspace = load_workspace(config.workspace_config)
        planned = _submission(pipeline, config, PLANNED_JOB)
        there: dict[str, bool] = {}
        if ask_service:
            from mmlu_pipe.backends.azureml.client import connect
            from mmlu_pipe.backends.azureml.register import look_up

            with connect(workspace) as client:
                there = look_up(client, planned)
        lacking, objections = missing_plugins(config.extra_package), []
        own_environment = config.environment is None and config.components is None
        if own_environment:
            objections = [
                f"the plugin {name} is loaded here, and a job would lack it; add --extra-package {name}==VERSION, or "
                "uninstall it"
                for name in lacking
            ]
            objections += differing_pins()
        objections += [
            f"{reference} is not in the {workspace.shown}"
            for reference in (*planned.uses, *planned.computes)
            if there.get(reference) is False
        ]
        assets = [
            PlannedAsset(asset.kind, asset.name, asset.version, asset.sha256, there.get(asset.reference))
            for asset in planned.assets
        ]
        commands = {name: _with_values(_command(pipeline, name), node) for name, node in planned.job["jobs"].items()}
        notes = [f"to {workspace.shown}", *(f"uses {reference}" for reference in planned.uses)]
        if config.identity == "managed" and "compute" not in _asking_node(planned):
            notes.append("serverless compute has no identity of its own: see docs/workspace.md, or name a cluster")
        if not own_environment:
            notes += [f"the plugin {name} is loaded here; see that the environment has it" for name in lacking]
        return Description(assets, commands, _documents(planned), objections, notes)

    def submit(self, pipeline: Pipeline, config: RunConfig, folder: RunFolder, manifest: Manifest) -> AzureMLRun:
        """Register what is not there yet, and create the job; or find the job of the folder's run again.

        Raises:
            MmluPipeError: nothing was submitted.
        """
        from mmlu_pipe.backends.azureml.client import connect
        from mmlu_pipe.backends.azureml.register import register, submit
        from mmlu_pipe.backends.azureml.render import new_job_name
        from mmlu_pipe.backends.azureml.run import AzureMLRun
        from mmlu_pipe.backends.azureml.workspace import load_workspace

        workspace = load_workspace(config.workspace_config)
        try:
            client = connect(workspace)
            if manifest.job is not None and (found := self._again(client, folder, manifest)) is not None:
                return found
            sent = _submission(pipeline, config, new_job_name())
            _log.info("submitting to %s", workspace.shown)
            with tempfile.TemporaryDirectory(prefix="mmlu-pipe-") as temporary:
                registered = register(client, sent, Path(temporary))
                for reference in registered.created:
                    _log.info("registered  %s", reference)
                for reference in registered.reused:
                    _log.info("unchanged   %s", reference)
                # Before the job is there, so that no job is ever without a folder that knows it: a job whose creation
                # got no answer is looked for when the command is repeated.
                manifest.begin(job={"name": sent.job_name, "workspace": workspace.digest(manifest.salt)})
                job = submit(client, sent, Path(temporary))
        except MmluPipeError as error:
            if manifest.job is None or not isinstance(error, WorkspaceUnavailable):
                folder.discard()
            raise
        _log.info("submitted   %s in experiment %s", job.name, sent.experiment)
        if job.studio_url:
            _log.info("studio      %s", job.studio_url)
        _log.info("to follow   mmlu-pipe status %s", job.name)
        return AzureMLRun(client, folder, manifest, job.name, studio_url=job.studio_url)

    @staticmethod
    def _again(client: WorkspaceClient, folder: RunFolder, manifest: Manifest) -> AzureMLRun | None:
        """The job that an earlier process submitted for this folder; None where that process never got so far."""
        from mmlu_pipe.backends.azureml.run import AzureMLRun, job_of

        name, _ = job_of(client.config, str(folder.path))
        found = AzureMLRun(client, folder, manifest, name)
        try:
            _ = found.status
        except WorkspaceRejected as error:
            if error.status != 404:
                raise
            return None
        _log.info("the job of this folder is %s; nothing is submitted again", name)
        return found


@hookimpl
def register_backends(register: Callable[[str, Any], None]) -> None:
    """The backend comes with the package; what it needs comes with the extra `azureml`."""
    register("azureml", AzureMLBackend())


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


def _asking_node(planned: Submission) -> JsonObject:
    """The step that has an identity: the one that asks."""
    (node,) = (node for node in planned.job["jobs"].values() if "identity" in node)
    found: JsonObject = node
    return found


def _command(pipeline: Pipeline, step_name: str) -> str:
    from mmlu_pipe.backends.azureml.documents import command_line

    (step,) = (step for step in pipeline.steps if step.name == step_name)
    return command_line(step.component)


def _with_values(command: str, node: JsonObject) -> str:
    """The command as the service will render it: literals put in, optional arguments without a value taken out."""
    values = {f"inputs.{name}": value for name, value in node["inputs"].items()}

    def optional(found: re.Match[str]) -> str:
        names = re.findall(r"\$\{\{([\w.]+)\}\}", found[1])
        return found[1] if all(name in values for name in names) else ""

    def shown(found: re.Match[str]) -> str:
        value = values.get(found[1])
        return found[0] if value is None or isinstance(value, dict) else str(value)

    command = re.sub(r"\$\[\[(.*?)\]\]", optional, command)
    return re.sub(r" {2,}", " ", re.sub(r"\$\{\{([\w.]+)\}\}", shown, command))


def _documents(planned: Submission) -> dict[str, str]:
    """File name → YAML of everything that is sent."""
    import yaml

    documents = {f"{asset.kind}-{asset.name}.yml": asset.document for asset in planned.assets}
    return {
        name: yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False, allow_unicode=True, width=100)
        for name, document in (documents | {"job.yml": planned.job}).items()
    }
