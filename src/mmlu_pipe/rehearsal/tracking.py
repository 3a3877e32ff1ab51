"""MLflow in a workspace: the REST interface that azureml-mlflow translates `azureml://…` to, and a step's way to it.

The calls are those that azureml-mlflow 1.62.0.post6 and mlflow-skinny 3.15.0 make, read in their source; the limits are
public: docs/fidelity.md names the source of each. What is logged is in the run: `Run.parameters`, `Run.metrics`.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime

from mmlu_pipe.rehearsal.exchange import Json, Reply, Request
from mmlu_pipe.rehearsal.identity import Identity
from mmlu_pipe.rehearsal.runs import Run, Runs, Status
from mmlu_pipe.rehearsal.tracking_limits import check_batch, refused
from mmlu_pipe.rehearsal.workspace import Workspace, now

__all__ = ["Tracking", "tracking_environment"]

_CALL = re.compile(r"/mlflow/v[12]\.0(/subscriptions/.+)/api/2\.0/mlflow/([a-z/-]+)")
_TOKEN = re.compile(r"/history/v1\.0(/subscriptions/.+)/(?:experiments|experimentids)/[^/]+/runs/([^/]+)/token")

_STATUS = {
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
    "NotStarted": "SCHEDULED",
} | dict.fromkeys(("Queued", "Preparing"), "SCHEDULED")
_OWN_STATUS: dict[str, Status] = {"FINISHED": "Completed", "FAILED": "Failed", "KILLED": "Canceled"}


def tracking_environment(workspace: Workspace, identity: Identity, run: Run) -> dict[str, str]:
    """What MLflow and azureml-mlflow find in the environment of a step; it wins over what the job asks for."""
    experiment, token = str(run.properties["experimentName"]), identity.run_token(run.name)
    return {
        "MLFLOW_TRACKING_URI": f"azureml://{workspace.api_host}/mlflow/v1.0{workspace.arm_id}?",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_RUN_ID": run.name,
        "MLFLOW_EXPERIMENT_ID": workspace.experiment_id(experiment),
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(int(time.time() + identity.lifetime_s)),
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"https://{workspace.api_host}/discovery",
    }


class Tracking:
    """Answers for the runs of one workspace, and for those that clients of MLflow make in it."""

    def __init__(self, workspace: Workspace, identity: Identity, runs: Runs) -> None:
        self._workspace, self._identity, self._runs = workspace, identity, runs
        self._made: dict[str, Run] = {}
        self._experiments: set[str] = set()
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], Callable[[Json], Json]] = {
            ("GET", "experiments/get"): self._experiment,
            ("GET", "experiments/get-by-name"): self._experiment,
            ("POST", "experiments/create"): self._create_experiment,
            ("GET", "runs/get"): lambda asked: {"run": self._body(self._find(asked))},
            ("POST", "runs/create"): self._create_run,
            ("POST", "runs/update"): self._update_run,
            ("POST", "runs/log-batch"): self._log,
            ("POST", "runs/log-metric"): lambda asked: self._log(_one(asked, "metrics")),
            ("POST", "runs/log-parameter"): lambda asked: self._log(_one(asked, "params")),
            ("POST", "runs/set-tag"): lambda asked: self._log(_one(asked, "tags")),
            ("GET", "metrics/get-history"): self._history,
        }

    def on_api_host(self, request: Request) -> Reply | None:
        """Answer a call of MLflow, or for a new token of a run; None for a request about anything else."""
        found = _CALL.fullmatch(request.path) or _TOKEN.fullmatch(request.path)
        if found is None:
            return None
        claims = self._identity.require(request, of_runs=True)
        if found[1].lower() != self._workspace.arm_id.lower():
            raise refused(404, "RESOURCE_DOES_NOT_EXIST", "The workspace was not found.")
        if found.re is _TOKEN:
            return self._new_token(found[2], claims)
        call = self._calls.get((request.method, found[2]))
        if call is None:
            raise refused(404, "ENDPOINT_NOT_FOUND", f"The twin has no {request.method} {found[2]} of MLflow.")
        asked = dict(request.query) if request.method == "GET" else request.json()
        with self._lock:
            self._check_scope(claims, str(asked.get("run_id") or asked.get("run_uuid") or ""))
            return Reply(body=call(asked))

    # Tokens of runs

    def _new_token(self, name: str, claims: Json) -> Reply:
        self._check_scope(claims, self._runs.find(name).name)
        until = datetime.fromtimestamp(time.time() + self._identity.lifetime_s).astimezone().isoformat()
        return Reply(body={"token": self._identity.run_token(name), "expiryTimeUtc": until})

    def _check_scope(self, claims: Json, name: str) -> None:
        """A step's token is good for its own pipeline."""
        holder, wanted = self._runs.get(str(claims.get("run_id"))), self._runs.get(name)
        if holder is not None and wanted is not None and holder.root is not wanted.root:
            raise refused(403, "PERMISSION_DENIED", f"The token of run {holder.name} is not good for run {name}.")

    # Experiments

    def _experiment(self, asked: Json) -> Json:
        """The experiment of that id, or of that name."""
        for name in {*self._experiments, *(str(run.properties["experimentName"]) for run in self._runs)}:
            found = {"experiment_id": self._workspace.experiment_id(name), "experiment_name": name}
            if found | asked == found:
                more = {"name": name, "artifact_location": "", "lifecycle_stage": "active"}
                return {"experiment": {"experiment_id": found["experiment_id"], **more}}
        raise refused(404, "RESOURCE_DOES_NOT_EXIST", f"Could not find the experiment {asked}.")

    def _create_experiment(self, asked: Json) -> Json:
        self._experiments.add(str(asked.get("name")))
        return {"experiment_id": self._workspace.experiment_id(str(asked.get("name")))}

    # Runs

    def _find(self, asked: Json) -> Run:
        name = str(asked.get("run_id") or asked.get("run_uuid"))
        found = self._made.get(name) or self._runs.get(name)
        if found is None:
            raise refused(404, "RESOURCE_DOES_NOT_EXIST", f"Run {name} was not found.")
        return found

    def _create_run(self, asked: Json) -> Json:
        experiment = self._experiment({"experiment_id": asked.get("experiment_id")})["experiment"]["name"]
        name = str(uuid.uuid4())
        run = Run(name, str(asked.get("run_name") or name), {"experimentName": experiment}, started=now())
        run.status = "Running"
        self._made[name] = run
        self._log({"run_id": name, "tags": asked.get("tags")})
        return {"run": self._body(run)}

    def _update_run(self, asked: Json) -> Json:
        """Name and status of a run that MLflow made are MLflow's to say; those of a job are the job's."""
        run = self._find(asked)
        if run.name in self._made:
            run.display_name = str(asked.get("run_name") or run.display_name)
            run.enter(_OWN_STATUS.get(str(asked.get("status")), "Running"))
        return {"run_info": self._body(run)["info"]}

    def _body(self, run: Run) -> Json:
        experiment = str(run.properties["experimentName"])
        tags = {"mlflow.runName": run.display_name, "mlflow.rootRunId": run.root.name}
        if run.parent is not None:
            tags["mlflow.parentRunId"] = run.parent.name
        info = {
            "run_uuid": run.name,
            "run_id": run.name,
            "run_name": run.display_name,
            "experiment_id": self._workspace.experiment_id(experiment),
            "user_id": "",
            "status": _STATUS.get(run.status, "RUNNING"),
            "start_time": _milliseconds(run.started or run.created),
            "artifact_uri": f"azureml://experiments/{experiment}/runs/{run.name}/artifacts",
            "lifecycle_stage": "active",
        }
        if run.ended:
            info["end_time"] = _milliseconds(run.ended)
        texts = {"params": run.parameters, "tags": tags | (run.properties.get("tags") or {})}
        data: Json = {
            kind: [{"key": key, "value": value} for key, value in found.items()] for kind, found in texts.items()
        }
        return {
            "info": info,
            "data": data | {"metrics": [_sent(rows[-1]) for rows in run.metrics.values()]},
            "inputs": {},
        }

    def _history(self, asked: Json) -> Json:
        return {"metrics": [_sent(row) for row in self._find(asked).metrics.get(str(asked.get("metric_key")), [])]}

    # What is logged

    def _log(self, asked: Json) -> Json:
        """All of a batch, or nothing of it."""
        run = self._find(asked)
        metrics, params, tags = (asked.get(kind) or [] for kind in ("metrics", "params", "tags"))
        check_batch(run, metrics, params, tags)
        for entry in metrics:
            times = {name: entry.get(name) for name in ("timestamp", "step")}
            row = {"key": entry["key"], "value": float(entry["value"]), **times}
            run.metrics.setdefault(entry["key"], []).append(row)
        run.parameters.update({entry["key"]: str(entry["value"]) for entry in params})
        run.properties["tags"] = (run.properties.get("tags") or {}) | {entry["key"]: entry["value"] for entry in tags}
        return {}


def _one(asked: Json, kind: str) -> Json:
    """The batch that a call for one entry is."""
    entry = {name: asked[name] for name in ("key", "value", "timestamp", "step") if name in asked}
    return {"run_id": asked.get("run_id") or asked.get("run_uuid"), kind: [entry]}


def _sent(row: Json) -> Json:
    """A value as protocol buffers have it in JSON: what is no number is a text."""
    return row if math.isfinite(row["value"]) else row | {"value": json.dumps(row["value"])}


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
