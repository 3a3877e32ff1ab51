"""What the tests of bodies do in a fork."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from mmlu_pipe.backends.azureml.staging import stage, written
from tests.backends.azureml.tasks_register import sent


def loaded(config: dict[str, str], versions: list[str]) -> dict[str, list[str]]:
    """Version → what the SDK reads as versions and references from the documents of a submission that has it."""
    from azure.ai.ml import load_component, load_data, load_environment, load_job

    load = {"data": load_data, "environment": load_environment, "component": load_component}
    planned = sent()
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for asset in planned.assets:
            stage(asset, folder)
        for version in versions:
            texts = [json.dumps(document) for document in (*(asset.document for asset in planned.assets), planned.job)]
            for asset in planned.assets:
                texts = [text.replace(asset.version, version) for text in texts]
            *documents, job = [written(json.loads(text), folder / f"{place}.yml") for place, text in enumerate(texts)]
            read = [load[asset.kind](path) for asset, path in zip(planned.assets, documents, strict=True)]
            steps = load_job(job).jobs.values()
            references = [item.environment for item in read if hasattr(item, "environment")]
            references += [step.component for step in steps]
            found[version] = [item.version for item in read] + [text.rpartition(":")[2] for text in references]
    return found
