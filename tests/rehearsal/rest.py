"""The twin's REST interface, asked through the front door without any SDK."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from mmlu_pipe.rehearsal import Run, Twin


def ask(
    twin: Twin, url: str, method: str = "GET", token: str | None = "", body: Any = None, **headers: str
) -> tuple[int, Any]:
    """Ask through the front door, trusting the twin's authority alone."""
    environment = twin.environment()
    proxy = {"http": environment["HTTP_PROXY"], "https": environment["HTTPS_PROXY"]}
    context = ssl.create_default_context(cafile=environment["SSL_CERT_FILE"])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(proxy), urllib.request.HTTPSHandler(context=context)
    )
    if token == "":
        token = twin.identity.issue("https://management.azure.com", "tester")
    given = {"Content-Type": "application/json", **headers} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, given, method=method)
    try:
        with opener.open(request, timeout=30) as response:
            status, content = response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, content = error.code, error.read()
    try:
        return status, json.loads(content or b"null")
    except ValueError:
        return status, content


def workspace_url(twin: Twin, path: str = "") -> str:
    return f"https://management.azure.com{twin.workspace.arm_id}{path}?api-version=2024-04-01"


def component(twin: Twin, name: str, command: str, inputs: dict[str, Any] | None = None, outputs: Any = None) -> str:
    """Register a command component without code; its id."""
    ask(twin, workspace_url(twin, "/environments/e/versions/1"), "PUT", body={"properties": {"image": "i"}})
    spec = {"command": command, "environment": "azureml:e:1", "inputs": inputs or {}, "outputs": outputs or {}}
    url = workspace_url(twin, f"/components/{name}/versions/1")
    status, body = ask(twin, url, "PUT", body={"properties": {"componentSpec": spec}})
    assert status == 201, body
    return str(body["id"])


def node(component_id: str, inputs: dict[str, str] | None = None, outputs: dict[str, Any] | None = None) -> Any:
    """A step of a pipeline job."""
    bound = {name: {"job_input_type": "literal", "value": value} for name, value in (inputs or {}).items()}
    return {"type": "command", "componentId": component_id, "inputs": bound, "outputs": outputs or {}}


def submit(twin: Twin, steps: dict[str, Any], **properties: Any) -> Run:
    """Submit a pipeline job; its state."""
    body = {"properties": {"jobType": "Pipeline", "experimentName": "e", "jobs": steps, **properties}}
    status, answer = ask(twin, workspace_url(twin, "/jobs/a-job"), "PUT", body=body)
    assert status == 201, answer
    return twin.job("a-job")


def text_of(twin: Twin, run: Run, name: str) -> str:
    """The text of a `uri_file` output, or of the log if `name` is `log`, read with the account's own signature."""
    _, details = ask(
        twin, f"https://{twin.workspace.api_host}/history/v1.0{twin.workspace.arm_id}/runs/{run.name}/details"
    )
    if name == "log":
        url = details["logFiles"]["user_logs/std_log.txt"]
    else:
        _, secrets = ask(twin, workspace_url(twin, "/datastores/workspaceblobstore/listSecrets"), "POST")
        path = run.outputs[name].uri.partition("/paths/")[2]
        container = twin.workspace.containers["workspaceblobstore"]
        url = f"https://mmlupiperehearsal.blob.core.windows.net/{container}/{path}?{secrets['sasToken']}"
    status, content = ask(twin, url, token=None)
    assert status == 200, content
    return content.decode() if isinstance(content, bytes) else json.dumps(content)
