"""What the tests of the client do in a fork."""

from __future__ import annotations

from mmlu_pipe.backends.azureml.client import connect, connect_registry
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig


def reach(config: dict[str, str], **changed: str) -> str:
    return connect(WorkspaceConfig(**(config | changed))).shown


def reach_registry(config: dict[str, str], name: str) -> str:
    with connect_registry(name) as client:
        return client.shown
