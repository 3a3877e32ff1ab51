"""Environment and components in a registry, under a version that never changes its content."""

from __future__ import annotations

import json

import pytest

from mmlu_pipe.rehearsal import Twin, server_error
from tests.backends.azureml.conftest import Failed, InFork

PUBLISH = "tests.backends.azureml.tasks_datasets:publish"
ROOT = "azureml://registries/twin-registry"
IDS = [
    f"{ROOT}/environments/mmlu_pipe/versions/1.0.0",
    f"{ROOT}/components/jsonl_guidance_aoai/versions/1.0.0",
    f"{ROOT}/components/jsonl_score_multiplechoice/versions/1.0.0",
]


def test_what_is_published_once_stays_and_says_how_to_use_it(twin: Twin, in_fork: InFork) -> None:
    arguments = ["--registry", "twin-registry", "--version", "1.0.0"]
    first = in_fork(twin, PUBLISH, arguments=arguments)
    assert [line.split() for line in first["output"].splitlines()[:3]] == [["published", name] for name in IDS]
    assert f"--components {IDS[1]}" in first["output"]
    sent = [kept for kept in twin.requests if kept.method == "PUT" and "/twin-registry/components/" in kept.path]
    assert {kept.body["properties"]["componentSpec"]["environment"] for kept in sent} == {IDS[0]}
    before = len(twin.requests)
    again = in_fork(twin, PUBLISH, arguments=[*arguments, "--json"])
    told = json.loads(again["output"])
    assert (told["created"], told["reused"], told["components"]) == ([], IDS, IDS[1])
    assert {kept.method for kept in list(twin.requests)[before:] if kept.host != "login.microsoftonline.com"} == {"GET"}
    with pytest.raises(Failed, match=r"registry twin-registry has mmlu_pipe:1\.0\.0 already, with other content") as no:
        in_fork(twin, PUBLISH, arguments=[*arguments, "--extra-package", "my-plugin==1.0"])
    assert no.value.type == "WorkspaceRejected"


def test_what_was_published_before_a_failure_is_told(twin: Twin, in_fork: InFork) -> None:
    twin.faults.add(server_error("PUT", "*/components/*", None))
    with pytest.raises(Failed, match=f"already registered, and found by the next attempt: {IDS[0]}") as failed:
        in_fork(twin, PUBLISH, hurry=True, arguments=["--registry", "twin-registry", "--version", "1.0.0"])
    assert failed.value.type == "WorkspaceUnavailable"


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "01.0.0", "1.0.0+local", "latest", ""])
def test_a_version_that_is_none_is_refused_before_anybody_is_asked(twin: Twin, in_fork: InFork, version: str) -> None:
    with pytest.raises(Failed, match="give a semantic version") as failed:
        in_fork(twin, PUBLISH, arguments=["--registry", "twin-registry", "--version", version])
    assert failed.value.type == "ConfigError"
    assert len(twin.requests) == 0


def test_a_registry_that_is_not_there_is_told(twin: Twin, in_fork: InFork) -> None:
    with pytest.raises(Failed, match="cannot look up the registry none") as failed:
        in_fork(twin, PUBLISH, arguments=["--registry", "none", "--version", "1.0.0"])
    assert failed.value.type == "WorkspaceRejected"
