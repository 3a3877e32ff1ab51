"""What the tests of registering and submitting do in a fork."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.client import connect
from mmlu_pipe.backends.azureml.register import look_up, register, submit
from mmlu_pipe.backends.azureml.render import submission
from mmlu_pipe.backends.azureml.submission import Submission
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_programs
from mmlu_pipe.config import Computes, RunConfig
from mmlu_pipe.pipeline import mmlu_pipeline
from mmlu_pipe.records import Endpoint

ENDPOINT = Endpoint("https://my-resource.openai.azure.com", "my-gpt-4o", "gpt-4o", "2024-10-21")


def sent(
    dataset: str | None = None, compute: str = "cpu-cluster", job_name: str = "job_1", **options: Any
) -> Submission:
    config = RunConfig(backend="azureml", **options)
    path = Path(dataset) if dataset else SAMPLE_DATASETS["sample"]
    program = bundled_programs()["zero_shot"]
    pipeline = mmlu_pipeline(config, dataset=path, program=program, endpoint=ENDPOINT, cassette=None)
    return submission(pipeline, config, Computes(compute, compute), job_name)


def bring(
    config: dict[str, str],
    submits: bool = False,
    uses: tuple[str, ...] = (),
    changed: dict[str, dict[str, Any]] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Register, and submit if asked; `changed` are other fields of the assets by name."""
    planned = sent(**options)
    assets = tuple(replace(asset, **(changed or {}).get(asset.name, {})) for asset in planned.assets)
    planned = replace(planned, uses=(*planned.uses, *uses), assets=assets)
    with tempfile.TemporaryDirectory() as folder:
        client = connect(WorkspaceConfig(**config))
        before = look_up(client, planned)
        found = register(client, planned, Path(folder))
        told: dict[str, Any] = {"before": before, "created": found.created, "reused": found.reused}
        if submits:
            told["job"] = vars(submit(client, planned, Path(folder)))
    return told


def race(config: dict[str, str], dataset: str, refusal: int) -> dict[str, Any]:
    """Register, while somebody else registers the same between our look and our write."""
    from azure.core.exceptions import HttpResponseError

    planned = sent(dataset=dataset)
    planned = replace(planned, assets=tuple(asset for asset in planned.assets if asset.name == "small"))
    with connect(WorkspaceConfig(**config)) as client, tempfile.TemporaryDirectory() as folder:
        create = client.ml.data.create_or_update

        def late(data: Any) -> None:
            create(data)
            error = HttpResponseError("somebody else did it")
            error.status_code = refusal
            raise error

        client.ml.data.create_or_update = late
        found = register(client, planned, Path(folder))
    return {"created": found.created, "reused": found.reused}
