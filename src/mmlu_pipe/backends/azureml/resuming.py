"""Going on from an earlier job: whether it has checkpoints, and which job has those of one that failed early."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from mmlu_pipe.backends.azureml.history import JobState
from mmlu_pipe.backends.azureml.submission import output_uri
from mmlu_pipe.errors import MmluPipeError

if TYPE_CHECKING:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient

__all__ = ["checkpoints_exist", "resume_advice"]

_CHECKPOINTS = re.compile(r"/paths/mmlu_pipe/([^/]+)/checkpoints/?")


def checkpoints_exist(client: WorkspaceClient, job_name: str) -> bool:
    """Whether a job left finished lines that another one can go on from.

    Raises:
        MmluPipeError: the workspace's storage cannot be looked at.
    """
    from mmlu_pipe.backends.azureml.blobs import find_blobs

    return bool(find_blobs(client, output_uri(job_name, "checkpoints", None)))


def resume_advice(client: WorkspaceClient, state: JobState) -> str:
    """How to ask only what is missing of a job that did not complete."""
    command = "mmlu-pipe run … --backend azureml"
    with suppress(MmluPipeError):  # where it cannot be looked up, the next submission finds out
        if not checkpoints_exist(client, state.name):
            earlier = _resumed(state)
            if earlier is None:
                return f"no line of it is finished; to start again: {command}"
            return f"what {earlier} had finished is not asked again by: {command} --resume-from {earlier}"
    return f"what it had finished is not asked again by: {command} --resume-from {state.name}"


def _resumed(state: JobState) -> str | None:
    """The job from whose checkpoints a job went on itself."""
    for node in (state.resource.get("jobs") or {}).values():
        given = (node.get("inputs") or {}).get("resume_from")
        if isinstance(given, dict) and (found := _CHECKPOINTS.search(str(given.get("uri")))):
            return found[1]
    return None
