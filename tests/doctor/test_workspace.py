"""What the doctor says of a workspace, asked of the twin with the unmodified SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.rehearsal import Azurite, Fault, Twin, Workspace
from mmlu_pipe.rehearsal.exchange import Reply
from mmlu_pipe.rehearsal.workspace import TENANT
from tests.backends.azureml.conftest import InFork
from tests.servers.aoai import AoaiServer

Json = dict[str, Any]
Examine = Callable[..., Json]
MakeTwin = Callable[..., Twin]
WriteConfig = Callable[..., Path]

HOST = "my-resource.openai.azure.com"
PRINCIPAL = ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID")
CLIENT_ID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def examine(in_fork: InFork, tmp_path: Path) -> Examine:
    def run(twin: Twin, more: dict[str, str] | None = None, **options: Any) -> Json:
        found: Json = in_fork(twin, "tests.doctor.tasks:examine", more=more, folder=str(tmp_path), **options)
        return found

    return run


@pytest.fixture
def other_config(write_config: WriteConfig) -> str:
    return str(write_config(f"https://{HOST}", aoai_compute="cpu-cluster", general_compute="serverless"))


def check(found: Json, name: str) -> Json:
    one: Json
    (one,) = (check for check in found["checks"] if check["name"] == name)
    return one


def states(found: Json) -> dict[str, str]:
    return {check["name"]: check["state"] for check in found["checks"]}


def with_identity(twin: Twin, identity: Json | None, **properties: Any) -> None:
    """From now on the clusters have this identity."""
    body = twin.workspace.compute_body("cpu-cluster")
    body["properties"] |= properties
    twin.faults.add(Fault("GET", "computes/*", Reply(body=body | {"identity": identity}), times=None))


def port(server: AoaiServer) -> int:
    return int(server.endpoint.rpartition(":")[2])


@pytest.mark.parametrize("kind", ["Sas", "AccountKey", "None"])
def test_a_workspace_in_order_passes_and_nothing_is_left_in_it(
    make_twin: MakeTwin, examine: Examine, other_config: str, azurite: Azurite, kind: Any
) -> None:
    with AoaiServer(bearer=lambda token: token.startswith("eyJ")) as server:
        twin = make_twin(workspace=Workspace(credential_kind=kind), doors={HOST: port(server)})
        with_identity(twin, {"type": "SystemAssigned"})
        found = examine(twin, other_config=other_config)
    assert found["ok"]
    assert set(states(found).values()) == {"ok"}
    assert [check["name"] for check in found["checks"]] == [
        *("endpoint file", "workspace file", "compute names", "packages", "credential"),
        *("login", "ARM token", "AzureML token", "storage token", "endpoint token"),
        *("endpoint reached", "deployment", "served model", "structured outputs", "logprobs"),
        *("workspace", "aoai_compute", "general_compute", "job identity", "datastore", "storage write"),
    ]
    assert check(found, "login")["found"] == f"EnvironmentCredential, tenant …{TENANT[-4:]}"
    assert check(found, "workspace")["found"] == "twin in eastus2"
    assert "0 to 4 nodes" in check(found, "aoai_compute")["found"]
    assert "waits" in check(found, "aoai_compute")["advice"]
    container = twin.workspace.containers["workspaceblobstore"]
    assert list(azurite.names(container)) == []
    changed = [(kept.method, kept.route) for kept in twin.requests if kept.method not in ("GET", "HEAD", "POST")]
    assert changed == [("PUT", "blob/*/*"), ("DELETE", "blob/*/*")]


def test_nothing_secret_is_in_the_result(make_twin: MakeTwin, examine: Examine, other_config: str) -> None:
    with AoaiServer(bearer=lambda _token: False) as server:
        twin = make_twin(doors={HOST: port(server)})
        twin.faults.add(Fault("PUT", "blob/*/*", refusal(403, "AuthorizationFailure"), times=None))
        text = json.dumps(examine(twin, other_config=other_config, identity=CLIENT_ID))
    secrets = (twin.identity.client_secret, TENANT, twin.workspace.subscription_id, CLIENT_ID, "eyJ", "sig=")
    assert [secret for secret in secrets if secret in text] == []


def refusal(status: int, code: str) -> Reply:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>It is not permitted.</Message></Error>"
    return Reply(status, body.encode(), {"content-type": "application/xml", "x-ms-error-code": code})


def test_a_write_that_is_refused_names_the_role(make_twin: MakeTwin, examine: Examine) -> None:
    twin = make_twin(workspace=Workspace(credential_kind="None"))
    twin.faults.add(Fault("PUT", "blob/*/*", refusal(403, "AuthorizationPermissionMismatch"), times=None))
    found = examine(twin)
    assert not found["ok"]
    assert check(found, "storage write")["state"] == "failed"
    assert "Storage Blob Data Contributor" in check(found, "storage write")["advice"]
    assert states(found)["datastore"] == "ok"


def test_a_blob_that_cannot_be_deleted_is_a_warning_that_names_it(twin: Twin, examine: Examine) -> None:
    twin.faults.add(Fault("DELETE", "blob/*/*", refusal(403, "AuthorizationPermissionMismatch"), times=None))
    one = check(examine(twin), "storage write")
    assert one["state"] == "warning"
    assert "mmlu_pipe/doctor/" in one["advice"]


def test_a_compute_that_is_not_there_names_the_key_the_file_and_those_that_are(
    twin: Twin, examine: Examine, write_config: WriteConfig
) -> None:
    path = write_config("http://127.0.0.1:9", aoai_compute="cpu-cluster", general_compute="gone")
    found = examine(twin, other_config=str(path), auth="key")
    one = check(found, "general_compute")
    assert one["state"] == "failed"
    assert f'set "general_compute" in {path} to one of: cpu-cluster, serverless' in one["advice"]
    assert states(found)["aoai_compute"] == states(found)["storage write"] == "ok"


def test_a_compute_that_failed_is_a_failure(twin: Twin, examine: Examine, other_config: str) -> None:
    with_identity(twin, None, provisioningState="Failed")
    found = examine(twin, other_config=other_config, auth="key")
    assert check(found, "aoai_compute")["state"] == "failed"
    assert states(found)["job identity"] == "skipped"


def test_without_the_second_file_the_computes_are_not_checked(twin: Twin, examine: Examine) -> None:
    found = examine(twin)
    assert found["ok"]
    assert check(found, "computes")["found"] == "not checked: give --other-config FILE"
    assert "endpoint token" not in states(found)


def test_a_workspace_that_does_not_exist_names_the_key(twin: Twin, examine: Examine) -> None:
    found = examine(twin, changed={"workspace_name": "other"})
    assert check(found, "workspace")["state"] == "failed"
    assert "'workspace_name'" in check(found, "workspace")["advice"]
    assert states(found)["storage write"] == "skipped"


@pytest.mark.parametrize("value", ["", "<subscription>", "no-guid"])
def test_a_configuration_that_cannot_be_used_names_its_key_and_the_login_is_still_checked(
    twin: Twin, examine: Examine, value: str
) -> None:
    found = examine(twin, changed={"subscription_id": value})
    one = check(found, "workspace file")
    assert one["state"] == "failed"
    assert "'subscription_id'" in one["found"]
    assert states(found)["ARM token"] == "ok"
    assert states(found)["workspace"] == "skipped"


def test_a_token_past_its_time_points_to_the_login(twin: Twin, examine: Examine) -> None:
    twin.identity.lifetime_s = -30
    found = examine(twin)
    assert check(found, "ARM token")["state"] == "failed"
    assert "clock" in check(found, "ARM token")["advice"]


def test_a_token_that_the_service_calls_expired_points_to_the_login(twin: Twin, examine: Examine) -> None:
    body = {"error": {"code": "ExpiredAuthenticationToken", "message": "The access token expired."}}
    twin.faults.add(Fault("GET", "workspace", Reply(401, body), times=None))
    one = check(examine(twin), "workspace")
    assert one["state"] == "failed"
    assert "az login" in one["advice"]


def test_a_secret_that_is_refused_is_told_in_the_words_of_entra_without_the_secret(
    twin: Twin, examine: Examine
) -> None:
    found = examine(twin, more={"AZURE_CLIENT_SECRET": "a-wrong-secret"})
    one = check(found, "login")
    assert one["state"] == "failed"
    assert "AADSTS7000215" in one["found"]
    assert "a-wrong-secret" not in json.dumps(found)
    assert states(found)["workspace"] == "skipped"


def test_variables_of_a_service_principal_that_cannot_be_used_are_told(twin: Twin, examine: Examine) -> None:
    one = check(examine(twin, more={"AZURE_TENANT_ID": "no tenant"}), "login")
    assert (one["state"], "AZURE_TENANT_ID" in one["advice"]) == ("failed", True)


def test_which_credential_answered_is_told(twin: Twin, examine: Examine) -> None:
    found = examine(twin, without=PRINCIPAL)
    assert check(found, "login")["found"].startswith("ManagedIdentityCredential")


def test_nobody_logged_in_is_told_with_what_to_do(twin: Twin, examine: Examine) -> None:
    no_machine = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:9", "PATH": ""}
    found = examine(twin, more=no_machine, without=PRINCIPAL)
    one = check(found, "login")
    assert (one["state"], "az login" in one["advice"]) == ("failed", True)


def test_a_network_without_azure_fails_in_time_with_advice(twin: Twin, examine: Examine) -> None:
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    found = examine(twin, more=nowhere)
    one = check(found, "login")
    assert one["state"] == "failed"
    assert "HTTPS_PROXY" in one["advice"]
    assert found["seconds"] < 60


def test_a_token_for_another_audience_is_a_failure(twin: Twin, examine: Examine) -> None:
    other = twin.identity.issue("https://graph.microsoft.com", "somebody")
    answer = Reply(body={"access_token": other, "expires_in": 3600, "token_type": "Bearer"})
    twin.faults.add(Fault("POST", "*/oauth2/v2.0/token", answer, times=None))
    one = check(examine(twin), "AzureML token")
    assert one["state"] == "failed"
    assert one["found"] == "it is for https://graph.microsoft.com, not for https://ml.azure.com"


@pytest.mark.parametrize("answer", [False, 403], ids=["401", "403"])
def test_a_login_that_the_endpoint_refuses_names_the_role(
    make_twin: MakeTwin, examine: Examine, other_config: str, answer: bool | int
) -> None:
    with AoaiServer(bearer=lambda _token: answer) as server:
        found = examine(make_twin(doors={HOST: port(server)}), other_config=other_config)
    one = check(found, "deployment")
    assert one["state"] == "failed"
    assert "Cognitive Services OpenAI User" in one["advice"]
    assert states(found)["storage write"] == "ok"


def test_a_workspace_whose_computes_may_not_be_read_names_the_role(
    twin: Twin, examine: Examine, other_config: str
) -> None:
    body = {"error": {"code": "AuthorizationFailed", "message": "The client does not have authorization."}}
    twin.faults.add(Fault("GET", "computes/*", Reply(403, body), times=None))
    one = check(examine(twin, other_config=other_config, auth="key"), "aoai_compute")
    assert "AzureML Data Scientist" in one["advice"]


# As whom the job asks


def assigned(*client_ids: str | None) -> Json:
    group = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    return {
        "type": "UserAssigned",
        "userAssignedIdentities": {
            f"{group}/i{number}": {"principalId": CLIENT_ID} | ({"clientId": client_id} if client_id else {})
            for number, client_id in enumerate(client_ids)
        },
    }


@pytest.mark.parametrize(
    ("identity", "of_cluster", "state", "says"),
    [
        ("managed", None, "failed", "no managed identity"),
        ("managed", {"type": "SystemAssigned"}, "ok", "system-assigned"),
        ("managed", assigned(CLIENT_ID), "ok", "1 user-assigned"),
        (CLIENT_ID, assigned(CLIENT_ID.upper()), "ok", "…5555 is among"),
        (CLIENT_ID, assigned("99999999-2222-4333-8444-999999999999"), "failed", "…5555 is not among"),
        (CLIENT_ID, {"type": "SystemAssigned"}, "failed", "…5555 is not among"),
        (CLIENT_ID, assigned(None), "warning", "cannot be read"),
        ("user", None, "ok", "on your behalf"),
    ],
)
def test_the_identity_of_the_job_is_compared_with_those_of_the_cluster(
    twin: Twin, in_fork: InFork, identity: str, of_cluster: Json | None, state: str, says: str
) -> None:
    with_identity(twin, of_cluster)
    one = in_fork(twin, "tests.doctor.tasks:job_identity", identity=identity)
    assert one["state"] == state
    assert says in one["found"]
    assert "Cognitive Services OpenAI User" in one["advice"] or "…9999" in one["advice"] or "none" in one["advice"]


def test_the_identity_of_serverless_compute_is_not_checked(
    twin: Twin, examine: Examine, write_config: WriteConfig
) -> None:
    path = write_config(f"https://{HOST}", aoai_compute="azureml:serverless", general_compute="serverless")
    found = examine(twin, other_config=str(path), auth="key")
    assert states(found)["aoai_compute"] == "ok"
    assert states(found)["job identity"] == "skipped"


def test_a_job_that_asks_on_behalf_of_a_person_needs_their_token_for_the_endpoint(
    twin: Twin, examine: Examine, other_config: str
) -> None:
    found = examine(twin, more={"AZURE_OPENAI_API_KEY": "a-key"}, other_config=other_config, identity="user")
    assert check(found, "endpoint token")["found"] == "for https://cognitiveservices.azure.com"


def test_every_failure_says_what_to_do(twin: Twin, examine: Examine, write_config: WriteConfig) -> None:
    path = write_config(f"https://{HOST}", aoai_compute="gone", general_compute="gone")
    found = examine(twin, other_config=str(path), more={"AZURE_OPENAI_API_KEY": "a-key"})
    failed = [check for check in found["checks"] if check["state"] == "failed"]
    assert {check["name"] for check in failed} == {"endpoint reached", "aoai_compute", "general_compute"}
    assert all(check["advice"] for check in failed)
