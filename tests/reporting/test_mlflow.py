"""Parameters and figures in MLflow: its own server, and the client that a job has."""

from __future__ import annotations

import base64
import json
import logging
import os
import posixpath
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.backends.azureml.snapshot import write_snapshot
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_cassette, bundled_program
from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.components.jsonl_score_multiplechoice import jsonl_score_multiplechoice
from mmlu_pipe.plugins import notify
from mmlu_pipe.records import Score
from mmlu_pipe.reporting import mlflow
from mmlu_pipe.reporting.mlflow import metrics, parameters
from mmlu_pipe.scoring.accuracy import score_lines
from mmlu_pipe.scoring.categories import SUBJECTS
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer
from tests.servers.tracking import Tracking, job_python, tracking

__all__ = ["job_python", "tracking"]

FILES = ("output.jsonl", "errors.jsonl", "score.json")
NOT_COMPLETE = "not everything was logged to MLflow"


class Workspace:
    """What a workspace's tracking service is to its client: TLS, a token, a long path; behind it, MLflow's server."""

    token = ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"none"}', b'{"exp":4e9}', b"-")
    )
    path = "/subscriptions/0/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"

    def __init__(self, tracking: Tracking, folder: Path) -> None:
        authority = trustme.CA()
        self.certificates = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.certificates))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.asked: list[str] = []
        owner = self

        class Door(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                before, _, call = self.path.partition(f"/mlflow/v2.0{owner.path}/api/2.0/mlflow/")
                owner.asked.append(call)
                if before or self.headers["Authorization"] != f"Bearer {owner.token}":
                    self.send_error(401)
                    return
                answer = json.dumps(tracking.ask(call, **json.loads(body))).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.uri = f"azureml://127.0.0.1:{self._server.server_port}/mlflow/v1.0{self.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Workspace:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "AZUREML_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(logging.getLogger("mmlu_pipe"), "disabled", False)


@pytest.fixture
def with_mlflow(job_python: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the tracking URI; the process that logs has the packages of a job, as mmlu-pipe[mlflow] would give here."""

    def use(uri: str) -> None:
        monkeypatch.setattr(sys, "executable", str(job_python))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    return use


@pytest.fixture
def dead() -> str:
    """The address of a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def bytes_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def score_of(subjects: dict[str, int]) -> Score:
    lines = [
        {"subject": subject, "choices": ["a", "b"], "correct_answer": 0, "zero_shot_choice": number % 2}
        for subject, count in subjects.items()
        for number in range(count)
    ]
    return score_lines(lines, [], response_key="zero_shot_choice", correct_key="correct_answer")


# What is logged


def test_every_figure_is_that_of_the_score(tmp_path: Path) -> None:
    run = mmlu_pipe.run(output_dir=tmp_path / "run")
    score = json.loads((tmp_path / "run" / "score.json").read_text(encoding="utf-8"))
    found = metrics(run.score)

    def figures(prefix: str, part: dict[str, Any], *names: str) -> dict[str, float]:
        own = {f"{prefix}{name}": part[name] for name in ("accuracy", "stderr", "n_correct", "count", *names)}
        return own | {f"{prefix}ci95_{end}": part["ci95"][end] for end in ("low", "high")}

    expected = figures("", score, "answered", "unanswered", "failed", "invalid", "accuracy_answered")
    expected |= {"macro_accuracy": score["macro"]["accuracy"], "macro_stderr": score["macro"]["stderr"]}
    expected |= {name: score["calibration"][name] for name in ("expected_calibration_error", "brier", "mass_outside")}
    for kind, parts in (("category", score["by_category"]), ("subject", score["by_subject"])):
        for name, part in parts.items():
            expected |= figures(f"{kind}/{name}/", part)
    assert found == expected
    assert {type(value) for value in found.values()} == {float}
    assert len(found) == 16 + (4 + 57) * 6


def test_a_figure_that_does_not_exist_is_left_out() -> None:
    found = metrics(score_of({}))
    assert "accuracy" not in found
    assert found["count"] == 0.0


@given(st.lists(st.text(), min_size=1, max_size=6, unique=True))
def test_any_subject_has_a_name_that_mlflow_takes_and_no_two_have_the_same(subjects: list[str]) -> None:
    found = metrics(score_of(dict.fromkeys(subjects, 1)))
    named = [name for name in found if name.startswith("subject/")]
    assert len(named) == 6 * len(subjects)
    for name in named:
        assert re.fullmatch(r"[A-Za-z0-9_. /-]{1,250}", name)
        assert posixpath.normpath(name) == name


def test_two_subjects_that_differ_only_in_what_mlflow_refuses_stay_two() -> None:
    names = {name for name in metrics(score_of({"a/b": 1, "a_b": 1, "a:b": 1})) if name.endswith("/count")}
    assert len(names) == 3
    assert "subject/a_b/count" in names


def test_azureml_gets_no_more_names_than_a_run_of_it_holds_and_no_half_of_the_subjects() -> None:
    found = metrics(score_of(dict.fromkeys(SUBJECTS, 2)), 50)
    assert len(found) <= 50
    assert {"accuracy", "macro_accuracy", "category/STEM/accuracy", "category/other/ci95_high"} <= found.keys()
    assert not [name for name in found if name.startswith("subject/")]
    assert "subject/astronomy/accuracy" in metrics(score_of({"astronomy": 2}), 50)


def test_a_value_that_is_too_long_is_told_by_its_digest() -> None:
    found = parameters({}, {"lines": ",".join(map(str, range(1, 999, 2)))})
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", found["lines"])


# Where it goes


def test_a_local_run_is_one_finished_run_with_its_parameters_and_figures(
    tracking: Tracking, with_mlflow: Any, tmp_path: Path
) -> None:
    with_mlflow(tracking.uri)
    run = mmlu_pipe.run("sample", limit=5, output_dir=tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    (logged,) = tracking.runs("simple_sample_test").values()
    assert logged["status"] == "FINISHED"
    assert logged["metrics"] == pytest.approx(metrics(run.score), rel=1e-12)
    assert logged["params"] == {
        "dataset": "sample_test.jsonl",
        "dataset_sha256": manifest["inputs"]["dataset"]["sha256"],
        "guidance_program": "zero_shot.py",
        "guidance_program_sha256": manifest["inputs"]["guidance_program"]["sha256"],
        "model": "Qwen2.5-Coder-1.5B-Instruct",
        "served_model": "Qwen2.5-Coder-1.5B-Instruct",
        "select_strategy": "auto",
        "stream": "False",
        "limit": "5",
        "correct_key": "correct_answer",
        "response_key": "zero_shot_choice",
        "mmlu_pipe": mmlu_pipe.__version__,
    }


def test_neither_host_nor_deployment_nor_folder_nor_key_is_logged(
    tracking: Tracking, with_mlflow: Any, tmp_path: Path, write_dataset: Any, write_config: Any, monkeypatch: Any
) -> None:
    with_mlflow(tracking.uri)
    key = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", key)
    with AoaiServer(key=key, deployments={"secret-deployment": "gpt-4o"}) as server:
        config = write_config(server.endpoint, aoai_deployment="secret-deployment")
        mmlu_pipe.run(write_dataset(3, "private.jsonl"), other_config=config, output_dir=tmp_path / "run")
    (logged,) = tracking.runs("simple_private").values()
    assert logged["params"]["model"] == "gpt-4o"
    told = json.dumps(logged)
    for secret in (key, "secret-deployment", "127.0.0.1", str(tmp_path)):
        assert secret not in told


def test_a_run_that_its_caller_opened_gets_it_and_stays_open(
    tracking: Tracking, with_mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tracking.new_run(tracking.experiment("of a caller"))
    with_mlflow(tracking.uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    run = mmlu_pipe.run(limit=3, output_dir=tmp_path / "run")
    logged = tracking.runs("of a caller")
    assert logged[own]["status"] == "RUNNING"
    assert logged[own]["metrics"]["accuracy"] == pytest.approx(run.score.accuracy)
    assert logged[own]["params"]["limit"] == "3"
    assert len(logged) == 1


def test_a_run_that_is_active_in_this_process_gets_it(tracking: Tracking, job_python: Path, tmp_path: Path) -> None:
    code = (
        "import mlflow\n"
        "from mmlu_pipe.plugins import notify\n"
        "from mmlu_pipe.scoring.accuracy import score_lines\n"
        "mlflow.set_experiment('of a script')\n"
        "with mlflow.start_run():\n"
        "    score = score_lines([], [], response_key='r', correct_key='c')\n"
        "    notify('score_finished', score=score, facts={}, options={'limit': 3})\n"
        "    mlflow.log_metric('own', 1)\n"
    )
    variables = {"MLFLOW_TRACKING_URI": tracking.uri, "PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)}
    subprocess.run([job_python, "-c", code], cwd=tmp_path, env=variables, capture_output=True, check=True)
    (logged,) = tracking.runs("of a script").values()
    assert logged["params"]["limit"] == "3"
    assert {"own", "count"} <= logged["metrics"].keys()
    assert logged["status"] == "FINISHED"


def test_the_experiment_that_mlflows_variables_name_is_taken(
    tracking: Tracking, with_mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_mlflow(tracking.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of my own")
    mmlu_pipe.run(limit=3, output_dir=tmp_path / "run")
    assert len(tracking.runs("of my own")) == 1


def test_steps_of_a_job_log_to_their_own_runs_and_to_the_pipelines_and_open_no_other(
    tracking: Tracking, job_python: Path, tmp_path: Path
) -> None:
    experiment = tracking.experiment("of a job")
    root = tracking.new_run(experiment)
    answer, score = (tracking.new_run(experiment, parent=root) for _ in range(2))
    write_snapshot(tmp_path / "code")
    outputs = tmp_path / "outputs"
    outputs.mkdir()

    def step(run_id: str, component: Any, values: dict[str, Any]) -> None:
        variables = {
            "MLFLOW_TRACKING_URI": tracking.uri,
            "MLFLOW_RUN_ID": run_id,
            "AZUREML_RUN_ID": run_id,
            "AZUREML_ROOT_RUN_ID": root,
        }
        command = [job_python, "-m", component.module, *component.arguments(values)]
        done = subprocess.run(
            command, cwd=tmp_path / "code", env=variables, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"logged to MLflow: run {run_id}, {root}" in done.stderr

    files = ("output_dataset", "error_dataset", "calls_dataset")
    given = {
        "guidance_program": bundled_program("zero_shot"),
        "input_dataset": SAMPLE_DATASETS["sample"],
        "cassette": bundled_cassette("sample", "zero_shot"),
    }
    step(answer, jsonl_guidance_aoai, given | dict.fromkeys(files, outputs))
    step(
        score,
        jsonl_score_multiplechoice,
        {
            "input_dataset": outputs / "output.jsonl",
            "error_dataset": outputs / "errors.jsonl",
            "calls_dataset": outputs / "calls.jsonl",
            "score_dataset": outputs,
        },
    )
    logged = tracking.runs("of a job")
    assert set(logged) == {root, answer, score}
    assert {run["status"] for run in logged.values()} == {"RUNNING"}  # the service ends them
    assert logged[answer]["metrics"] == {}
    assert logged[answer]["params"]["model"] == "Qwen2.5-Coder-1.5B-Instruct"
    assert logged[answer]["params"]["select_strategy"] == "auto"
    value = Score.from_json(json.loads((outputs / "score.json").read_text(encoding="utf-8")))
    assert logged[score]["metrics"] == logged[root]["metrics"] == pytest.approx(metrics(value, 50), rel=1e-12)
    assert logged[root]["params"] == logged[answer]["params"] | logged[score]["params"]


def test_through_azureml_mlflow_the_steps_and_the_pipelines_run_get_it_by_batches_alone(
    tracking: Tracking, with_mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tracking.experiment("of a workspace")
    root, step = (tracking.new_run(experiment) for _ in range(2))
    score = score_of(dict.fromkeys(SUBJECTS, 2))
    with Workspace(tracking, tmp_path) as workspace:
        variables = {
            "AZUREML_RUN_ID": step,
            "AZUREML_ROOT_RUN_ID": root,
            "MLFLOW_RUN_ID": step,
            "MLFLOW_EXPERIMENT_ID": experiment,
            "MLFLOW_TRACKING_TOKEN": workspace.token,
            "REQUESTS_CA_BUNDLE": str(workspace.certificates),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with_mlflow(workspace.uri)
        notify("score_finished", score=score, facts={}, options={})
    logged = tracking.runs("of a workspace")
    assert set(logged) == {root, step}
    assert logged[root] == logged[step]
    assert logged[step]["metrics"] == pytest.approx(metrics(score, 50), rel=1e-12)
    assert workspace.asked == ["runs/log-batch"] * 4


def test_a_score_that_is_fetched_goes_to_a_server_of_ones_own_and_not_to_the_workspace_again(
    tracking: Tracking, with_mlflow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    score, facts = score_of({"astronomy": 4}), {"dataset": {"file": "fetched.jsonl", "sha256": "0"}}
    with caplog.at_level(logging.INFO, "mmlu_pipe"):
        with_mlflow("azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/…")
        notify("score_finished", score=score, facts=facts, options={"backend": "azureml"})
        assert caplog.messages == []
        with_mlflow(tracking.uri)
        notify("score_finished", score=score, facts=facts, options={"backend": "azureml"})
    (logged,) = tracking.runs("simple_fetched").values()
    assert logged["metrics"]["accuracy"] == 0.5


# When it cannot be


def test_a_default_run_loads_nothing_of_mlflow_and_starts_no_process_for_it(tmp_path: Path) -> None:
    code = (
        "import sys; started = []\n"
        "sys.addaudithook(lambda event, told: started.append(str(told)) if event == 'subprocess.Popen' else None)\n"
        "import mmlu_pipe; mmlu_pipe.run(limit=3)\n"
        "print(['mlflow' in told for told in started].count(True), 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["0", "False"]


def test_without_the_package_one_warning_names_the_extra(
    tracking: Tracking, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    run = mmlu_pipe.run(limit=3, output_dir=tmp_path / "run")
    assert run.status == "completed"
    (warning,) = (record.message for record in caplog.records if record.levelno >= logging.WARNING)
    assert warning.startswith(NOT_COMPLETE)
    assert "pip install 'mmlu-pipe[mlflow]'" in warning


def test_a_server_that_is_dead_costs_one_warning_and_no_byte_of_the_run(
    dead: str, with_mlflow: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mmlu_pipe.run(limit=3, output_dir=tmp_path / "without")
    with_mlflow(dead.replace("//", "//user:password@"))
    run = mmlu_pipe.run(limit=3, output_dir=tmp_path / "run")
    assert run.status == "completed"
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "without")
    (warning,) = (record.message for record in caplog.records if record.levelno >= logging.WARNING)
    assert warning.startswith(NOT_COMPLETE)
    assert dead in warning
    assert "password" not in warning


def test_a_server_that_never_answers_is_left_after_the_time_there_is(
    with_mlflow: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "_PATIENCE_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with_mlflow(f"http://127.0.0.1:{silent.getsockname()[1]}")
        notify("score_finished", score=score_of({"astronomy": 4}), facts={}, options={})
    assert caplog.messages == [f"{NOT_COMPLETE} (no end after 2 s); the run is complete without it"]


def test_a_parameter_that_the_run_has_with_another_value_is_a_warning_and_the_figures_are_there(
    tracking: Tracking, with_mlflow: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = tracking.new_run(tracking.experiment("twice"))
    tracking.ask("runs/log-parameter", run_id=own, key="limit", value="7")
    with_mlflow(tracking.uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    notify("score_finished", score=score_of({"astronomy": 4}), facts={}, options={"limit": 3})
    (warning,) = caplog.messages
    assert warning.startswith(NOT_COMPLETE)
    assert tracking.runs("twice")[own]["metrics"]["accuracy"] == 0.5
