"""Datastore URIs lead to blobs, and files go there and back unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmlu_pipe.rehearsal import Azurite, Workspace
from mmlu_pipe.rehearsal.datastores import Place, Stores
from mmlu_pipe.rehearsal.storage import BLOB_HOST


@pytest.fixture
def workspace() -> Workspace:
    return Workspace()


@pytest.fixture
def stores(azurite: Azurite, workspace: Workspace) -> Stores:
    return Stores(workspace, azurite)


def test_every_spelling_of_a_place_leads_to_it(stores: Stores, workspace: Workspace) -> None:
    container = workspace.containers["workspaceblobstore"]
    tail = "datastores/workspaceblobstore/paths/a/b.txt"
    for uri in (
        f"azureml://{tail}",
        f"azureml://{workspace.short_id}/{tail}",
        f"azureml://subscriptions/s/resourceGroups/g/providers/P/workspaces/w/{tail}",
        f"https://{BLOB_HOST}/{container}/a/b.txt",
        f"https://{BLOB_HOST}:443/{container}/a/b.txt",
    ):
        assert stores.place(uri) == Place(container, "a/b.txt")


@pytest.mark.parametrize(
    "uri",
    ["azureml://datastores/other/paths/a", "https://example.org/a/b", "runs:/a", "", "azureml://jobs/a/outputs/b"],
)
def test_a_place_outside_the_workspace_is_not_found(stores: Stores, uri: str) -> None:
    with pytest.raises(FileNotFoundError, match="in no datastore"):
        stores.place(uri)


def test_a_folder_goes_and_comes_back_without_its_neighbours(
    stores: Stores, workspace: Workspace, tmp_path: Path
) -> None:
    container = workspace.containers["workspaceblobstore"]
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    files = {"a.txt": b"a", "deep/er/ü.bin": bytes(range(256)), "deep/empty": b""}
    for name, content in files.items():
        (source / name).write_bytes(content)
    stores.write(source, Place(container, "folder"))
    stores.write(source / "a.txt", Place(container, "folder2/neighbour.txt"))
    for prefix in ("folder", "folder/"):
        target = tmp_path / f"from {prefix.strip('/')}{len(prefix)}"
        stores.read(Place(container, prefix), target)
        found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
        assert {name: path.read_bytes() for name, path in found.items()} == files


def test_one_blob_comes_under_its_own_name(stores: Stores, workspace: Workspace, tmp_path: Path) -> None:
    place = Place(workspace.containers["workspaceblobstore"], "one/name.txt")
    (tmp_path / "x").write_bytes(b"x")
    stores.write(tmp_path / "x", place)
    assert stores.read(place, tmp_path / "in") == [tmp_path / "in" / "name.txt"]


def test_a_blob_cannot_be_written_outside_its_folder(stores: Stores, workspace: Workspace, tmp_path: Path) -> None:
    container = workspace.containers["workspaceblobstore"]
    stores.storage.put(container, "bad/x/..%2F..%2Fescaped".replace("%2F", "/"), b"x")
    with pytest.raises(FileNotFoundError, match=r"would leave its folder|there is nothing"):
        stores.read(Place(container, "bad/x/"), tmp_path / "in")
    assert not (tmp_path / "escaped").exists()


def test_what_is_not_there_is_not_found(stores: Stores, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is nothing at"):
        stores.read(Place(workspace.containers["workspaceblobstore"], "none"), tmp_path)
