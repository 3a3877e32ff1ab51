"""The unmodified SDK submits a pipeline to the twin, watches it, and fetches what it put out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.rehearsal import Twin, Workspace
from tests.rehearsal.conftest import Sdk, SdkError

LINES = "one\ntwo\nthree\n"


def rows(found: dict[str, Any]) -> str:
    assert found["status"] == "Completed", found
    return str(next(iter(found["outputs"]["rows"].values())))


def test_a_submitted_pipeline_is_streamed_while_it_runs_and_its_outputs_come_back(twin: Twin, sdk: Sdk) -> None:
    sdk(twin, "register")
    name = sdk(twin, "submit", behave="slowly")
    assert "Submitting step first" in sdk(twin, "stream", name=name)
    found = sdk(twin, "get", name=name)
    assert (found["status"], found["experiment"]) == ("Completed", "twin_tests")
    assert found["studio"].startswith(f"https://ml.azure.com/runs/{name}?wsid=/subscriptions/")
    assert {step: child["status"] for step, child in found["children"].items()} == {
        "first": "Completed",
        "second": "Completed",
    }
    outputs = sdk(twin, "outputs", name=name)
    assert list(outputs["rows"].values()) == [LINES * 2]
    assert outputs["result"] == {"total.txt": "6"}
    second = sdk(twin, "outputs", name=found["children"]["second"]["name"])
    assert "total 6" in second["default"]["user_logs/std_log.txt"]


@pytest.mark.parametrize("kind", ["Sas", "AccountKey", "None"])
def test_every_kind_of_datastore_credential_lets_the_sdk_upload_and_download(
    make_twin: Callable[..., Twin], sdk: Sdk, kind: str
) -> None:
    twin = make_twin(workspace=Workspace(credential_kind=kind))
    assert rows(sdk(twin, "whole")) == LINES * 2
    given = [kept.status for kept in twin.requests if kept.route.endswith("listSecrets") and kept.status == 200]
    assert bool(given) == (kind != "None")


def test_an_unchanged_second_registration_uploads_nothing(twin: Twin, sdk: Sdk) -> None:
    def uploads() -> int:
        return sum(1 for kept in twin.requests if kept.method == "PUT" and kept.route == "blob/*/*")

    sdk(twin, "register")
    before = uploads()
    assert before > 0
    sdk(twin, "register")
    assert uploads() == before


def test_the_label_latest_leads_to_the_newest_version_and_no_version_can_change(twin: Twin, sdk: Sdk) -> None:
    sdk(twin, "put_data", version="1", text="one\n")
    sdk(twin, "put_data", version="2", text="two\n")
    assert sdk(twin, "latest", name="lines") == ["2", "2", "1"]
    with pytest.raises(SdkError, match="already exists") as refused:
        sdk(twin, "put_data", version="1", text="four\n")
    assert refused.value.status == 400


def test_download_skips_named_outputs_as_it_does_against_the_service(twin: Twin, sdk: Sdk) -> None:
    found = sdk(twin, "whole")
    brought = sdk(twin, "download", name=found["name"])
    has_the_defect = tuple(map(int, version("azure-ai-ml").split(".")[:2])) >= (1, 35)  # azure-sdk-for-python#48941
    assert ("named-outputs/result/total.txt" in brought) != has_the_defect
    assert "artifacts/logs/azureml/executionlogs.txt" in brought


def test_a_step_runs_in_an_emptied_environment(
    make_twin: Callable[..., Twin], sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_PERSON", "secret")
    twin = make_twin(step_environment={"LISTED": "by the caller"})
    found = sdk(twin, "whole", behave="tell", environment_variables={"ASKED": "by the job"})
    told = json.loads(rows(found))
    given = told["environment"]
    assert not [key for key, value in given.items() if value == "secret"]
    assert (given["LISTED"], given["ASKED"]) == ("by the caller", "by the job")
    assert given["AZUREML_ROOT_RUN_ID"] == found["name"]
    assert given["AZURE_ML_INPUT_data"].endswith("/lines.txt")
    assert not [key for key in given if key.startswith(("AZURE_CLIENT", "AZURE_TENANT", "OBO_"))]
    assert told["files"] == ["count.py", "total.py"]
    assert Path(told["executable"]) == Path(sys.executable)


def test_a_step_gets_tokens_for_its_managed_identity_and_for_the_submitting_user(
    make_twin: Callable[..., Twin], sdk: Sdk
) -> None:
    twin = make_twin(managed_identities=["default-identity", "other-identity"])
    asked = {"ASSIGNED": "other-identity"}
    found = sdk(twin, "whole", behave="ask for tokens", on_behalf_of=True, environment_variables=asked)
    told = json.loads(rows(found))
    assert {told[key]["aud"] for key in ("managed", "assigned", "on behalf of")} == {
        "https://cognitiveservices.azure.com"
    }
    assert (told["managed"]["appid"], told["assigned"]["appid"]) == ("default-identity", "other-identity")
    assert told["on behalf of"]["idtyp"] == "user"
    assert "Identity not found" in told["unknown"]


@pytest.mark.parametrize(
    ("where", "route"),
    [(Twin.virtual_machine, "metadata/identity/oauth2/token"), (Twin.app_service, "msi/appservice")],
    ids=["virtual machine", "app service"],
)
def test_a_client_may_come_with_a_managed_identity(
    twin: Twin, sdk: Sdk, where: Callable[[Twin], dict[str, str]], route: str
) -> None:
    sdk(twin, "put_data", credential="managed", more=where(twin), version="1", text="one\n")
    assert route in {kept.route for kept in twin.requests}
    assert "login.microsoftonline.com" not in {kept.host for kept in twin.requests}


def test_serverless_compute_needs_no_cluster(twin: Twin, sdk: Sdk) -> None:
    assert rows(sdk(twin, "whole", compute="serverless")) == LINES * 2


def test_environment_and_component_of_a_registry_run_in_the_workspace(twin: Twin, sdk: Sdk) -> None:
    found = sdk(twin, "publish_and_run", registry="twin-registry")
    prefix = "azureml://registries/twin-registry"
    assert found["ids"] == [f"{prefix}/environments/test/versions/1.0.0", f"{prefix}/components/total/versions/1.0.0"]
    assert (found["status"], found["outputs"]["result"]) == ("Completed", {"total.txt": "2"})
    sent = next(kept for kept in twin.requests if kept.method == "PUT" and kept.route == "jobs/*")
    assert sent.body["properties"]["jobs"]["total"]["componentId"] == f"{prefix}/components/total/versions/1.0.0"


def test_no_kept_request_holds_a_token_or_a_secret(twin: Twin, sdk: Sdk) -> None:
    sdk(twin, "register")
    kept = json.dumps([vars(request) for request in twin.requests])
    assert "components/*/versions/*" in kept
    assert twin.identity.client_secret not in kept
    assert "eyJ" not in kept
