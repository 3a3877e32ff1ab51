"""Where steps run: what they all share, and how their places are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmlu_pipe.rehearsal.assets import Assets
from mmlu_pipe.rehearsal.datastores import Stores
from mmlu_pipe.rehearsal.exchange import Json
from mmlu_pipe.rehearsal.identity import Identity
from mmlu_pipe.rehearsal.process import Drill
from mmlu_pipe.rehearsal.runs import Output, Run
from mmlu_pipe.rehearsal.workspace import ARTIFACT_STORE, Workspace

__all__ = ["Site", "artifact_prefix", "binding_text", "compute_name", "default_output"]


@dataclass
class Site:
    """Where steps run.

    Attributes:
        workspace: whose jobs.
        stores: its datastores.
        assets: its assets.
        identity: gives jobs their tokens.
        interpreter: the Python that `python` is in a step.
        environment: further variables for steps.
        broken_images: environment → the log of its image's build, for those that cannot be built.
        drill: is told of every step that started.
        grace_s: seconds between SIGTERM and SIGKILL for a cancelled step.
        port: of the front door.
        network: variables by which a process reaches the twin.
    """

    workspace: Workspace
    stores: Stores
    assets: Assets
    identity: Identity
    interpreter: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    broken_images: Mapping[str, str] = field(default_factory=dict)
    drill: Drill | None = None
    grace_s: float = 5.0
    port: int = 0
    network: Mapping[str, str] = field(default_factory=dict)

    def long_uri(self, datastore: str, path: str) -> str:
        """A datastore URI as the service writes it."""
        return f"azureml://{self.workspace.short_id}/datastores/{datastore}/paths/{path}"

    def publish(self, run: Run, path: str, content: bytes) -> None:
        """Write a log of a run into the artifact store."""
        name = artifact_prefix(run) + path
        self.stores.storage.put(self.workspace.containers[ARTIFACT_STORE], name, content)
        run.logs[path] = name


def artifact_prefix(run: Run) -> str:
    """Where a run's logs and artifacts are in the artifact store."""
    return f"ExperimentRun/dcid.{run.name}/"


def binding_text(binding: Json | None) -> str | None:
    """What an input or output of a job is bound to: a literal, a URI or an expression."""
    value = (binding or {}).get("value", (binding or {}).get("uri"))
    return None if value is None else str(value)


def compute_name(node: Json, job: Json) -> str:
    """Where a step runs: its own compute, the job's default, or serverless."""
    default = job.get("computeId") or (job.get("settings") or {}).get("default_compute")
    return str(node.get("computeId") or default or "serverless").rpartition("/")[2]


def default_output(site: Site, run: Run) -> Output:
    """The artifacts of a run, which the service lists among its outputs."""
    uri = site.long_uri(ARTIFACT_STORE, artifact_prefix(run))
    asset = site.assets.put_resolved_data(f"azureml_{run.name}_output_data_default", uri, "uri_folder")
    return Output(asset, uri, "uri_folder")
