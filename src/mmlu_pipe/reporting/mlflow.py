"""Parameters and figures of a run to MLflow, by a process of its own: it can be late or broken, and the run is done.

Nothing happens, and nothing of MLflow is loaded, unless MLFLOW_TRACKING_URI is set; AzureML sets it in every job.
Limits: https://mlflow.org/docs/latest/rest-api.html (names, batches), and
https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity (metric names per run, values, rows).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmlu_pipe import __version__
from mmlu_pipe.hashing import sha256_text
from mmlu_pipe.plugins import hookimpl
from mmlu_pipe.records import JsonObject, Score, SubScore

__all__ = ["AZUREML_NAMES", "main", "metrics", "parameters"]

_log = logging.getLogger("mmlu_pipe.reporting")

_TRACKING, _STEP = "MLFLOW_TRACKING_URI", "AZUREML_RUN_ID"
_PATIENCE_S = 60.0
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default goes on for four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
"""What the process that logs is told, unless the caller's environment says otherwise."""

_OPTIONS = ("program_option", "select_strategy", "require", "seed", "reasoning_effort", "stream", "limit", "lines")
_PART = ("accuracy", "stderr", "n_correct", "count")
_ALL = (*_PART, "answered", "unanswered", "failed", "invalid", "accuracy_answered")
_CALIBRATION = ("expected_calibration_error", "brier", "mass_outside")

AZUREML_NAMES = 50
"""Names of metrics that a run of AzureML holds."""

_MAX_VALUE = 500
_MAX_NAME = 100
_BATCH = 250


@hookimpl
def run_settled(facts: JsonObject, options: JsonObject) -> None:
    """In a job component 1 is a step of its own, which the score never passes."""
    if os.environ.get(_TRACKING) and _STEP in os.environ:
        _hand_over(parameters(facts, options), {}, facts)


@hookimpl
def score_finished(score: Score, facts: JsonObject, options: JsonObject) -> None:
    """A job has logged its score in its workspace itself, so one that is fetched is not logged there again."""
    tracking = os.environ.get(_TRACKING)
    if not tracking or (options.get("backend") == "azureml" and tracking.startswith("azureml:")):
        return
    keys = {"correct_key": score.correct_key, "response_key": score.response_key}
    limit = AZUREML_NAMES if _STEP in os.environ or tracking.startswith("azureml:") else None
    _hand_over(parameters(facts, options | keys), metrics(score, limit), facts)


def parameters(facts: JsonObject, options: JsonObject) -> dict[str, str]:
    """What decided the answers, by name; no host, no deployment, no folder. What is not known is left out.

    Args:
        facts: what component 1 settled: hashes of the inputs, the model.
        options: those of the run; the others are left out.
    """
    found: JsonObject = {name: options.get(name) for name in (*_OPTIONS, "correct_key", "response_key")}
    for name, key in (("dataset", "dataset"), ("guidance_program", "program"), ("examples", "examples")):
        source = facts.get(key) or {}
        found |= {name: source.get("file"), f"{name}_sha256": source.get("sha256")}
    found |= {"model": facts.get("model"), "served_model": sorted(facts.get("served_models") or ())}
    return {name: _text(value) for name, value in found.items() if value not in (None, [], ())} | {
        "mmlu_pipe": __version__
    }


def metrics(score: Score, limit: int | None = None) -> dict[str, float]:
    """The figures of a score by name; those that do not exist are left out.

    Args:
        score: the score.
        limit: how many names there may be: the categories or the subjects that go beyond are left out as a whole.
    """
    found = _figures("", score, _ALL)
    if score.macro is not None:
        found |= _present({"macro_accuracy": score.macro.accuracy, "macro_stderr": score.macro.stderr})
    if score.calibration is not None:
        found |= _present({name: getattr(score.calibration, name) for name in _CALIBRATION})
    for kind, parts in (("category", score.by_category), ("subject", score.by_subject)):
        more: dict[str, float] = {}
        for name, part in parts.items():
            more |= _figures(f"{kind}/{_legal(name)}/", part, _PART)
        if limit is None or len(found) + len(more) <= limit:
            found |= more
        else:
            _log.info("MLflow gets no figures by %s: it would be more than %d names a run", kind, limit)
    return found


def _figures(prefix: str, part: SubScore, names: Iterable[str]) -> dict[str, float]:
    values = {prefix + name: getattr(part, name) for name in names}
    if part.ci95 is not None:
        values |= {f"{prefix}ci95_low": part.ci95.low, f"{prefix}ci95_high": part.ci95.high}
    return _present(values)


def _present(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}


def _legal(name: str) -> str:
    """A part of a metric's name; one that had to be changed has a digest, so that no two become one."""
    legal = re.sub(r"[^A-Za-z0-9_. -]", "_", name)[:_MAX_NAME]
    return legal if legal == name and name.strip(". ") else f"{legal.strip('. ')}-{sha256_text(name)[:8]}"


def _text(value: Any) -> str:
    """The text of a parameter; one that is too long is told by its digest."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _MAX_VALUE else f"sha256:{sha256_text(text)}"


def _hand_over(params: dict[str, str], figures: dict[str, float], facts: JsonObject) -> None:
    """Have it logged by another process; whatever comes of it, at most a warning is told."""
    import subprocess

    dataset, program = (Path((facts.get(key) or {}).get("file", "")).stem for key in ("dataset", "program"))
    request = {
        "params": params,
        "metrics": figures,
        "run_ids": _runs(),
        "experiment": f"simple_{dataset}" if dataset else "mmlu_pipe",
        "name": f"{dataset}-{program}" if dataset else None,
    }
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mmlu_pipe.reporting.mlflow"],
            input=json.dumps(request),
            env=_ENVIRONMENT | os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"no end after {_PATIENCE_S:g} s"
    except OSError as error:
        problem = str(error)
    else:
        if done.returncode == 0:
            _log.info("logged to MLflow: run %s", ", ".join(done.stdout.split()))
            return
        problem = (done.stderr.strip() or f"exit code {done.returncode}").rpartition("\n")[2]
    problem = re.sub(r"//[^/\s@]+@", "//", problem)  # an address may hold a password
    _log.warning("not everything was logged to MLflow (%s); the run is complete without it", problem)


def _runs() -> list[str]:
    """The runs to log to: the step's and the pipeline's in AzureML, else the one that is open; [] for a new one."""
    names = (_STEP, "AZUREML_ROOT_RUN_ID") if _STEP in os.environ else ("MLFLOW_RUN_ID",)
    found = [os.environ[name] for name in names if os.environ.get(name)]
    if not found and "mlflow" in sys.modules and (active := sys.modules["mlflow"].active_run()) is not None:
        found = [active.info.run_id]
    return list(dict.fromkeys(found))


def main() -> int:
    """Log what standard input tells, print the ids of the runs, and return the exit code.

    Every run is tried; what went wrong is the last line on standard error.
    """
    request = json.load(sys.stdin)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            from mlflow import MlflowClient

            client = MlflowClient()
            found = request["run_ids"] or [_new_run(client, request["experiment"], request["name"])]
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        return _failed("the package mlflow is not installed; add it with: pip install 'mmlu-pipe[mlflow]'")
    except Exception as error:  # noqa: BLE001 - whatever a client of a server may raise
        return _failed(_told(error))
    problems = []
    for run_id in found:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                _log_to(client, run_id, request["params"], request["metrics"])
        except Exception as error:  # noqa: BLE001 - as above
            problems.append(f"run {run_id}: {_told(error)}")
    if not request["run_ids"]:
        with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(Exception):
            client.set_terminated(found[0], "FAILED" if problems else "FINISHED")
    sys.stdout.write("\n".join(found))
    return _failed("; ".join(problems)) if problems else 0


def _new_run(client: Any, experiment: str, name: str | None) -> str:
    """The id of a new run in the experiment that MLflow's variables name, or in ours."""
    if not (experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
        known = client.get_experiment_by_name(experiment)
        experiment_id = client.create_experiment(experiment) if known is None else known.experiment_id
    return str(client.create_run(experiment_id, run_name=name).info.run_id)


def _log_to(client: Any, run_id: str, params: dict[str, str], figures: dict[str, float]) -> None:
    """Figures first: a parameter that the run has with another value is refused."""
    import time

    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    rows = [Metric(name, value, now, 0) for name, value in figures.items()]
    for start in range(0, len(rows), _BATCH):
        client.log_batch(run_id, metrics=rows[start : start + _BATCH], synchronous=True)
    client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()], synchronous=True)


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:600]


def _failed(problem: str) -> int:
    sys.stderr.write(f"\n{problem}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
