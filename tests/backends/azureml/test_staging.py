"""What is written for the SDK is what was hashed, and a file that cannot be is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmlu_pipe.backends.azureml.register import refuse_changed_inputs
from mmlu_pipe.backends.azureml.render import data_asset, versions
from mmlu_pipe.backends.azureml.staging import stage, written
from mmlu_pipe.backends.azureml.submission import Asset
from mmlu_pipe.errors import SubmissionBlocked
from mmlu_pipe.hashing import sha256_file
from tests.backends.azureml.tasks_register import sent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "staged").mkdir()
    return tmp_path / "staged"


def data(path: Path) -> Asset:
    path.write_text("{}\n", encoding="utf-8")
    return data_asset(path, versions("content"))


def test_a_file_that_is_saved_after_it_was_hashed_is_not_sent(tmp_path: Path, folder: Path) -> None:
    asset = data(tmp_path / "my.jsonl")
    (tmp_path / "my.jsonl").write_text("[]\n", encoding="utf-8")
    with pytest.raises(SubmissionBlocked, match=r"not submitted:\n  .*my\.jsonl: has changed since it was checked"):
        stage(asset, folder)


def test_a_submission_of_other_files_than_those_that_were_checked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    data(path)
    planned = sent(dataset=str(path))
    checked = {"dataset": sha256_file(path), "guidance_program": planned.assets[0].sha256, "cassette": "0" * 64}
    refuse_changed_inputs(planned, checked)
    with pytest.raises(SubmissionBlocked, match=r"my\.jsonl: has changed since it was checked; run the command again"):
        refuse_changed_inputs(planned, checked | {"dataset": "0" * 64})


@pytest.mark.parametrize("gone", ["source", "folder"])
def test_a_file_that_cannot_be_read_or_written_is_told(tmp_path: Path, folder: Path, gone: str) -> None:
    asset = data(tmp_path / "my.jsonl")
    if gone == "source":
        (tmp_path / "my.jsonl").unlink()
    else:
        folder.rmdir()
    with pytest.raises(SubmissionBlocked, match=r"cannot be read or written \(No such file or directory\)"):
        stage(asset, folder)
    with pytest.raises(SubmissionBlocked, match="cannot be read or written"):
        written({}, tmp_path / "nowhere" / "job.yml")


@pytest.mark.parametrize("name", ["code", "component.yml", "job.yml", "d" * 255])
def test_no_name_of_a_dataset_stands_in_the_way_of_what_else_goes_up(tmp_path: Path, folder: Path, name: str) -> None:
    asset = data(tmp_path / name)
    document = stage(asset, folder)
    (component,) = (found for found in sent().assets if found.name == "jsonl_guidance_aoai")
    stage(component, folder)
    assert (folder / "code" / "mmlu_pipe" / "__init__.py").is_file()
    assert (document.parent / str(asset.document["path"])).read_text(encoding="utf-8") == "{}\n"
