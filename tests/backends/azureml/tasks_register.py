"""What the tests of registering and submitting do in a fork."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.backend import AzureMLBackend
from mmlu_pipe.backends.azureml.client import connect
from mmlu_pipe.backends.azureml.register import look_up, register, submit
from mmlu_pipe.backends.azureml.render import submission
from mmlu_pipe.backends.azureml.submission import Submission
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_programs
from mmlu_pipe.config import Computes, RunConfig
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.pipeline import mmlu_pipeline
from mmlu_pipe.records import Endpoint
from mmlu_pipe.runfolder import RunFolder

ENDPOINT = Endpoint("https://my-resource.openai.azure.com", "my-gpt-4o", "gpt-4o", "2024-10-21")


def sent(
    dataset: str | None = None, compute: str = "cpu-cluster", job_name: str = "job_1", **options: Any
) -> Submission:
    config = RunConfig(backend="azureml", **options | {"data_dir": Path(options.get("data_dir", "data"))})
    path = Path(dataset) if dataset else SAMPLE_DATASETS["sample"]
    program = bundled_programs()["zero_shot"]
    pipeline = mmlu_pipeline(config, dataset=path, program=program, endpoint=ENDPOINT, cassette=None)
    return submission(pipeline, config, Computes(compute, compute), job_name)


def bring(
    config: dict[str, str],
    submits: bool = False,
    uses: tuple[str, ...] = (),
    changed: dict[str, dict[str, Any]] | None = None,
    saved: str | None = None,
    cwd: str = ".",
    **options: Any,
) -> dict[str, Any]:
    """Register, and submit if asked.

    `changed` are other fields of the assets by name; `saved` is written to the dataset once it has been hashed.
    """
    os.chdir(cwd)
    planned = sent(**options)
    if saved is not None:
        Path(options["dataset"]).write_text(saved, encoding="utf-8")
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


def submit_after(config: dict[str, str], folder: str, dataset: str, saved: str) -> None:
    """The backend's own submission of a dataset that is saved after its manifest was made up."""
    (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
    told = {f"aoai_{key}": value for key, value in asdict(ENDPOINT).items()}
    told |= {"aoai_compute": "cpu-cluster", "general_compute": "cpu-cluster"}
    (Path(folder) / "other.json").write_text(json.dumps(told), encoding="utf-8")
    options = {"workspace_config": Path(folder) / "config.json", "other_config": Path(folder) / "other.json"}
    config_ = RunConfig(backend="azureml", dataset=dataset, **options)
    inputs = {"dataset": Path(dataset), "guidance_program": bundled_programs()["zero_shot"]}
    pipeline = mmlu_pipeline(
        config_, dataset=inputs["dataset"], program=inputs["guidance_program"], endpoint=ENDPOINT, cassette=None
    )
    with RunFolder.open(Path(folder) / "run", "run") as run_folder:
        manifest = Manifest(run_folder.manifest, config_, inputs, ENDPOINT)
        Path(dataset).write_text(saved, encoding="utf-8")
        AzureMLBackend().submit(pipeline, config_, run_folder, manifest)


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
