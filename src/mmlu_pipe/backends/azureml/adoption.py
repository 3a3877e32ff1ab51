"""A job that is not known on this machine: its manifest, from what the job itself tells."""

from __future__ import annotations

import dataclasses
from typing import Any

from mmlu_pipe.backends.azureml.history import JobState
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.config import RunConfig
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.plugins import registry
from mmlu_pipe.programs import option_texts
from mmlu_pipe.records import JsonObject
from mmlu_pipe.runfolder import RunFolder

__all__ = ["adopted"]


def adopted(config: WorkspaceConfig, folder: RunFolder, state: JobState, facts: JsonObject) -> Manifest:
    """The manifest of a job that was submitted from another machine, or from a folder that is gone; it is written.

    Args:
        config: the workspace.
        folder: the run folder, which exists.
        state: the job.
        facts: what component 1 settled; empty where the job left none.

    Raises:
        RunFolderError: the folder cannot be written to.
    """
    version = str((state.resource.get("tags") or {}).get("mmlu_pipe", "unknown"))
    manifest = Manifest.adopt(
        folder.manifest, _options(state.resource, facts), facts, started=state.created, version=version
    )
    manifest.begin(job={"name": state.name, "workspace": config.digest(manifest.salt), "accepted": True})
    return manifest


def _options(resource: JsonObject, facts: JsonObject) -> RunConfig:
    """The options of a job, from the literals of its steps; what a job is not told has its default."""
    known = {field.name for field in dataclasses.fields(RunConfig)} - {"auth"}  # in a job it has values of its own
    ports = {port.name: port for component in registry("components").values() for port in component.ports}
    told: dict[str, Any] = {"gate": (resource.get("tags") or {}).get("gate") != "skipped"}
    for node in (resource.get("jobs") or {}).values():
        for name, value in (node.get("inputs") or {}).items():
            text = str(value.get("value", "${{")) if isinstance(value, dict) else "${{"
            if name in known and name in ports and not text.startswith("${{"):  # a literal, and no binding
                told[name] = ports[name].parse(text)
    if "require" in told:
        told["require"] = tuple(str(told["require"]).split(","))
    for option, fact in (("dataset", "dataset"), ("guidance_program", "program"), ("examples", "examples")):
        if fact in facts:
            told[option] = facts[fact]["file"]
    told["program_option"] = option_texts(facts.get("program_options") or {})
    return RunConfig(backend="azureml", **told)
