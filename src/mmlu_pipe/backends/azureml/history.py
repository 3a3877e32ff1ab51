"""How a job and its steps stand, asked over REST: what the SDK answers to that differs between its versions.

Source of the requests: Azure REST API reference, "Azure Machine Learning: Jobs - Get" and "- Cancel"; for run history,
what azure-ai-ml itself sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from mmlu_pipe.backends.azureml.clouds import current_cloud
from mmlu_pipe.backends.azureml.failures import translated
from mmlu_pipe.backends.base import Status
from mmlu_pipe.errors import WorkspaceRejected
from mmlu_pipe.records import JsonObject

if TYPE_CHECKING:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient

__all__ = ["JobState", "RunHistory", "StepState"]

_API_VERSION = "2024-04-01"
_PATIENCE_S = 20
"""Seconds for one request with its retries."""

_ENDED: Mapping[str, Status] = {"Completed": "completed", "Failed": "failed", "Canceled": "cancelled"}
"""Every other state may still become one of these."""

_LOGS = (
    re.compile(r"user_logs/std_log\D*0*(_ps)?\.txt"),
    re.compile(r"user_logs/.+\.txt"),
    re.compile(r"(azureml-)?logs/.*image_build.*\.(txt|log)"),
    re.compile(r"azureml-logs/.+\.txt"),
)
"""Where a step's own words are, the best first; an image that is not built leaves nothing but its own log."""


@dataclass(frozen=True)
class StepState:
    """One step of a job.

    Attributes:
        name: its name in the pipeline.
        run_id: its own name in run history.
        status: how it stands.
        service_status: the same in the service's words, such as `Preparing`.
        error: the service's message, where it failed.
        log_name: path of the log that tells most; None where there is none yet.
        log_url: where it can be read for some hours, without further credentials.
    """

    name: str
    run_id: str
    status: Status
    service_status: str
    error: str | None = None
    log_name: str | None = None
    log_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class JobState:
    """A pipeline job.

    Attributes:
        name: its name.
        status: how it stands.
        service_status: the same in the service's words.
        steps: in the order in which they were created.
        created: when it was created, in UTC.
        error: the service's message, where it failed.
        studio_url: its page in the studio; for terminals only, since it names the workspace.
        outputs: port → the URI at which the job leaves it.
        resource: the job as it was submitted.
    """

    name: str
    status: Status
    service_status: str
    steps: tuple[StepState, ...]
    created: str
    error: str | None
    studio_url: str | None = field(repr=False)
    outputs: Mapping[str, str] = field(repr=False)
    resource: JsonObject = field(repr=False)


class RunHistory:
    """The jobs of a workspace; use it in a `with` block."""

    def __init__(self, client: WorkspaceClient) -> None:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy

        def pipeline(audience: str = "") -> PipelineClient[Any, Any]:
            policies: list[Any] = [RetryPolicy(retry_total=3, timeout=_PATIENCE_S)]
            if audience:
                policies.append(BearerTokenCredentialPolicy(client.credential, f"{audience}/.default"))
            return PipelineClient("", policies=policies, connection_timeout=10, read_timeout=_PATIENCE_S)

        cloud = current_cloud()
        self._config, self._workspace = client.config, f"{cloud.manager}{client.config.arm_id}"
        self._manager, self._service = pipeline(cloud.manager), pipeline(cloud.service)
        self._open = pipeline()  # links that hold a signature must not get a token as well
        self._history = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipeline in (self._manager, self._service, self._open):
            pipeline.close()

    def state(self, job_name: str) -> JobState:
        """How a job stands at this moment.

        Raises:
            WorkspaceRejected: there is no such job, or it may not be seen.
            WorkspaceUnavailable: the service cannot be reached.
            AuthenticationFailed: there is no login.
        """
        with translated(f"look up job {job_name}"):
            answer = self._send(self._manager, "GET", self._job_url(job_name))
            if answer.status_code == 404:
                raise self._unknown(job_name)
            body = _json(answer)
            resource: JsonObject = body.get("properties") or {}
            children = self._ask(f"runs/{quote(job_name, safe='')}/children").get("value") or []
            children.sort(key=lambda run: str(run.get("createdUtc")))
            steps = tuple(self._step(run) for run in children)
            told = str(resource.get("status"))
            status = _ENDED.get(told, "running")
            error = None
            if status == "failed":
                error = _message(self._ask(f"runs/{quote(job_name, safe='')}/details").get("error"))
        studio = (resource.get("services") or {}).get("Studio") or {}
        outputs = {
            port: str(output["uri"]) for port, output in (resource.get("outputs") or {}).items() if output.get("uri")
        }
        created = str((body.get("systemData") or {}).get("createdAt"))
        return JobState(job_name, status, told, steps, created, error, studio.get("endpoint"), outputs, resource)

    def cancel(self, job_name: str) -> None:
        """Ask for the end of a job; one that has ended stays as it is.

        Raises:
            MmluPipeError: as `state`.
        """
        with translated(f"cancel job {job_name}"):
            answer = self._send(self._manager, "POST", self._job_url(job_name, "/cancel"))
            if answer.status_code == 404:
                raise self._unknown(job_name)
            answer.raise_for_status()

    def read_log(self, url: str, start: int, length: int) -> tuple[bytes, int] | None:
        """Bytes of a log from `start` on, and how long it is now; None where it cannot be read at the moment."""
        from azure.core.exceptions import AzureError

        try:
            answer = self._send(self._open, "GET", url, Range=f"bytes={start}-{start + length - 1}")
        except AzureError:
            return None
        size = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
        if answer.status_code == 206:
            return answer.content, int(size[1]) if size else start + len(answer.content)
        if answer.status_code == 200:
            return answer.content[start : start + length], len(answer.content)
        return (b"", int(size[1]) if size else 0) if answer.status_code == 416 else None

    def _step(self, run: JsonObject) -> StepState:
        run_id, told = str(run["runId"]), str(run.get("status"))
        details = {} if told == "NotStarted" else self._ask(f"runs/{quote(run_id, safe='')}/details")
        logs: Mapping[str, str] = details.get("logFiles") or {}
        best = next((path for pattern in _LOGS for path in sorted(logs) if pattern.fullmatch(path)), None)
        name = str(run.get("displayName") or run.get("name") or run_id)
        error = _message(details.get("error") or run.get("error"))
        return StepState(name, run_id, _ENDED.get(told, "running"), told, error, best, logs[best] if best else None)

    def _job_url(self, job_name: str, action: str = "") -> str:
        return f"{self._workspace}/jobs/{quote(job_name, safe='')}{action}?api-version={_API_VERSION}"

    def _ask(self, path: str) -> JsonObject:
        if not self._history:
            workspace = _json(self._send(self._manager, "GET", f"{self._workspace}?api-version={_API_VERSION}"))
            discovery = workspace["properties"]["discoveryUrl"]
            host = _json(self._send(self._open, "GET", str(discovery)))["api"]
            self._history = f"{str(host).rstrip('/')}/history/v1.0{self._config.arm_id}"
        answer = self._send(self._service, "GET", f"{self._history}/{path}")
        return {} if answer.status_code == 404 else _json(answer)  # run history may hear of a run some seconds later

    def _send(self, pipeline: Any, method: str, url: str, **headers: str) -> Any:
        """Send a request; an answer of 401 once more, since the token may just have expired."""
        from azure.core.rest import HttpRequest

        for _ in range(2):
            answer = pipeline.send_request(HttpRequest(method, url, headers=headers))
            if answer.status_code != 401:
                break
        return answer

    def _unknown(self, job_name: str) -> WorkspaceRejected:
        return WorkspaceRejected(
            f"job {job_name}: is not in {self._config.shown}; check the name, or name another workspace's file with "
            "--workspace-config",
            status=404,
        )


def _json(answer: Any) -> JsonObject:
    answer.raise_for_status()
    found: JsonObject = answer.json()
    return found


def _message(error: Any) -> str | None:
    """The innermost words of an error in run history's shape."""
    text = ((error or {}).get("error") or error or {}).get("message")
    return None if text is None else " ".join(str(text).split())
