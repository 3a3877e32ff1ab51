"""Run history and the data plane: what clients ask under `{location}.api.azureml.ms`."""

from __future__ import annotations

import re

from mmlu_pipe.rehearsal.exchange import Json, Refusal, Reply, Request
from mmlu_pipe.rehearsal.identity import Identity
from mmlu_pipe.rehearsal.runs import Output, Run, Runs
from mmlu_pipe.rehearsal.storage import BLOB_HOST, Azurite
from mmlu_pipe.rehearsal.workspace import ARTIFACT_STORE, TENANT, Workspace

__all__ = ["History"]

_OUTPUT_TYPES = {"uri_file": "UriFile", "uri_folder": "UriFolder", "mltable": "MLTable"}
"""Run history spells types otherwise than the resource manager does (azure-sdk-for-python#48941)."""

_RUN = re.compile(r"(?:/experiments/[^/]+)?/runs/([^/]+)(/details|/children|)")


class History:
    """Answers for the runs of one workspace."""

    def __init__(self, workspace: Workspace, identity: Identity, runs: Runs, storage: Azurite) -> None:
        self._workspace, self._identity, self._runs, self._storage = workspace, identity, runs, storage

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path.rstrip("/").endswith("/discovery"):
            base = f"https://{self._workspace.api_host}"
            names = ("api", "experimentation", "history", "hyperdrive", "catalog", "mlflow", "modelmanagement")
            return Reply(body=dict.fromkeys(names, base))
        self._identity.require(request)
        prefix, _, rest = request.path.partition(self._workspace.arm_id)
        if prefix == "/data/v1.0" and rest == "/dataversion/batchGetResolvedUris":
            return self._resolved_uris(request)
        if prefix == "/history/v1.0" and rest == "/rundata":
            return self._run_data(request)
        found = _RUN.fullmatch(rest) if prefix == "/history/v1.0" else None
        if found is None:
            raise Refusal(404, "NotFound", f"The twin has no {request.method} {request.path}.")
        run = self._runs.find(found[1])
        if request.method == "PATCH":
            return self._modify(run, request)
        if found[2] == "/details":
            return Reply(body=self._details(run))
        if found[2] == "/children":
            return Reply(body={"value": [self._run(child) for child in run.children]})
        return Reply(body=self._run(run))

    def _modify(self, run: Run, request: Request) -> Reply:
        body = request.json()
        for theirs, ours in (("displayName", "displayName"), ("description", "description"), ("hidden", "isArchived")):
            if body.get(theirs) is not None:
                run.properties[ours] = body[theirs]
        if isinstance(body.get("tags"), dict):
            run.properties["tags"] = (run.properties.get("tags") or {}) | body["tags"]
        return Reply(body=self._run(run))

    def _run(self, run: Run) -> Json:
        """One run; of a step and of a pipeline job alike."""
        who = {"userObjectId": TENANT, "userTenantId": TENANT, "userName": "Twin User", "upn": None}
        is_step = run.parent is not None
        tags = {"azureml.pipeline": run.root.name} if is_step else {}
        properties = self._step_properties(run) if is_step else run.properties["properties"]
        kind = "azureml.StepRun" if is_step else "azureml.PipelineRun"
        return {
            "runId": run.name,
            "rootRunId": run.root.name,
            "parentRunId": run.parent.name if run.parent else None,
            "experimentId": self._workspace.experiment_id(str(run.properties["experimentName"])),
            "displayName": run.properties.get("displayName") or run.display_name,
            "name": run.properties.get("moduleName"),
            "description": run.properties.get("description"),
            "status": run.status,
            "error": run.error,
            "warnings": None,
            "createdUtc": run.created,
            "startTimeUtc": run.started,
            "endTimeUtc": run.ended,
            "lastModifiedUtc": run.ended or run.started or run.created,
            "createdBy": who,
            "lastModifiedBy": who,
            "userId": TENANT,
            "dataContainerId": f"dcid.{run.name}",
            "hidden": bool(run.properties.get("isArchived")),
            "runType": kind,
            "runTypeV2": {"orchestrator": None, "traits": [kind], "attribution": None, "computeType": None},
            "properties": properties,
            "parameters": {},
            "actionUris": {},
            "target": run.properties.get("target"),
            "uniqueChildRunComputeTargets": [],
            "tags": tags | (run.properties.get("tags") or {}),
            "settings": {},
            "services": {},
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": None,
            "jobSpecification": None,
            "inputs": None,
            "outputs": None,
        }

    def _step_properties(self, run: Run) -> Json:
        return {
            "azureml.DevPlatv2": "true",
            "azureml.runsource": "azureml.StepRun",
            "azureml.pipelinerunid": run.root.name,
            "azureml.pipeline": run.root.name,
            "azureml.moduleName": run.properties["moduleName"],
            "azureml.moduleid": run.properties["moduleId"],
            "StepType": "PythonScriptStep",
            "ComputeTargetType": "AmlCompute",
            "azureml.pipelineComponent": "masterescloud",
        }

    def _details(self, run: Run) -> Json:
        """Status, error and logs; the links let their holder read one log for some hours."""
        container = self._workspace.containers[ARTIFACT_STORE]
        signature = self._storage.container_sas(container, "r", 8 * 3600)
        logs = {path: f"https://{BLOB_HOST}/{container}/{name}?{signature}" for path, name in run.logs.items()}
        return {
            "runId": run.name,
            "target": run.properties.get("target"),
            "status": run.status,
            "startTimeUtc": run.started,
            "endTimeUtc": run.ended,
            "error": run.error,
            "warnings": [],
            "properties": self._step_properties(run) if run.parent else run.properties["properties"],
            "parameters": {},
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": None,
            "logFiles": logs,
            "revision": 1,
            "submittedBy": "Twin User",
        }

    def _run_data(self, request: Request) -> Reply:
        run = self._runs.find(str(request.json().get("runId")))
        outputs = {
            name: {"assetId": output.asset_id, "type": _OUTPUT_TYPES[output.data_type]}
            for name, output in run.outputs.items()
        }
        metadata = self._run(run) | {"inputs": {}, "outputs": outputs}
        body = {"runMetadata": metadata, "runDefinition": None, "jobSpecification": None, "systemSettings": None}
        return Reply(body=body)

    def _resolved_uris(self, request: Request) -> Reply:
        known = {output.asset_id: output for output in self._all_outputs()}
        values = {
            asset_id: {"uri": known[asset_id].uri, "type": _OUTPUT_TYPES[known[asset_id].data_type]}
            | {"legacyDatasetType": None}
            for asset_id in request.json().get("values") or []
            if asset_id in known
        }
        return Reply(body={"values": values})

    def _all_outputs(self) -> list[Output]:
        return [output for run in self._runs for one in (run, *run.children) for output in list(one.outputs.values())]
