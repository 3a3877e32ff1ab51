"""A submission as people see it before it is sent: what `plan` shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import yaml

from mmlu_pipe.backends.azureml.documents import command_line
from mmlu_pipe.backends.azureml.environment import differing_pins, missing_plugins
from mmlu_pipe.backends.azureml.submission import Submission
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.backends.base import Description, PlannedAsset
from mmlu_pipe.config import RunConfig
from mmlu_pipe.pipeline import Pipeline
from mmlu_pipe.records import JsonObject

__all__ = ["PLANNED_JOB", "description"]

PLANNED_JOB = "JOB"
"""Stands for the name of a job that is only planned."""


def description(
    planned: Submission,
    pipeline: Pipeline,
    config: RunConfig,
    workspace: WorkspaceConfig,
    there: Mapping[str, bool],
    objections: Sequence[str],
) -> Description:
    """What is registered and sent, and what stands against it.

    Args:
        planned: everything that is sent.
        pipeline: the steps that it was made of.
        config: the options of the run.
        workspace: where it is sent to.
        there: reference or compute → whether the workspace has it; without those that it was not asked for.
        objections: those that are known already.
    """
    lacking = missing_plugins(config.extra_package)
    found = list(objections)
    notes = [f"to {workspace.shown}", *(f"uses {reference}" for reference in planned.uses)]
    if config.environment is None and config.components is None:
        found += [
            f"the plugin {name} is loaded here, and a job would lack it; add --extra-package {name}==VERSION, or "
            "uninstall it"
            for name in lacking
        ]
        found += differing_pins()
    else:
        notes += [f"the plugin {name} is loaded here; see that the environment has it" for name in lacking]
    found += [
        f"{reference} is not in the {workspace.shown}"
        for reference in (*planned.uses, *planned.computes)
        if there.get(reference) is False
    ]
    nodes: JsonObject = planned.job["jobs"]
    if config.identity == "managed" and any("identity" in node and "compute" not in node for node in nodes.values()):
        notes.append("serverless compute has no identity of its own: see docs/workspace.md, or name a cluster")
    assets = [
        PlannedAsset(asset.kind, asset.name, asset.version, asset.sha256, there.get(asset.reference))
        for asset in planned.assets
    ]
    commands = {step.name: _with_values(command_line(step.component), nodes[step.name]) for step in pipeline.steps}
    return Description(assets, commands, _documents(planned), found, notes)


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
    documents: dict[str, JsonObject] = {}
    for asset in planned.assets:
        name = f"{asset.kind}-{asset.name}"
        documents[f"{name}-{asset.version}.yml" if f"{name}.yml" in documents else f"{name}.yml"] = asset.document
    return {
        name: yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False, allow_unicode=True, width=100)
        for name, document in (documents | {"job.yml": planned.job}).items()
    }
