"""What the tests do with the unmodified azure-ai-ml SDK, in a process of its own; see conftest.py.

Run as a script it loads the SDK once, and then forks for every task that it reads from stdin.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).parent / "snapshot"
COMMAND = (
    "python count.py --data ${{inputs.data}} --times ${{inputs.times}} "
    "$[[--behave '${{inputs.behave}}']] --rows ${{outputs.rows}}"
)


def _client(config: dict[str, str], credential: str) -> Any:
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    made = DefaultAzureCredential() if credential == "principal" else ManagedIdentityCredential()
    names = (config["subscription_id"], config["resource_group"], config["workspace_name"])
    return MLClient(made, *names, show_progress=False, enable_telemetry=False)


def register(ml: Any, code: str = str(SNAPSHOT), hurry: bool = False) -> list[str]:
    """Register data, environment and both components; the ids. In a hurry, the waits before retries are short."""
    if hurry:
        sleep = time.sleep
        time.sleep = lambda seconds: sleep(min(seconds, 0.1))
    from azure.ai.ml import Input, Output
    from azure.ai.ml.entities import CommandComponent, Data, Environment

    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "lines.txt")
        lines.write_text("one\ntwo\nthree\n", encoding="utf-8")
        data = ml.data.create_or_update(Data(name="lines", version="1", path=str(lines), type="uri_file"))
    conda = {"name": "test", "channels": ["conda-forge"], "dependencies": ["python=3.11"]}
    environment = Environment(name="test", version="1", image="mcr.microsoft.com/azureml/base", conda_file=conda)
    environment = ml.environments.create_or_update(environment)
    common: dict[str, Any] = {"version": "1", "code": code, "environment": environment.id, "is_deterministic": False}
    text = Input(type="string", optional=True)
    count = CommandComponent(
        name="count",
        command=COMMAND,
        inputs={"data": Input(type="uri_file"), "times": Input(type="integer", default=2), "behave": text},
        outputs={"rows": Output(type="uri_file")},
        **common,
    )
    total = CommandComponent(
        name="total",
        command="python total.py ${{inputs.rows}} ${{outputs.result}}",
        inputs={"rows": Input(type="uri_file")},
        outputs={"result": Output(type="uri_folder")},
        **common,
    )
    made = [ml.components.create_or_update(component) for component in (count, total)]
    return [data.id, environment.id, *(component.id for component in made)]


def submit(
    ml: Any,
    behave: str | None = None,
    compute: str = "cpu-cluster",
    step_compute: str | None = None,
    data: str = "azureml:lines:1",
    environment_variables: dict[str, str] | None = None,
    on_behalf_of: bool = False,
    mode: str | None = None,
) -> str:
    """Submit the pipeline; the job's name."""
    from azure.ai.ml import Input, UserIdentityConfiguration, dsl

    count, total = (ml.components.get(name, "1") for name in ("count", "total"))

    @dsl.pipeline(name="test", experiment_name="twin_tests", default_compute=compute)
    def pipeline(data):  # type: ignore[no-untyped-def] - the decorator reads annotations
        first = count(data=data, **({"behave": behave} if behave else {}))
        if environment_variables:
            first.environment_variables = environment_variables
        if on_behalf_of:
            first.identity = UserIdentityConfiguration()
        if step_compute:
            first.compute = step_compute
        if mode:
            first.outputs.rows.mode = mode
        second = total(rows=first.outputs.rows)
        return {"rows": first.outputs.rows, "result": second.outputs.result}

    return str(ml.jobs.create_or_update(pipeline(data=Input(type="uri_file", path=data))).name)


def stream(ml: Any, name: str, retries: int | None = None) -> str:
    """Stream a job to its end; what the SDK printed."""
    if retries is not None:
        ml.jobs._service_client_kwargs |= {"retry_total": retries}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        ml.jobs.stream(name)
    return said.getvalue()


def get(ml: Any, name: str) -> dict[str, Any]:
    """A job and its steps as the SDK sees them."""
    job = ml.jobs.get(name)
    children = [ml.jobs.get(child.name) for child in ml.jobs.list(parent_job_name=name)]
    return {
        "status": _status(job),
        "experiment": job.experiment_name,
        "studio": job.studio_url,
        "children": {child.display_name: {"name": child.name, "status": _status(child)} for child in children},
    }


def _status(job: Any) -> str:
    return str(getattr(job.status, "value", job.status))  # a string before azure-ai-ml 1.35


def wait(ml: Any, name: str, status: str | None = None) -> str:
    """Poll until a job has a status, or any final one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = _status(ml.jobs.get(name))
        if found == status or found in ("Completed", "Failed", "Canceled"):
            return found
        time.sleep(0.1)
    raise TimeoutError(found)


def cancel(ml: Any, name: str) -> str:
    """Cancel a job, and wait until the service says that it is."""
    ml.jobs.begin_cancel(name).result()
    return _status(ml.jobs.get(name))


def outputs(ml: Any, name: str) -> dict[str, dict[str, str]]:
    """All outputs of a job, through the URIs that run history and the data plane give: name → file → text."""
    from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri

    found = ml.jobs._runs_operations.get_run_data(name).run_metadata.outputs
    ids = {key: output.asset_id for key, output in found.items()}
    answer = ml.jobs._dataset_dataplane_operations.get_batch_dataset_uris(list(ids.values()))
    resolved = getattr(answer, "values_property", None) or answer.values  # renamed between 1.26 and 1.35
    texts: dict[str, dict[str, str]] = {}
    for key, asset_id in ids.items():
        with tempfile.TemporaryDirectory() as folder:
            download_artifact_from_aml_uri(resolved[asset_id].uri, folder, ml.jobs._datastore_operations)
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            texts[key] = {path.relative_to(folder).as_posix(): path.read_text() for path in files}
    return texts


def download(ml: Any, name: str) -> list[str]:
    """What `jobs.download(all=True)` brings."""
    with tempfile.TemporaryDirectory() as folder:
        ml.jobs.download(name, download_path=folder, all=True)
        return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def error_of(ml: Any, step: str) -> dict[str, Any]:
    """The error and the logs of a step, from run history."""
    import requests

    details = ml.jobs._runs_operations.get_run_details(step)
    logs = {path: requests.get(url, timeout=30).text for path, url in details.log_files.items()}
    return {"error": details.error.as_dict() if details.error else None, "logs": logs}


def whole(ml: Any, **options: Any) -> dict[str, Any]:
    """Register, submit with the options, wait, and fetch everything."""
    register(ml)
    name = submit(ml, **options)
    wait(ml, name)
    found = get(ml, name) | {"name": name}
    return found | {"outputs": outputs(ml, name) if found["status"] == "Completed" else {}}


def publish_and_run(ml: Any, registry: str) -> dict[str, Any]:
    """Put environment and component into a registry, and run the component from there."""
    from azure.ai.ml import Input, MLClient, Output, dsl
    from azure.ai.ml.entities import CommandComponent, Environment
    from azure.identity import EnvironmentCredential

    shared = MLClient(EnvironmentCredential(), registry_name=registry, show_progress=False, enable_telemetry=False)
    conda = {"name": "test", "dependencies": ["python=3.11"]}
    environment = Environment(name="test", version="1.0.0", image="mcr.microsoft.com/x", conda_file=conda)
    environment = shared.environments.create_or_update(environment)
    total = CommandComponent(
        name="total",
        version="1.0.0",
        code=str(SNAPSHOT),
        command="python total.py ${{inputs.rows}} ${{outputs.result}}",
        environment=environment.id,
        inputs={"rows": Input(type="uri_file")},
        outputs={"result": Output(type="uri_folder")},
    )
    total = shared.components.create_or_update(total)
    put_data(ml, "1", "one\ntwo\n")
    found = shared.components.get("total", "1.0.0")

    @dsl.pipeline(name="test", experiment_name="twin_tests", default_compute="serverless")
    def pipeline(data):  # type: ignore[no-untyped-def] - the decorator reads annotations
        return {"result": found(rows=data).outputs.result}

    name = ml.jobs.create_or_update(pipeline(data=Input(type="uri_file", path="azureml:lines:1"))).name
    status = wait(ml, name)
    return {"ids": [environment.id, total.id], "status": status, "outputs": outputs(ml, name)}


def latest(ml: Any, name: str) -> list[str]:
    """The version that the label `latest` leads to, and all versions."""
    return [ml.data.get(name, label="latest").version, *(data.version for data in ml.data.list(name))]


def put_data(ml: Any, version: str, text: str) -> str:
    """Register one more version of the data."""
    from azure.ai.ml.entities import Data

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lines.txt")
        path.write_text(text, encoding="utf-8")
        return str(ml.data.create_or_update(Data(name="lines", version=version, path=str(path), type="uri_file")).path)


def _perform(task: dict[str, Any]) -> dict[str, Any]:
    import logging

    logging.disable(logging.CRITICAL)
    os.environ.clear()
    os.environ.update(task["environment"])
    try:
        value = globals()[task["do"]](_client(task["config"], task["credential"]), **task["arguments"])
    except Exception as error:  # noqa: BLE001 - the test is told
        status = getattr(error, "status_code", None)
        told = {"type": type(error).__name__, "message": str(error), "status": status}
        return {"error": told | {"trace": traceback.format_exc()}}
    return {"value": value}


def main() -> None:
    """Perform the tasks that stdin has, one a line, each in a fork."""
    for name in ("ai.ml.dsl", "ai.ml.entities", "ai.ml.identity", "ai.ml.operations", "identity", "storage.blob"):
        importlib.import_module(f"azure.{name}")

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        task = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            with os.fdopen(write, "w", encoding="utf-8") as pipe:
                json.dump(_perform(task), pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        answers.write((answer or '{"error": {"type": "Crash", "message": "", "status": null}}') + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
