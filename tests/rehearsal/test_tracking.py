"""MLflow in the twin: what a job's client logs is in the runs, and what the service refuses is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.components.jsonl_score_multiplechoice import jsonl_score_multiplechoice
from mmlu_pipe.rehearsal import Azurite, Run, Twin, server_error
from mmlu_pipe.rehearsal.tracking import tracking_environment
from tests.conftest import ROOT
from tests.rehearsal.rest import ask, component, node, submit, text_of
from tests.servers.tracking import job_python

__all__ = ["job_python"]


def run_of(twin: Twin, name: str, parent: Run | None = None) -> Run:
    """A run as a job or a step of one has it, without anything that runs."""
    run = Run(name, name, {"experimentName": "e", "properties": {}}, parent)
    twin._runs.add(run)
    return run


@pytest.fixture
def step(twin: Twin) -> Run:
    return run_of(twin, "a-step", run_of(twin, "a-job"))


def call(twin: Twin, method: str, path: str, token: str | None = "", **asked: Any) -> tuple[int, Any]:
    """Ask MLflow's interface as its clients do."""
    url = f"https://{twin.workspace.api_host}/mlflow/v2.0{twin.workspace.arm_id}/api/2.0/mlflow/{path}"
    if method == "GET":
        return ask(twin, url + "?" + "&".join(f"{name}={value}" for name, value in asked.items()), token=token)
    return ask(twin, url, method, token=token, body=asked)


def log(twin: Twin, run: Run, token: str | None = "", **entries: Any) -> tuple[int, Any]:
    return call(twin, "POST", "runs/log-batch", token, run_id=run.name, **entries)


def metrics(*names: str) -> list[dict[str, Any]]:
    return [{"key": name, "value": 0.5, "timestamp": 1, "step": 0} for name in names]


def params(*names: str, value: str = "v") -> list[dict[str, Any]]:
    return [{"key": name, "value": value} for name in names]


CLIENT = """
import json, os
import mlflow
from mlflow import MlflowClient

client = MlflowClient()
with mlflow.start_run() as run:
    mlflow.log_param("seed", 7)
    mlflow.log_metric("accuracy", 0.1 + 0.2, step=1)
    mlflow.log_metrics({"accuracy": 1 / 3, "count": 114}, step=2)
    mlflow.set_tag("kind", "drill")
root = os.environ["AZUREML_ROOT_RUN_ID"]
client.log_metric(root, "accuracy", 1 / 3)
client.log_param(root, "seed", 7)
found = client.get_run(run.info.run_id)
own = client.create_run(client.create_experiment("own"), run_name="mine")
client.log_metric(own.info.run_id, "nan", float("nan"))
client.set_terminated(own.info.run_id)
print(json.dumps({
    "status": found.info.status,
    "data": [found.data.params, found.data.metrics, found.data.tags["kind"], found.data.tags["mlflow.rootRunId"]],
    "history": [[metric.step, metric.value] for metric in client.get_metric_history(found.info.run_id, "accuracy")],
    "experiments": [
        client.get_experiment(found.info.experiment_id).name,
        client.get_experiment_by_name("own").experiment_id == own.info.experiment_id,
        client.get_experiment_by_name("none"),
    ],
    "own": [client.get_run(own.info.run_id).info.status, str(client.get_run(own.info.run_id).data.metrics["nan"])],
}))
"""


def test_the_client_of_a_job_logs_and_reads_by_nothing_but_the_environment_of_its_step(
    twin: Twin, step: Run, job_python: Path, tmp_path: Path
) -> None:
    for run in (step, step.root):
        run.enter("Running")
    found = tracking_environment(twin.workspace, twin.identity, step)
    names = {"AZUREML_RUN_ID": step.name, "AZUREML_ROOT_RUN_ID": step.root.name, "MLFLOW_DISABLE_TELEMETRY": "true"}
    network = {name: text for name, text in twin.environment().items() if not name.startswith("AZURE")}
    done = subprocess.run(
        [job_python, "-c", CLIENT],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **network, **found, **names},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "status": "RUNNING",
        "data": [{"seed": "7"}, {"accuracy": 1 / 3, "count": 114.0}, "drill", "a-job"],
        "history": [[1, 0.1 + 0.2], [2, 1 / 3]],
        "experiments": ["e", True, None],
        "own": ["FINISHED", "nan"],
    }
    assert (step.parameters, step.figures) == ({"seed": "7"}, {"accuracy": 1 / 3, "count": 114.0})
    assert (step.root.parameters, step.root.figures) == ({"seed": "7"}, {"accuracy": 1 / 3})
    assert step.properties["tags"]["kind"] == "drill"
    assert {run.status for run in (step, step.root)} == {"Running"}
    assert {kept.status for kept in twin.requests} == {200, 404}
    assert [kept.route for kept in twin.requests if kept.host != twin.workspace.api_host] == ["metadata/endpoints"]
    assert "unable to load" not in done.stderr


def test_the_token_of_a_step_is_good_for_its_own_pipeline_and_for_nothing_else(twin: Twin, step: Run) -> None:
    other = run_of(twin, "another-job")
    token = twin.identity.run_token(step.name)
    assert (
        log(twin, step, token, metrics=metrics("a"))[0] == log(twin, step.root, token, metrics=metrics("a"))[0] == 200
    )
    assert log(twin, other, token, metrics=metrics("a"))[0] == 403
    assert ask(twin, f"https://management.azure.com{twin.workspace.arm_id}", token=token)[0] == 401
    assert log(twin, step, None, metrics=metrics("a"))[0] == 401
    assert log(twin, step, token + "x", metrics=metrics("a"))[0] == 401
    twin.identity.lifetime_s = -1
    assert log(twin, step, twin.identity.run_token(step.name), metrics=metrics("a"))[0] == 401
    assert other.metrics == {}


def test_a_token_is_exchanged_for_a_fresh_one_as_azureml_mlflow_asks_for_it(twin: Twin, step: Run) -> None:
    ids = f"experimentids/{twin.workspace.experiment_id('e')}/runs/{step.name}/token"
    url = f"https://{twin.workspace.api_host}/history/v1.0{twin.workspace.arm_id}/{ids}"
    status, fresh = ask(twin, url, token=twin.identity.run_token(step.name))
    assert status == 200
    assert log(twin, step, fresh["token"], metrics=metrics("a"))[0] == 200
    assert ask(twin, url.replace(step.name, "none"), token=twin.identity.run_token("none"))[0] == 404


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"params": params("p", value="x" * 501)}, "FieldName=Parameters/Value, Limit=500, Size=501"),
        ({"params": params(*map(str, range(101)))}, "FieldName=Parameters/Count, Limit=100, Size=101"),
        ({"metrics": metrics(*["m"] * 251)}, "FieldName=Metrics/Count, Limit=250, Size=251"),
        ({"metrics": metrics(*map(str, range(50)))}, "FieldName=Metrics, Limit=50, Size=51"),
        ({"tags": params(*map(str, range(51)))}, "FieldName=Tags, Limit=50, Size=51"),
        ({"metrics": [{"key": "m", "value": "many"}]}, "The value of the metric m is no number"),
        ({"metrics": metrics("a,b")}, "Invalid name: 'a,b'"),
        ({"params": params("kept", value="other")}, "The parameter kept was logged with another value"),
    ],
    ids=["long", "parameters", "rows", "names", "tags", "text", "name", "changed"],
)
def test_what_goes_beyond_a_limit_is_refused_as_a_whole(
    twin: Twin, step: Run, entries: dict[str, Any], told: str
) -> None:
    assert log(twin, step, params=params("kept"), metrics=metrics("kept"))[0] == 200
    status, answer = log(twin, step, **({"metrics": metrics("more"), "params": params("more")} | entries))
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert told in answer["Error"]["Message"]
    assert (step.parameters, step.figures) == ({"kept": "v"}, {"kept": 0.5})


def test_the_201st_parameter_of_a_run_is_refused_and_the_same_one_again_is_not(twin: Twin, step: Run) -> None:
    for start in (0, 100):
        assert log(twin, step, params=params(*map(str, range(start, start + 100))))[0] == 200
    assert log(twin, step, params=params("7"))[0] == 200
    status, answer = log(twin, step, params=params("200"))
    assert (status, "FieldName=Parameters, Limit=200, Size=201" in answer["Error"]["Message"]) == (400, True)


def test_what_is_not_there_is_told_in_the_words_of_mlflow(twin: Twin, step: Run) -> None:
    status, answer = call(twin, "GET", "runs/get", run_id="none")
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert call(twin, "POST", "runs/search", run_id=step.name)[1]["error_code"] == "ENDPOINT_NOT_FOUND"
    elsewhere = f"https://{twin.workspace.api_host}/mlflow/v2.0{twin.workspace.arm_id}x/api/2.0/mlflow/runs/get"
    assert ask(twin, f"{elsewhere}?run_id={step.name}")[0] == 404


def test_a_job_whose_workspace_takes_no_log_completes_with_a_warning_in_its_log(
    azurite: Azurite, job_python: Path, tmp_path: Path
) -> None:
    line = {"subject": "astronomy", "choices": ["a", "b"], "correct_answer": 0, "zero_shot_choice": 0}
    (tmp_path / "output.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    values = {"input_dataset": tmp_path / "output.jsonl", "score_dataset": tmp_path / "out"}
    (tmp_path / "out").mkdir()
    command = " ".join(
        ["python", "-m", jsonl_score_multiplechoice.module, *jsonl_score_multiplechoice.arguments(values)]
    )
    hurry = {"MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0", "PYTHONPATH": str(ROOT / "src"), "MMLU_PIPE_NO_PLUGINS": "1"}
    with Twin(job_python, storage=azurite, step_environment=hurry) as twin:
        twin.faults.add(server_error("*", "mlflow/*", times=None))
        job = submit(twin, {"score": node(component(twin, "c", command))})
        assert job.wait(120)
        told = text_of(twin, job.children[0], "log")
    assert job.status == "Completed", told
    assert json.loads((tmp_path / "out" / "score.json").read_text(encoding="utf-8"))["accuracy"] == 1.0
    assert "not everything was logged to MLflow" in told
    assert "Traceback" not in told
    assert (job.metrics, job.children[0].metrics) == ({}, {})


def test_a_run_that_a_client_of_mlflow_made_is_no_job_of_the_workspace(twin: Twin) -> None:
    experiment = call(twin, "POST", "experiments/create", name="own")[1]["experiment_id"]
    run = call(twin, "POST", "runs/create", experiment_id=experiment, run_name="mine")[1]["run"]
    listed = ask(twin, f"https://management.azure.com{twin.workspace.arm_id}/jobs?api-version=1")[1]
    assert (run["info"]["run_name"], listed["value"]) == ("mine", [])
