"""A job as a run: waited for, fetched, written down, and taken up again by another process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.config import RunConfig
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.rehearsal import Azurite, Run, RunningStep, Twin, Workspace, expired_token
from mmlu_pipe.runfolder import alone
from tests.backends.azureml.conftest import Failed, InFork
from tests.backends.azureml.small_jobs import (
    ASKS,
    FILES,
    NAMES,
    WAITS_ON_ITS_FIRST_NODE,
    checkpoint,
    contents,
    facts,
    preempt_once_it_waits,
    submit,
)

TASKS = "tests.backends.azureml.tasks_jobs"


def wait(in_fork: InFork, twin: Twin, job: str, folder: Path | None = None, **options: Any) -> dict[str, Any]:
    place = None if folder is None else str(folder)
    found: dict[str, Any] = in_fork(twin, f"{TASKS}:fetch", job=job, output_dir=place, **options)
    return found


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_a_run_that_is_waited_for_has_score_outputs_and_a_finished_manifest(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    job = submit(twin, first="sleep 1")
    found = wait(in_fork, twin, job.name, folder)
    assert (found["status"], found["error"], found["count"]) == ("completed", None, 3)
    assert found["outputs"] == sorted({*NAMES.values(), "manifest.json"} - {"facts.json"})
    written = manifest(folder)
    assert (written["status"], written["run"]["answered"], written["job"]["name"]) == ("completed", 2, job.name)
    assert written["outputs"].keys() == set(NAMES.values()) - {"facts.json"}
    assert any(line.startswith(f"{ASKS}: ") for line in found["told"])
    assert found["told"][-1] == "a plugin saw the score of 3 lines"


def test_a_run_that_has_ended_asks_and_downloads_nothing_again(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    job = submit(twin)
    wait(in_fork, twin, job.name, folder, times=2)
    before = len(list(twin.requests))
    again = wait(in_fork, twin, str(folder))
    asked = {kept.route for kept in list(twin.requests)[before:] if "oauth2" not in kept.route}
    assert (again["status"], again["count"]) == ("completed", 3)
    assert not [route for route in asked if "jobs" in route or "runs" in route or "blob" in route]


def test_a_run_whose_files_changed_after_it_ended_is_refused(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wait(in_fork, twin, submit(twin).name, folder)
    (folder / "output.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(Failed, match=r"output\.jsonl: is not as the run left it"):
        wait(in_fork, twin, str(folder))


def test_an_output_that_is_gone_from_a_folder_is_fetched_again(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wait(in_fork, twin, submit(twin).name, folder)
    (folder / "calls.jsonl").unlink()
    again = wait(in_fork, twin, str(folder))
    assert (again["status"], (folder / "calls.jsonl").read_bytes()) == ("completed", FILES["calls_dataset"])
    assert not [line for line in again["told"] if "plugin" in line]


def test_a_job_that_ran_another_program_than_the_run_was_begun_with_brings_no_score(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    wait(in_fork, twin, submit(twin).name, folder)
    for name in FILES:
        (folder / NAMES[name]).unlink()
    (folder / "score.json").unlink()
    begun = manifest(folder)
    begun["inputs"]["guidance_program"]["sha256"] = "a" * 64
    (folder / "manifest.json").write_text(json.dumps(begun | {"status": "running"}), encoding="utf-8")
    found = wait(in_fork, twin, str(folder))
    assert (found["status"], found["raised"], found["count"]) == ("failed", "JobFailed", None)
    assert "ran another guidance program than this run was begun with" in found["error"]["message"]
    assert found["outputs"] == ["manifest.json"]
    assert "another guidance program" in manifest(folder)["error"]["message"]


def test_two_processes_that_wait_for_one_job_fetch_one_after_the_other(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    job = submit(twin)
    assert job.wait(60)
    found: list[dict[str, Any]] = []
    other = threading.Thread(target=lambda: found.append(wait(in_fork, twin, job.name, folder)))
    with alone(folder):
        other.start()
        other.join(4)
        assert list(folder.iterdir()) == []
    other.join(60)
    assert found[0]["status"] == "completed"


def test_two_that_write_one_manifest_never_meet(tmp_path: Path) -> None:
    written = Manifest.adopt(tmp_path / "manifest.json", RunConfig(), {}, started="", version="")
    lost: list[Exception] = []

    def write() -> None:
        for _ in range(200):
            try:
                written.write()
            except Exception as error:  # noqa: BLE001 - a thread's own would be lost
                lost.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_step_that_exits_with_3_is_named_with_the_last_words_of_its_log(
    twin: Twin, azurite: Azurite, in_fork: InFork, tmp_path: Path
) -> None:
    words = "Traceback of no interest\\nerror: the dataset is empty\\n  give another one"
    job = submit(twin, first=f"printf '{words}\\n'; exit 3")
    checkpoint(twin, azurite, job.name)
    found = wait(in_fork, twin, job.name, tmp_path / "run")
    error = found["error"]
    assert (error["type"], error["job"], error["step"]) == ("JobFailed", job.name, ASKS)
    assert error["message"].splitlines()[1:3] == ["  | error: the dataset is empty", "  |   give another one"]
    assert "Traceback" not in error["message"]
    assert "Traceback of no interest" in error["child_error"]
    assert f"--resume-from {job.name}" in error["message"]


def test_a_step_that_is_killed_says_so_and_how_to_go_on(
    make_twin: Callable[..., Twin], in_fork: InFork, tmp_path: Path
) -> None:
    twin = make_twin(drill=RunningStep.kill)
    found = wait(in_fork, twin, submit(twin, first="sleep 60").name, tmp_path / "run")
    assert (found["error"]["type"], found["error"]["step"]) == ("JobFailed", ASKS)
    assert "status code 137" in found["error"]["message"]
    assert "no line of it is finished" in found["error"]["message"]


def test_an_image_that_cannot_be_built_shows_the_end_of_its_log(
    make_twin: Callable[..., Twin], in_fork: InFork, tmp_path: Path
) -> None:
    twin = make_twin(broken_images={"e": "collecting guidance\nERROR: no matching distribution found\n"})
    found = wait(in_fork, twin, submit(twin).name, tmp_path / "run")
    assert (found["error"]["type"], found["error"]["step"]) == ("JobFailed", ASKS)
    assert "Image build failed" in found["error"]["message"]
    assert "  | ERROR: no matching distribution found" in found["error"]["message"]


def test_a_run_that_is_cancelled_from_elsewhere_ends_as_cancelled(
    make_twin: Callable[..., Twin], azurite: Azurite, in_fork: InFork, tmp_path: Path
) -> None:
    running = threading.Event()
    twin = make_twin(drill=lambda step: running.set(), grace_s=0.5)
    job = submit(twin, first="sleep 60")
    checkpoint(twin, azurite, job.name)

    def cancel() -> None:
        running.wait(60)
        job.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    found = wait(in_fork, twin, job.name, tmp_path / "run")
    assert (found["status"], found["error"]["type"]) == ("cancelled", "JobCancelled")
    assert f"--resume-from {job.name}" in found["error"]["message"]
    assert manifest(tmp_path / "run")["status"] == "cancelled"


def test_a_token_that_is_refused_while_outputs_are_fetched_is_renewed(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    job = submit(twin)
    assert job.wait(60)
    for route in ("jobs/*", "history/*/children", "datastores/*"):
        twin.faults.add(expired_token("GET", route))
    assert wait(in_fork, twin, job.name, tmp_path / "run", wait=False)["status"] == "completed"


def test_neither_logs_nor_links_of_a_job_are_written_to_the_manifest(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    job = submit(twin, first="echo 'error: https://my-resource.openai.azure.com refuses'; exit 1")
    found = wait(in_fork, twin, job.name, tmp_path / "run")
    text = (tmp_path / "run" / "manifest.json").read_text(encoding="utf-8")
    assert "my-resource" in found["error"]["message"]
    assert found["studio_url"].startswith("https://ml.azure.com/")
    for secret in ("my-resource", "https://", twin.workspace.subscription_id, f'"{twin.workspace.name}"'):
        assert secret not in text


def test_a_job_from_another_machine_gets_a_folder_with_the_options_and_inputs_it_tells(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    literals = {"limit": "3", "select_strategy": "logprob", "require": "seed,temperature=0", "auth": "managed"}
    job = submit(twin, literals=literals)
    assert wait(in_fork, twin, job.name, tmp_path / "run")["status"] == "completed"
    written = manifest(tmp_path / "run")
    told = {"dataset": "three.jsonl", "guidance_program": "zero_shot.py", "limit": 3, "select_strategy": "logprob"}
    assert written["options"] | told == written["options"]
    assert written["options"]["require"] == ["seed", "temperature=0"]
    assert written["inputs"]["dataset"] == {"name": "three.jsonl", "sha256": facts()["dataset"]["sha256"]}
    assert written["versions"] == {"mmlu-pipe": "0.1.0"}


def test_a_job_that_goes_on_is_not_fetched_without_waiting(
    make_twin: Callable[..., Twin], in_fork: InFork, tmp_path: Path
) -> None:
    running = threading.Event()
    twin = make_twin(drill=lambda step: running.set(), grace_s=0.5)
    job = submit(twin, first="sleep 60")
    assert running.wait(60)
    found = wait(in_fork, twin, job.name, tmp_path / "run", wait=False)
    assert (found["raised"], found["status"], found["error"]) == ("DownloadFailed", "running", None)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_workspace_a_local_run_or_something_else_is_refused(
    make_twin: Callable[..., Twin], in_fork: InFork, tmp_path: Path
) -> None:
    twin, other = make_twin(), make_twin(workspace=Workspace(name="other"))
    folder, local, notes = tmp_path / "run", tmp_path / "local", tmp_path / "notes"
    job = submit(twin)
    wait(in_fork, twin, job.name, folder)
    with pytest.raises(Failed, match=r"is in another workspace than workspace other .* --workspace-config"):
        wait(in_fork, other, str(folder))
    local.mkdir()
    kept = {name: value for name, value in manifest(folder).items() if name != "job"}
    (local / "manifest.json").write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(Failed, match="is the folder of a local run"):
        wait(in_fork, twin, str(local))
    notes.mkdir()
    (notes / "todo.txt").touch()
    with pytest.raises(Failed, match="holds other files"):
        wait(in_fork, twin, job.name, notes)
    with pytest.raises(Failed, match="there is no run in this folder"):
        wait(in_fork, twin, str(notes))
    with pytest.raises(Failed, match=f"holds the job {job.name}"):
        wait(in_fork, twin, submit(twin).name, folder)


def test_a_fetch_that_was_killed_half_way_is_done_again_in_the_same_folder(
    twin: Twin, in_fork: InFork, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    (folder / ".fetch-abc").mkdir(parents=True)
    (folder / ".fetch-abc" / "calls.jsonl").touch()
    (folder / ".manifest.json.new").touch()
    (folder / "output.jsonl").write_bytes(FILES["output_dataset"])
    assert wait(in_fork, twin, submit(twin).name, folder)["status"] == "completed"
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_place_where_no_folder_can_be_made_is_named(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = wait(in_fork, twin, submit(twin).name, tmp_path / "file" / "run")
    assert (found["raised"], found["error"]) == ("RunFolderError", None)


def test_a_preempted_job_completes_as_if_nothing_had_happened(
    make_twin: Callable[..., Twin], in_fork: InFork, tmp_path: Path
) -> None:
    twin = make_twin(drill=preempt_once_it_waits)
    job = submit(twin, first=WAITS_ON_ITS_FIRST_NODE, writes=contents())
    found = wait(in_fork, twin, job.name, tmp_path / "run")
    assert (found["status"], (tmp_path / "run" / "output.jsonl").read_bytes()) == ("completed", FILES["output_dataset"])


def test_a_job_that_no_step_of_failed_gives_the_services_own_reason(
    make_twin: Callable[..., Twin], in_fork: InFork, tmp_path: Path
) -> None:
    held: list[Run] = []
    running = threading.Event()
    twin = make_twin(drill=lambda step: running.set(), grace_s=0.5)
    held.append(submit(twin, first="sleep 60"))
    assert running.wait(60)
    held[0].fail("SystemError", "A fault, and the log: answers from https://my-resource.openai.azure.com", "Pipeline")
    found = wait(in_fork, twin, held[0].name, tmp_path / "run")
    assert (found["error"]["type"], found["error"]["step"]) == ("JobFailed", "None")
    assert "A fault, and the log: answers from https://my-resource" in found["error"]["message"]
    told = manifest(tmp_path / "run")["error"]
    assert told == {"type": "JobFailed", "message": f"the job {held[0].name} failed"}
