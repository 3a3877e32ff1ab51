"""Datasets go to the workspace and come back, each version once and checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.rehearsal import Fault, Twin, Workspace, cut, server_error
from mmlu_pipe.rehearsal.exchange import Json, Reply
from mmlu_pipe.rehearsal.storage import ACCOUNT
from mmlu_pipe.rehearsal.workspace import BLOB_STORE
from tests.backends.azureml.conftest import Failed, InFork

TASKS = "tests.backends.azureml.tasks_datasets"
LINE = '{"question": "q", "choices": ["a", "b", "c", "d"], "correct_answer": 0}\n'


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "mmlu_astronomy_validation.jsonl"
    path.write_text(LINE, encoding="utf-8", newline="\n")
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["Sas", "AccountKey", "None"])
def test_a_registered_dataset_comes_back_whatever_the_datastore_asks_for(
    make_twin: Callable[..., Twin], in_fork: InFork, dataset: Path, data_dir: Path, kind: str
) -> None:
    twin = make_twin(workspace=Workspace(credential_kind=kind))
    version = sha256_file(dataset)[:16]
    reference = f"azureml:mmlu_astronomy_validation:{version}"
    assert in_fork(twin, f"{TASKS}:put", path=str(dataset)) == [[reference, True], [reference, False]]
    (sent,) = (kept for kept in twin.requests if kept.method == "PUT" and kept.route == "data/*/versions/*")
    assert sent.body["properties"]["tags"] == {"sha256": sha256_file(dataset)}
    assert sent.body["properties"]["dataType"] == "uri_file"
    found = in_fork(twin, f"{TASKS}:fetch", spec=reference.removeprefix("azureml:"), data_dir=str(data_dir), times=2)
    target = data_dir / "assets" / "mmlu_astronomy_validation" / version / dataset.name
    assert (found["path"], found["text"], found["asked"]) == (str(target), LINE, 1)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_epoch_scheme_makes_a_version_of_the_second(twin: Twin, in_fork: InFork, dataset: Path) -> None:
    (reference, created), _ = in_fork(twin, f"{TASKS}:put", path=str(dataset), version_scheme="epoch")
    assert created
    assert reference.rpartition(":")[2].isdecimal()


def test_a_name_is_the_file_here_and_only_then_the_latest_asset(
    twin: Twin, in_fork: InFork, dataset: Path, data_dir: Path
) -> None:
    for text in (LINE, LINE * 2):
        dataset.write_text(text, encoding="utf-8", newline="\n")
        in_fork(twin, f"{TASKS}:put", path=str(dataset))
    for spec in (dataset.stem, f"{dataset.stem}@latest"):
        found = in_fork(twin, f"{TASKS}:fetch", spec=spec, data_dir=str(data_dir))
        assert (found["text"], found["asked"]) == (LINE * 2, 1)
        assert sha256_file(dataset)[:16] in found["said"][-1]
    downloads = [kept for kept in twin.requests if kept.method == "GET" and kept.route.startswith("blob/")]
    assert len(downloads) == 1
    (data_dir / dataset.name).write_text(LINE * 3, encoding="utf-8", newline="\n")
    here = in_fork(twin, f"{TASKS}:fetch", spec=dataset.stem, data_dir=str(data_dir))
    assert (here["path"], here["asked"]) == (str(data_dir / dataset.name), 0)


def test_a_dataset_that_is_nowhere_is_told_with_close_names_and_the_command(
    twin: Twin, in_fork: InFork, dataset: Path, data_dir: Path
) -> None:
    in_fork(twin, f"{TASKS}:put", path=str(dataset))
    with pytest.raises(Failed) as failed:
        in_fork(twin, f"{TASKS}:fetch", spec="mmlu_astronomi_validation", data_dir=str(data_dir))
    told = str(failed.value)
    assert failed.value.type == "DatasetError"
    assert "neither here nor a data asset of workspace twin" in told
    assert "did you mean mmlu_astronomy_validation?" in told
    assert "mmlu-pipe create-dataset --mmlu-dataset astronomi --split validation" in told
    with pytest.raises(Failed, match=rf"has no version 7 of it; the newest are {sha256_file(dataset)[:16]}"):
        in_fork(twin, f"{TASKS}:fetch", spec=f"{dataset.stem}:7", data_dir=str(data_dir))
    assert not (data_dir / "assets" / dataset.stem / "7").exists()


@pytest.mark.parametrize("spec", ["../escape", "a/b:1", "name:../1", "name:"])
def test_a_name_that_no_asset_has_asks_nobody(twin: Twin, in_fork: InFork, data_dir: Path, spec: str) -> None:
    with pytest.raises(Failed) as failed:
        in_fork(twin, f"{TASKS}:fetch", spec=spec, data_dir=str(data_dir))
    assert failed.value.type == "DatasetError"
    assert len(twin.requests) == 0


def test_content_that_is_not_what_was_registered_is_refused_and_leaves_nothing(
    twin: Twin, in_fork: InFork, data_dir: Path
) -> None:
    in_fork(twin, f"{TASKS}:register_untagged", name="changed", tags={"sha256": "0" * 64})
    with pytest.raises(Failed, match="its file is not the one that was registered") as failed:
        in_fork(twin, f"{TASKS}:fetch", spec="changed:1", data_dir=str(data_dir))
    assert failed.value.type == "DatasetError"
    assert not list(data_dir.rglob("*.jsonl"))


def test_an_asset_without_a_hash_is_taken_and_that_is_said(twin: Twin, in_fork: InFork, data_dir: Path) -> None:
    in_fork(twin, f"{TASKS}:register_untagged", name="plain", tags={})
    found = in_fork(twin, f"{TASKS}:fetch", spec="plain:1", data_dir=str(data_dir))
    assert found["text"] == "{}\n"
    assert "data asset plain:1 has no tag `sha256`, so its file could not be checked" in found["said"]


def test_an_asset_that_is_a_folder_is_refused(twin: Twin, in_fork: InFork, data_dir: Path) -> None:
    in_fork(twin, f"{TASKS}:register_untagged", name="folder", tags={}, kind="uri_folder")
    with pytest.raises(Failed, match="folder:1: is a uri_folder, not a uri_file"):
        in_fork(twin, f"{TASKS}:fetch", spec="folder:1", data_dir=str(data_dir))


def _is_of_kind(twin: Twin, kind: str, **more: str) -> Fault:
    """The default datastore is answered for as one of another kind."""
    body: Json = twin.workspace.datastore_body(BLOB_STORE, ACCOUNT)
    body["properties"] |= {"datastoreType": kind, **more}
    return Fault("GET", "datastores/*", Reply(body=body), None)


def test_an_asset_in_data_lake_storage_is_read_through_its_blobs(twin: Twin, in_fork: InFork, data_dir: Path) -> None:
    in_fork(twin, f"{TASKS}:register_untagged", name="lake", tags={})
    twin.faults.add(_is_of_kind(twin, "AzureDataLakeGen2", filesystem=twin.workspace.containers[BLOB_STORE]))
    assert in_fork(twin, f"{TASKS}:fetch", spec="lake:1", data_dir=str(data_dir))["text"] == "{}\n"


def test_an_asset_where_no_blobs_are_is_refused(twin: Twin, in_fork: InFork, data_dir: Path) -> None:
    in_fork(twin, f"{TASKS}:register_untagged", name="share", tags={})
    twin.faults.add(_is_of_kind(twin, "AzureFile", fileShareName="share"))
    with pytest.raises(
        Failed, match=rf"share:1: its file cannot be fetched \(the datastore {BLOB_STORE} is neither"
    ) as no:
        in_fork(twin, f"{TASKS}:fetch", spec="share:1", data_dir=str(data_dir))
    assert no.value.type == "DatasetError"
    assert "give --dataset the file" in str(no.value)


def test_blobs_are_found_by_file_and_by_folder_without_neighbours(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    target = tmp_path / "b.txt"
    found = in_fork(twin, f"{TASKS}:blobs", target=str(target))
    root = f"azureml://datastores/{BLOB_STORE}/paths/tests/folder"
    assert found == {"folder": [f"{root}/a.txt", f"{root}/deep/b.txt"], "file": [f"{root}/a.txt"]}
    assert target.read_text(encoding="utf-8") == "folder/deep/b.txt"


@pytest.mark.parametrize("fault", [cut("GET", "blob/*"), server_error("GET", "blob/*", status=503)])
def test_a_download_that_is_cut_is_tried_again(twin: Twin, in_fork: InFork, tmp_path: Path, fault: object) -> None:
    twin.faults.add(fault)  # type: ignore[arg-type]
    uri = f"azureml://datastores/{BLOB_STORE}/paths/tests/x.txt"
    arguments = {"uri": uri, "target": str(tmp_path / "x.txt"), "content": "x"}
    assert in_fork(twin, f"{TASKS}:bring_blob", hurry=True, **arguments) == "x"


@pytest.mark.parametrize(
    ("content", "md5", "words"),
    [(None, False, r"tests/x\.txt: is not in the datastore"), ("x", True, "its MD5 differs from the stored one")],
    ids=["missing", "changed"],
)
def test_a_blob_that_is_missing_or_changed_leaves_no_file(
    twin: Twin, in_fork: InFork, tmp_path: Path, content: str | None, md5: bool, words: str
) -> None:
    target = tmp_path / "in" / "x.txt"
    target.parent.mkdir()
    uri = f"azureml://datastores/{BLOB_STORE}/paths/tests/x.txt"
    with pytest.raises(Failed, match=words) as failed:
        in_fork(twin, f"{TASKS}:bring_blob", uri=uri, target=str(target), content=content, md5=md5)
    assert failed.value.type == "DownloadFailed"
    assert list(target.parent.iterdir()) == []


def test_a_datastore_that_is_not_there_is_refused(twin: Twin, in_fork: InFork, tmp_path: Path) -> None:
    uri = "azureml://datastores/nowhere/paths/x.txt"
    with pytest.raises(Failed, match="cannot open the datastore nowhere") as failed:
        in_fork(twin, f"{TASKS}:bring_blob", uri=uri, target=str(tmp_path / "x"))
    assert failed.value.type == "WorkspaceRejected"
