"""A submission is brought into the workspace once, exactly, and whole."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.hashing import sha256_text
from mmlu_pipe.rehearsal import Fault, Twin, conflict, cut, expired_token, server_error, too_many_requests
from mmlu_pipe.rehearsal.exchange import Reply
from tests.backends.azureml.conftest import Failed, InFork

BRING = "tests.backends.azureml.tasks_register:bring"
SUBMIT_AFTER = "tests.backends.azureml.tasks_register:submit_after"
UNTAGGED = "tests.backends.azureml.tasks_datasets:register_untagged"
RACE = "tests.backends.azureml.tasks_register:race"
LINE = '{"question": "q", "choices": ["a", "b", "c", "d"], "correct_answer": 0}\n'


def writes(twin: Twin, since: int = 0) -> Counter[str]:
    """Route → number of requests that change something; all blobs under one name."""
    kept = [request for request in list(twin.requests)[since:] if request.method not in ("GET", "HEAD")]
    routes = ["blob" if request.route.startswith("blob/") else request.route for request in kept]
    return Counter(route for route in routes if not route.endswith("oauth2/v2.0/token"))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "small.jsonl"
    path.write_text(LINE, encoding="utf-8")
    return path


def test_a_submission_is_registered_in_order_and_its_job_runs_in_its_experiment(
    twin: Twin, in_fork: InFork, dataset: Path
) -> None:
    found = in_fork(twin, BRING, submits=True, dataset=str(dataset))
    names = [reference.split(":")[1] for reference in found["created"]]
    assert names == [
        "guidance_program_zero_shot",
        "small",
        "mmlu_pipe",
        "jsonl_guidance_aoai",
        "jsonl_score_multiplechoice",
    ]
    assert not any(found["before"][reference] for reference in found["created"])
    assert found["reused"] == []
    (sent,) = (kept for kept in twin.requests if kept.method == "PUT" and kept.route == "jobs/*")
    assert sent.path.endswith("/jobs/job_1")
    assert sent.body["properties"]["experimentName"] == "simple_small"
    assert found["job"]["name"] == "job_1"
    assert found["job"]["studio_url"].startswith("https://ml.azure.com/runs/job_1")
    assert twin.job("job_1").name == "job_1"


def test_an_unchanged_second_submission_writes_nothing_but_its_job(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    first = in_fork(twin, BRING, dataset=str(dataset))
    before = len(twin.requests)
    second = in_fork(twin, BRING, submits=True, dataset=str(dataset), job_name="job_2")
    assert writes(twin, before) == {"jobs/*": 1}
    assert (second["created"], second["reused"]) == ([], first["created"])
    assert all(second["before"].values())


def test_a_then_b_then_a_again_registers_each_once(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    first = in_fork(twin, BRING, dataset=str(dataset))["created"]
    dataset.write_text(LINE * 2, encoding="utf-8")
    changed = in_fork(twin, BRING, dataset=str(dataset))["created"]
    assert [reference.split(":")[1] for reference in changed] == ["small"]
    dataset.write_text(LINE, encoding="utf-8")
    again = in_fork(twin, BRING, dataset=str(dataset))
    assert (again["created"], again["reused"]) == ([], first)


def test_a_version_that_holds_something_else_is_refused_before_anything_is_registered(
    twin: Twin, in_fork: InFork, dataset: Path
) -> None:
    in_fork(twin, BRING, dataset=str(dataset))
    before = len(twin.requests)
    other = {"jsonl_score_multiplechoice": {"sha256": "0" * 64}}
    dataset.write_text(LINE * 2, encoding="utf-8")
    with pytest.raises(Failed, match=r"jsonl_score_multiplechoice:\w+ already, with other content") as failed:
        in_fork(twin, BRING, dataset=str(dataset), changed=other)
    assert (failed.value.type, failed.value.attributes["status"]) == ("WorkspaceRejected", 409)
    assert writes(twin, before) == {}


def test_a_version_of_a_second_that_holds_something_else_is_there_for_a_second(
    twin: Twin, in_fork: InFork, dataset: Path
) -> None:
    in_fork(twin, UNTAGGED, name="small", tags={"sha256": "0" * 64})
    with pytest.raises(Failed, match=r"small:1 already, .*\n.*: wait a second, and run the command again"):
        in_fork(twin, BRING, dataset=str(dataset), changed={"small": {"version": "1"}})


def test_a_file_that_is_saved_meanwhile_is_registered_under_no_version_of_another(
    twin: Twin, in_fork: InFork, dataset: Path
) -> None:
    with pytest.raises(Failed, match=r"small\.jsonl: has changed since it was checked") as failed:
        in_fork(twin, BRING, dataset=str(dataset), saved=LINE * 2)
    assert failed.value.type == "SubmissionBlocked"
    assert "already registered, and found by the next attempt: azureml:guidance_program_zero_shot:" in str(failed.value)
    assert not [kept for kept in twin.requests if kept.method == "PUT" and "/data/small/" in kept.path]


def test_what_was_checked_and_what_is_sent_are_one(twin: Twin, in_fork: InFork, dataset: Path, tmp_path: Path) -> None:
    arguments = {"folder": str(tmp_path), "dataset": str(dataset), "saved": LINE * 2}
    with pytest.raises(Failed, match=r"small\.jsonl: has changed since it was checked") as failed:
        in_fork(twin, SUBMIT_AFTER, **arguments)
    assert failed.value.type == "SubmissionBlocked"
    assert writes(twin) == {}
    assert not (tmp_path / "run").exists()


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "assets" / "small" / "1" / "small.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(LINE, encoding="utf-8")
    return path


def test_a_fetched_dataset_that_is_not_the_workspaces_is_refused_before_anything_is_registered(
    twin: Twin, in_fork: InFork, fetched: Path, tmp_path: Path
) -> None:
    in_fork(twin, UNTAGGED, name="small", tags={"sha256": "0" * 64})
    before = len(twin.requests)
    with pytest.raises(Failed, match=r"has azureml:small:1 with other content than .*small\.jsonl") as failed:
        in_fork(twin, BRING, dataset=str(fetched), data_dir=str(tmp_path / "data"))
    assert "move that file away" in str(failed.value)
    assert (failed.value.type, failed.value.attributes["status"]) == ("WorkspaceRejected", 409)
    assert writes(twin, before) == {}


@pytest.mark.parametrize("tags", [{}, {"sha256": sha256_text(LINE)}], ids=["no tag", "its hash"])
def test_a_fetched_dataset_is_used_by_its_reference(
    twin: Twin, in_fork: InFork, fetched: Path, tmp_path: Path, tags: dict[str, str]
) -> None:
    in_fork(twin, UNTAGGED, name="small", tags=tags)
    found = in_fork(twin, BRING, submits=True, dataset=str(fetched), data_dir=str(tmp_path / "data"))
    assert "azureml:small:1" not in found["created"]
    assert found["job"]["name"] == "job_1"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    "address", ["https://user:ghp_token@git.example.com/ours.git", "https://git.example.com/o.git"]
)
def test_a_job_is_told_nothing_of_the_repository_that_it_was_submitted_from(
    twin: Twin, in_fork: InFork, tmp_path: Path, address: str
) -> None:
    who = ("-c", "user.email=a@example.com", "-c", "user.name=a")
    for arguments in (
        ["init", "-q"],
        [*who, "commit", "-qm", "x", "--allow-empty"],
        ["remote", "add", "origin", address],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    more = {"AZUREML_GIT_REPOSITORY_URI": address}
    in_fork(twin, BRING, more=more, submits=True, cwd=str(tmp_path))
    (sent,) = (kept for kept in twin.requests if kept.method == "PUT" and kept.route == "jobs/*")
    assert "example.com" not in str(sent.body)
    assert [name for name in sent.body["properties"].get("properties") or {} if "git" in name] == []


def test_whoever_comes_second_in_a_race_reuses_what_the_first_one_registered(
    twin: Twin, in_fork: InFork, dataset: Path
) -> None:
    found = in_fork(twin, RACE, dataset=str(dataset), refusal=409)
    assert "azureml:small:" in found["reused"][0]
    assert found["created"] == []


def test_what_is_used_and_not_there_is_named_all_at_once_and_nothing_is_registered(
    twin: Twin, in_fork: InFork, dataset: Path
) -> None:
    registry = "azureml://registries/twin-registry/components/none/versions/1"
    uses = ["azureml:no_data:7", registry]
    with pytest.raises(Failed) as failed:
        in_fork(twin, BRING, dataset=str(dataset), uses=uses, compute="nowhere", environment="none:3")
    told = str(failed.value)
    for name in ("no azureml:none:3", "no azureml:no_data:7", f"no {registry}", "no nowhere"):
        assert name.removeprefix("no ") in told
    assert "nothing was registered" in told
    assert (failed.value.type, failed.value.attributes["status"]) == ("WorkspaceRejected", 404)
    assert writes(twin) == {}
    kinds = {kept.route for kept in twin.requests if kept.status == 404}
    assert {"environments/*/versions/*", "data/*/versions/*", "components/*/versions/*", "computes/*"} <= kinds


def test_serverless_is_no_compute_of_the_workspace(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    found = in_fork(twin, BRING, submits=True, dataset=str(dataset), compute="serverless")
    assert found["job"]["name"] == "job_1"
    assert not [kept for kept in twin.requests if kept.route == "computes/*" and kept.path.endswith("/serverless")]


PASSING = [
    server_error("PUT", "components/*"),
    too_many_requests("PUT", "data/*"),
    cut("PUT", "environments/*"),
    cut("PUT", "blob/*"),
    cut("GET", "datastores/*"),
    cut("PUT", "jobs/*"),
]


def test_what_passes_is_tried_again(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    for fault in PASSING:
        twin.faults.add(fault)
    found = in_fork(twin, BRING, hurry=True, submits=True, dataset=str(dataset))
    assert len(found["created"]) == 5
    assert found["job"]["name"] == "job_1"
    seen = {(kept.method, kept.route) for kept in twin.requests if kept.status in (0, 429, 500)}
    assert len(seen) == len(PASSING)


STAYING = [
    (server_error("PUT", "environments/*", None), "WorkspaceUnavailable", "HTTP 500", 2),
    (too_many_requests("PUT", "components/*", None), "WorkspaceUnavailable", "HTTP 429", 3),
    (cut("PUT", "environments/*", None), "WorkspaceUnavailable", "no connection", 2),
    (cut("PUT", "jobs/*", None), "WorkspaceUnavailable", "cannot submit job job_1", 5),
    (cut("PUT", "blob/*", None), "WorkspaceUnavailable", "write to the workspace's storage", 0),
    (cut("PUT", "blob/*", None, after=4), "WorkspaceUnavailable", "no connection", 1),
    (conflict("PUT", "environments/*", None), "WorkspaceRejected", "HTTP 409", 2),
    (expired_token("PUT", "components/*", None), "AuthenticationFailed", "run `az login`", 3),
]


@pytest.mark.parametrize(
    ("fault", "kind", "words", "registered"), STAYING, ids=lambda value: getattr(value, "route", None)
)
def test_what_stays_ends_with_the_right_error_and_says_what_was_registered(
    twin: Twin, in_fork: InFork, dataset: Path, fault: Fault, kind: str, words: str, registered: int
) -> None:
    twin.faults.add(fault)
    with pytest.raises(Failed) as failed:
        in_fork(twin, BRING, hurry=True, submits=True, dataset=str(dataset))
    told = str(failed.value)
    assert (failed.value.type, words in told) == (kind, True), told
    assert told.count("azureml:") - told.count("register azureml:") == registered, told
    assert ("already registered" in told) == bool(registered)


def test_the_next_attempt_goes_on_where_the_last_one_failed(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    twin.faults.add(server_error("PUT", "components/*", None))
    with pytest.raises(Failed):
        in_fork(twin, BRING, hurry=True, dataset=str(dataset))
    twin.faults.clear()
    before = len(twin.requests)
    again = in_fork(twin, BRING, submits=True, dataset=str(dataset))
    assert (len(again["reused"]), len(again["created"]), again["job"]["name"]) == (3, 2, "job_1")
    assert writes(twin, before)["codes/*/versions/*"] == 0  # the code had arrived


def test_a_job_whose_answer_was_lost_is_found_again(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    in_fork(twin, BRING, submits=True, dataset=str(dataset))
    twin.faults.add(cut("PUT", "jobs/*", None))
    found: dict[str, Any] = in_fork(twin, BRING, hurry=True, submits=True, dataset=str(dataset))
    assert found["job"]["name"] == "job_1"


def test_storage_that_may_not_be_written_names_the_role(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    body = b'<?xml version="1.0"?><Error><Code>AuthorizationPermissionMismatch</Code><Message>No.</Message></Error>'
    headers = {"x-ms-error-code": "AuthorizationPermissionMismatch", "Content-Type": "application/xml"}
    twin.faults.add(Fault("PUT", "blob/*", Reply(403, body, headers), None))
    with pytest.raises(Failed, match="Storage Blob Data Contributor") as failed:
        in_fork(twin, BRING, hurry=True, dataset=str(dataset))
    assert (failed.value.type, failed.value.attributes["status"]) == ("WorkspaceRejected", 403)
