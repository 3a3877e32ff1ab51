"""Pipeline jobs as resources: received, checked as the service checks, answered, cancelled."""

from __future__ import annotations

from mmlu_pipe.rehearsal.assets import Assets
from mmlu_pipe.rehearsal.bindings import parent_output, referenced_steps
from mmlu_pipe.rehearsal.exchange import Json, Refusal, Reply, Request
from mmlu_pipe.rehearsal.executor import Executor
from mmlu_pipe.rehearsal.rules import NAME, check_job, check_node
from mmlu_pipe.rehearsal.runs import TERMINAL, Run, Runs
from mmlu_pipe.rehearsal.site import binding_text, compute_name
from mmlu_pipe.rehearsal.workspace import Workspace, system_data

__all__ = ["Jobs"]

_TYPE = "Microsoft.MachineLearningServices/workspaces/jobs"


class Jobs:
    """All jobs of one workspace."""

    def __init__(self, workspace: Workspace, assets: Assets, runs: Runs, executor: Executor) -> None:
        self._workspace, self._assets, self._runs, self._executor = workspace, assets, runs, executor

    def answer(self, request: Request, rest: list[str]) -> Reply:
        """Answer a request below `/jobs/`; `rest` are the parts of the path after it."""
        if not rest:
            return Reply(body={"value": [self._body(run) for run in self._runs], "nextLink": None})
        if len(rest) == 2 and rest[1] == "cancel" and request.method == "POST":
            return self._cancel(rest[0], request)
        if len(rest) > 1:
            raise Refusal(404, "UserError", f"There is no {request.path} here.")
        if request.method == "PUT":
            return self._create(rest[0], request)
        return Reply(body=self._body(self._runs.find(rest[0])))

    def _body(self, run: Run) -> Json:
        """A job as a resource. A step has no properties here: clients find them in run history."""
        body: Json = {"id": f"{self._workspace.arm_id}/jobs/{run.name}", "name": run.name, "type": _TYPE}
        if run.parent is None:
            body["properties"] = run.properties | {"status": run.status}
        return body | {"systemData": system_data(run.created)}

    def _create(self, name: str, request: Request) -> Reply:
        received = request.json().get("properties")
        if not isinstance(received, dict) or received.get("jobType") != "Pipeline":
            raise Refusal(400, "UserError", "The twin runs pipeline jobs only.")
        if not NAME.fullmatch(name):
            raise Refusal(400, "UserError", f"{name!r} is no name for a job.")
        if older := self._runs.get(name):
            changed = {key: received[key] for key in ("tags", "displayName", "description") if key in received}
            older.properties |= changed
            return Reply(200, self._body(older))
        self._check(received)
        run = Run(name, str(received.get("displayName") or name), self._answered(name, received))
        self._runs.add(run)
        body = self._body(run)
        self._executor.submit(run)
        return Reply(201, body)

    def _answered(self, name: str, received: Json) -> Json:
        link = f"https://ml.azure.com/runs/{name}?wsid=/{self._workspace.short_id}"
        tracking = f"azureml://{self._workspace.api_host}/mlflow/v1.0{self._workspace.arm_id}?"
        properties = {
            "azureml.DevPlatv2": "true",
            "azureml.runsource": "azureml.PipelineRun",
            "runSource": "MFE",
            "runType": "HTTP",
            "azureml.parameters": "{}",
            "azureml.continue_on_step_failure": "False",
            "azureml.pipelineComponent": "pipelinerun",
        }
        common: Json = {
            "description": None,
            "tags": {},
            "experimentName": "Default",
            "computeId": None,
            "componentId": None,
            "identity": None,
            "isArchived": False,
            "settings": {},
            "inputs": {},
            "outputs": {},
            "sourceJobId": None,
        }
        given = {key: value for key, value in received.items() if value is not None}
        own: Json = {
            "displayName": given.get("displayName") or name,
            "properties": properties | (given.get("properties") or {}),
            "services": {"Tracking": _service("Tracking", tracking), "Studio": _service("Studio", link)},
        }
        return common | given | own

    def _check(self, job: Json) -> None:
        """What the service refuses at once.

        Raises:
            Refusal: an unknown component, compute or data asset, a binding to nothing, or what `rules` names.
        """
        check_job(job)
        steps: Json = job.get("jobs") or {}
        if not steps:
            raise Refusal(400, "UserError", "The pipeline job has no steps.")
        for name, node in steps.items():
            if node.get("type") != "command":
                raise Refusal(400, "UserError", f"Step {name} is no command: the twin runs command components only.")
            component = self._assets.received("components", str(node.get("componentId")))
            check_node(name, node, component["componentSpec"])
            self._check_compute(compute_name(node, job))
            for key, binding in (node.get("inputs") or {}).items():
                for other in referenced_steps(binding_text(binding) or ""):
                    if other not in steps:
                        raise Refusal(400, "UserError", f"Input {key} of step {name} is bound to {other}, no step.")
                self._check_data(key, binding)
            for key, binding in (node.get("outputs") or {}).items():
                bound = parent_output(binding_text(binding))
                if bound and bound not in (job.get("outputs") or {}):
                    raise Refusal(400, "UserError", f"Output {key} of step {name} is bound to {bound}, no output.")
        for key, binding in (job.get("inputs") or {}).items():
            self._check_data(key, binding)
        if cycle := _cycle(steps):
            raise Refusal(400, "UserError", f"The steps {', '.join(sorted(cycle))} wait for each other.")

    def _check_compute(self, name: str) -> None:
        if name not in (*self._workspace.computes, "serverless"):
            raise Refusal(400, "UserError", f"Compute {name} was not found in workspace {self._workspace.name}.")

    def _check_data(self, key: str, binding: Json | None) -> None:
        text = binding_text(binding) or ""
        kind = str((binding or {}).get("jobInputType") or (binding or {}).get("job_input_type"))
        if kind.startswith("uri_") and "${{" not in text and "/data/" in text and "/datastores/" not in text:
            try:
                self._assets.received("data", text)
            except Refusal:
                raise Refusal(400, "UserError", f"Input {key}: the data asset {text} was not found.") from None

    def _cancel(self, name: str, request: Request) -> Reply:
        self._runs.find(name).cancel()
        place = f"locations/{self._workspace.location}/mfeOperationResults/jc:{self._workspace.workspace_id}:{name}"
        root = self._workspace.arm_id.partition("/resourceGroups/")[0]
        version = request.query.get("api-version", "")
        url = f"https://{request.host}{root}/providers/Microsoft.MachineLearningServices/{place}?api-version={version}"
        return Reply(202, None, {"Location": url, "Retry-After": "1"})

    def operation(self, name: str) -> Reply:
        """How far a cancellation is: 202 while under way, then 200."""
        found = self._runs.find(name.rpartition(":")[2])
        return Reply(200 if found.status in TERMINAL else 202, None, {"Retry-After": "1"})


def _service(kind: str, endpoint: str) -> Json:
    empty = dict.fromkeys(("port", "status", "errorMessage", "properties", "nodes"))
    return {"jobServiceType": kind, "endpoint": endpoint} | empty


def _cycle(steps: Json) -> set[str]:
    """The steps that can never start."""
    left = {
        name: {
            other
            for binding in (node.get("inputs") or {}).values()
            for other in referenced_steps(binding_text(binding) or "")
        }
        for name, node in steps.items()
    }
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    return set(left)
