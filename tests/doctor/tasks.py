"""What the tests of the workspace do in a fork."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.client import connect
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.checkup import cloud
from mmlu_pipe.checkup.examine import doctor


def examine(
    config: dict[str, str],
    folder: str,
    changed: dict[str, str] | None = None,
    without: tuple[str, ...] = (),
    **options: Any,
) -> Any:
    """All checks of the twin's workspace; the diagnosis, and how long it took.

    `changed` are keys of `config.json`; the variables `without` are taken from the environment.
    """
    for name in without:
        os.environ.pop(name, None)
    path = Path(folder, "config.json")
    path.write_text(json.dumps(config | (changed or {})), encoding="utf-8")
    started = time.monotonic()
    found = doctor(workspace_config=path, **options)
    return found.to_json() | {"seconds": time.monotonic() - started}


def job_identity(config: dict[str, str], identity: str) -> Any:
    """What is found of the identity of a job on the twin's cluster."""
    with connect(WorkspaceConfig(**config)) as client:
        found = cloud.compute(client, "cpu-cluster", "aoai_compute", Path("other_configs.json"))
        return asdict(cloud.identity_of(found.value, identity, "cpu-cluster"))
