"""The way into a workspace: who is let in, and how soon one knows that nobody is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmlu_pipe.rehearsal import Twin, cut, expired_token, server_error, too_many_requests
from mmlu_pipe.rehearsal.faults import Fault
from tests.backends.azureml.conftest import Failed, InFork

REACH = "tests.backends.azureml.tasks_client:reach"
REACH_REGISTRY = "tests.backends.azureml.tasks_client:reach_registry"
SHOWN = "workspace twin (resource group rehearsal, subscription …0001)"


def test_a_workspace_that_is_there_is_reached_with_one_request_to_it(twin: Twin, in_fork: InFork) -> None:
    assert in_fork(twin, REACH) == SHOWN
    assert [kept.route for kept in twin.requests if kept.host == "management.azure.com"] == ["workspace"]


def test_a_registry_is_found_by_its_name(twin: Twin, in_fork: InFork) -> None:
    assert in_fork(twin, REACH_REGISTRY, name="twin-registry") == "registry twin-registry"
    with pytest.raises(Failed, match="cannot look up the registry nowhere") as failed:
        in_fork(twin, REACH_REGISTRY, name="nowhere")
    assert failed.value.type == "WorkspaceRejected"


def test_a_workspace_that_is_not_there_is_refused_and_the_key_is_named(twin: Twin, in_fork: InFork) -> None:
    with pytest.raises(Failed, match="check 'workspace_name' in the file that --workspace-config names") as failed:
        in_fork(twin, REACH, workspace_name="nowhere")
    assert (failed.value.type, failed.value.attributes["status"]) == ("WorkspaceRejected", 404)


def test_a_wrong_secret_is_told_in_the_words_of_the_login_service(twin: Twin, in_fork: InFork) -> None:
    with pytest.raises(Failed, match=r"AADSTS7000215: Invalid client secret provided\n  run `az login`") as failed:
        in_fork(twin, REACH, more={"AZURE_CLIENT_SECRET": "wrong"})
    assert failed.value.type == "AuthenticationFailed"


def test_an_empty_secret_is_no_traceback(twin: Twin, in_fork: InFork) -> None:
    with pytest.raises(Failed, match=r"the AZURE_\* variables of the environment cannot be used") as failed:
        in_fork(twin, REACH, more={"AZURE_CLIENT_SECRET": ""})
    assert failed.value.type == "AuthenticationFailed"


@pytest.mark.parametrize("fault", [server_error, too_many_requests, cut])
@pytest.mark.parametrize(("method", "route"), [("GET", "workspace"), ("POST", "*/oauth2/v2.0/token")])
def test_what_passes_is_not_noticed_and_what_stays_is_told(
    twin: Twin, in_fork: InFork, fault: object, method: str, route: str
) -> None:
    twin.faults.add(fault(method, route, 1))  # type: ignore[operator]
    assert in_fork(twin, REACH, hurry=True) == SHOWN
    twin.faults.clear()
    twin.faults.add(fault(method, route, None))  # type: ignore[operator]
    with pytest.raises(Failed, match=f"cannot look up {SHOWN[:14]}") as failed:
        in_fork(twin, REACH, hurry=True)
    assert failed.value.type == "WorkspaceUnavailable"


def test_a_token_that_is_refused_asks_for_a_login(twin: Twin, in_fork: InFork) -> None:
    fault: Fault = expired_token("GET", "workspace", None)
    twin.faults.add(fault)
    with pytest.raises(Failed, match="run `az login`") as failed:
        in_fork(twin, REACH)
    assert failed.value.type == "AuthenticationFailed"


def _dead_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def _in_new_process(proxy: str, tmp_path: Path, **more: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    script = (
        "import sys\n"
        "from mmlu_pipe.backends.azureml.client import connect\n"
        "from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig\n"
        "from mmlu_pipe.errors import MmluPipeError\n"
        "try:\n"
        "    connect(WorkspaceConfig('00000000-0000-4000-8000-000000000001', 'g', 'w'))\n"
        "except MmluPipeError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "MSI_", "IDENTITY_"))}
    network = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), proxy)
    home = {"HOME": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=kept | network | home | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return time.monotonic() - begun, done


PRINCIPAL = {
    "AZURE_TENANT_ID": "00000000-0000-4000-8000-00000000000a",
    "AZURE_CLIENT_ID": "00000000-0000-4000-8000-00000000000b",
    "AZURE_CLIENT_SECRET": "none",
}


@pytest.mark.usefixtures("in_fork")
@pytest.mark.parametrize("where", ["dead port", "no such host", "black hole"])
def test_an_azure_that_cannot_be_reached_is_known_in_half_a_minute_with_advice(where: str, tmp_path: Path) -> None:
    with socket.socket() as listener:  # a black hole: connections are taken and never answered
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        hole = f"http://127.0.0.1:{listener.getsockname()[1]}"
        proxy = {"dead port": _dead_port(), "no such host": "http://no.such.host.invalid:9", "black hole": hole}[where]
        took, done = _in_new_process(proxy, tmp_path, **PRINCIPAL)
    assert done.stdout.startswith("WorkspaceUnavailable cannot look up workspace w"), done.stderr
    assert "check the network, HTTPS_PROXY" in done.stdout
    assert done.stderr == ""
    assert took < 60  # 30 on an idle machine


@pytest.mark.usefixtures("in_fork")
def test_who_is_not_logged_in_is_told_to_and_sees_nothing_else(tmp_path: Path) -> None:
    _, done = _in_new_process(_dead_port(), tmp_path, PATH=str(tmp_path))
    assert done.stdout.startswith("AuthenticationFailed cannot look up workspace w"), done.stderr
    assert "nobody is logged in\n  run `az login`" in done.stdout
    assert done.stderr == ""


def test_a_client_shows_neither_subscription_nor_credential() -> None:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient
    from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig

    config = WorkspaceConfig("00000000-0000-4000-8000-000000000001", "rehearsal", "twin")
    client = WorkspaceClient(config, ml="secret", credential="secret")
    assert "secret" not in repr(client)
    assert "00000000-" not in repr(client)
    assert client.shown == SHOWN


def test_without_the_extra_the_error_has_the_command() -> None:
    script = (
        "import sys\n"
        "sys.modules['azure.ai.ml'] = None\n"
        "from mmlu_pipe.backends.azureml.client import connect_registry\n"
        "from mmlu_pipe.errors import BackendNotInstalled\n"
        "try:\n"
        "    connect_registry('r')\n"
        "except BackendNotInstalled as error:\n"
        "    print(error.extra, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("azureml the AzureML SDK cannot be loaded")
    assert 'pip install "mmlu-pipe[azureml]"' in done.stdout
