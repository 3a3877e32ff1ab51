"""A job's outputs arrive in the run folder as the job wrote them, or it is said which one did not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from mmlu_pipe.backends.azureml.download import OUTPUTS
from mmlu_pipe.plugins import registry
from mmlu_pipe.rehearsal import Azurite, Run, Twin, Workspace, cut
from mmlu_pipe.rehearsal.workspace import CredentialKind
from tests.backends.azureml.conftest import InFork
from tests.backends.azureml.small_jobs import FILES, NAMES, contents, score, submit

TASKS = "tests.backends.azureml.tasks_jobs"


def fetch(in_fork: InFork, twin: Twin, job: Run, folder: Path, **options: Any) -> dict[str, Any]:
    assert job.wait(60)
    found: dict[str, Any] = in_fork(twin, f"{TASKS}:fetch", job=job.name, output_dir=str(folder), **options)
    return found


def replace(twin: Twin, azurite: Azurite, job: Run, port: str, content: bytes) -> None:
    container = twin.workspace.containers["workspaceblobstore"]
    azurite.put(container, f"mmlu_pipe/{job.name}/{port}/{NAMES[port]}", content)


def test_the_outputs_are_those_that_the_components_declare() -> None:
    declared = {
        port.name: port.file_name
        for component in registry("components").values()
        for port in component.ports
        if port.direction == "output" and port.type == "uri_file" and not getattr(port, "local", False)
    }
    assert declared.pop("ledger", "ledger.jsonl") == "ledger.jsonl"
    assert declared == OUTPUTS


@pytest.mark.parametrize("kind", get_args(CredentialKind))
def test_every_output_arrives_byte_by_byte_however_the_datastore_lets_clients_in(
    make_twin: Callable[..., Twin], in_fork: InFork, tmp_path: Path, kind: CredentialKind
) -> None:
    twin = make_twin(workspace=Workspace(credential_kind=kind))
    folder = tmp_path / "run"
    found = fetch(in_fork, twin, submit(twin), folder)
    assert (found["status"], found["raised"], found["count"]) == ("completed", None, 3)
    assert {path.name for path in folder.iterdir()} == {*NAMES.values(), "manifest.json"} - {"facts.json"}
    assert {port: (folder / NAMES[port]).read_bytes() for port in FILES} == FILES
    assert (folder / "score.json").read_bytes() == score()


def test_outputs_are_found_where_the_job_says_and_not_where_they_usually_are(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    places = {port: f"azureml://datastores/workspaceblobstore/paths/elsewhere/{port}" for port in NAMES}
    assert fetch(in_fork, twin, submit(twin, uris=places), tmp_path / "run")["status"] == "completed"


def test_an_output_that_became_a_folder_with_one_file_is_that_file(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    left = contents()
    writes = {port: content for port, content in left.items() if port != "calls_dataset"}
    content = left["calls_dataset"].decode().strip()
    place = "${{outputs.calls_dataset}}"
    job = submit(twin, f"mkdir -p {place}; echo '{content}' > {place}/part-0", writes=writes)
    found = fetch(in_fork, twin, job, tmp_path / "run")
    assert (found["status"], (tmp_path / "run" / "calls.jsonl").read_bytes()) == ("completed", left["calls_dataset"])


def test_a_file_that_the_service_stored_under_another_name_is_found_in_its_folder(
    twin: Twin, in_fork: InFork, azurite: Azurite, tmp_path: Path
) -> None:
    left = contents()
    job = submit(twin, writes={port: content for port, content in left.items() if port != "score_dataset"})
    assert job.wait(60)
    container = twin.workspace.containers["workspaceblobstore"]
    azurite.put(container, f"mmlu_pipe/{job.name}/score_dataset/score_dataset", left["score_dataset"])
    assert fetch(in_fork, twin, job, tmp_path / "run")["count"] == 3


def test_a_missing_output_of_a_completed_job_is_named_and_nothing_is_kept(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    writes = {port: content for port, content in contents().items() if port != "score_dataset"}
    found = fetch(in_fork, twin, submit(twin, writes=writes), tmp_path / "run")
    assert (found["raised"], found["error"]["path"]) == ("DownloadFailed", str(tmp_path / "run" / "score.json"))
    assert "--resume-from job_" in found["error"]["message"]
    assert list((tmp_path / "run").iterdir()) == []


def test_an_output_that_was_changed_after_the_job_wrote_it_is_refused_until_it_is_right_again(
    twin: Twin, in_fork: InFork, azurite: Azurite, tmp_path: Path
) -> None:
    job, folder = submit(twin), tmp_path / "run"
    assert job.wait(60)
    replace(twin, azurite, job, "output_dataset", FILES["output_dataset"].replace(b'"a"', b'"A"'))
    found = fetch(in_fork, twin, job, folder)
    assert (found["raised"], found["error"]["path"]) == ("DownloadFailed", str(folder / "output.jsonl"))
    assert "hash" in found["error"]["message"]
    assert list(folder.iterdir()) == []
    replace(twin, azurite, job, "output_dataset", FILES["output_dataset"])
    assert fetch(in_fork, twin, job, folder)["status"] == "completed"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{}", "cannot be read as a score"), (b"[1", "cannot be read as a score"), (score(2), "tells of 2 lines")],
    ids=["no score", "no JSON", "of other lines"],
)
def test_a_score_that_is_not_that_of_the_lines_beside_it_is_refused(
    twin: Twin, in_fork: InFork, azurite: Azurite, tmp_path: Path, content: bytes, told: str
) -> None:
    found = fetch(in_fork, twin, submit(twin, writes=contents(score_dataset=content)), tmp_path / "run")
    assert (found["raised"], found["error"]["path"]) == ("DownloadFailed", str(tmp_path / "run" / "score.json"))
    assert told in found["error"]["message"]


def test_a_file_that_differs_and_is_there_already_is_never_overwritten(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    job, folder = submit(twin), tmp_path / "run"
    assert fetch(in_fork, twin, job, folder)["status"] == "completed"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}), encoding="utf-8")
    (folder / "calls.jsonl").write_text("my own notes\n", encoding="utf-8")
    (folder / "score.json").unlink()
    found = fetch(in_fork, twin, job, folder)
    assert (found["raised"], found["error"]["path"]) == ("DownloadFailed", str(folder / "calls.jsonl"))
    assert (folder / "calls.jsonl").read_text(encoding="utf-8") == "my own notes\n"
    assert not (folder / "score.json").exists()


def test_a_download_that_is_cut_is_tried_again(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    job = submit(twin)
    assert job.wait(60)
    twin.faults.add(cut("GET", "blob/*/*", times=2))
    assert fetch(in_fork, twin, job, tmp_path / "run", hurry=True)["status"] == "completed"


def test_a_storage_that_cannot_be_reached_is_said_and_a_later_try_succeeds(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    job, folder = submit(twin), tmp_path / "run"
    assert job.wait(60)
    twin.faults.add(cut("*", "blob/*", times=None))
    found = fetch(in_fork, twin, job, folder, hurry=True)
    assert found["raised"] == "DownloadFailed"
    assert f"mmlu-pipe fetch {job.name}" in found["error"]["message"]
    twin.faults.clear()
    assert fetch(in_fork, twin, job, folder)["status"] == "completed"


def test_what_a_failed_job_left_behind_is_fetched_all_the_same(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = fetch(in_fork, twin, submit(twin, second="echo 'error: no key'; exit 2"), folder)
    assert (found["status"], found["raised"], found["count"]) == ("failed", "JobFailed", None)
    assert {port: (folder / NAMES[port]).read_bytes() for port in FILES} == FILES
    assert not (folder / "score.json").exists()
    assert set(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["outputs"]) == {
        NAMES[port] for port in FILES
    }
