from __future__ import annotations

from pathlib import Path

import pytest

from mmlu_pipe.bundled import SAMPLE_DATASETS
from mmlu_pipe.dataset.locate import locate, subject_and_split
from mmlu_pipe.errors import DatasetError


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one dataset, seen from an empty working folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "mmlu_anatomy_test.jsonl").touch()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


def message_for(name: str, data_dir: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        locate(name, data_dir)
    return str(caught.value)


@pytest.mark.parametrize("name", ["sample", "sample_dev"])
def test_bundled_names(name: str, data_dir: Path) -> None:
    (data_dir / f"{name}.jsonl").touch()
    assert locate(name, data_dir) == SAMPLE_DATASETS[name]
    assert SAMPLE_DATASETS[name].is_file()


def test_a_path_is_taken_as_it_is(data_dir: Path) -> None:
    Path("here.jsonl").touch()
    absolute = data_dir / "mmlu_anatomy_test.jsonl"
    assert locate("here.jsonl", data_dir) == Path("here.jsonl")
    assert locate("./here.jsonl", data_dir) == Path("here.jsonl")
    assert locate(str(absolute), data_dir) == absolute
    assert locate("../data/mmlu_anatomy_test.jsonl", data_dir).samefile(absolute)


def test_a_name_is_looked_for_in_the_data_folder(data_dir: Path) -> None:
    assert locate("mmlu_anatomy_test", data_dir) == data_dir / "mmlu_anatomy_test.jsonl"


def test_a_file_goes_before_a_name(data_dir: Path) -> None:
    Path("mmlu_anatomy_test").touch()
    assert locate("mmlu_anatomy_test", data_dir) == Path("mmlu_anatomy_test")


def test_a_folder_of_the_same_name_does_not_hide_the_dataset(data_dir: Path) -> None:
    Path("mmlu_anatomy_test").mkdir()
    assert locate("mmlu_anatomy_test", data_dir) == data_dir / "mmlu_anatomy_test.jsonl"


def test_a_misspelt_name_gets_its_neighbours_and_the_command(data_dir: Path) -> None:
    message = message_for("mmlu_anatmy_test", data_dir)
    assert str(data_dir / "mmlu_anatmy_test.jsonl") in message
    assert "did you mean mmlu_anatomy_test?" in message
    assert "mmlu-pipe create-dataset --mmlu-dataset anatmy --split test" in message
    assert "did you mean sample" in message_for("smaple", data_dir)
    assert "did you mean mmlu_anatomy_test?" in message_for("mmlu_anatomy_test.jsonl", data_dir)


def test_a_name_like_nothing_gets_the_known_ones(data_dir: Path) -> None:
    assert message_for("zzz", data_dir).endswith("known by name: mmlu_anatomy_test, sample, sample_dev")
    assert message_for("zzz", data_dir / "none").endswith("known by name: sample, sample_dev")


@pytest.mark.parametrize("name", ["sub/mmlu_x", "../mmlu_anatomy_test", "..", ".", "", "a\\b", "a\0b", "/", "x" * 5000])
def test_only_a_plain_name_is_looked_for_in_the_data_folder(name: str, data_dir: Path) -> None:
    (data_dir / "sub").mkdir()
    (data_dir / "sub" / "mmlu_x.jsonl").touch()
    assert repr(name) in message_for(name, data_dir)


def test_a_folder_is_called_a_folder(data_dir: Path) -> None:
    assert "is a folder" in message_for(str(data_dir), data_dir)
    assert "no such file" in message_for(str(data_dir / "none.jsonl"), data_dir)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mmlu_anatomy_test", ("anatomy", "test")),
        ("mmlu_high_school_physics_validation", ("high_school_physics", "validation")),
        ("mmlu_all_dev", ("all", "dev")),
        ("mmlu_test_test", ("test", "test")),
        ("mmlu_anatomy_train", None),
        ("anatomy_test", None),
        ("mmlu__test", None),
        ("mmlu_x; rm -rf_test", None),
    ],
)
def test_the_subject_and_split_of_a_name(name: str, expected: tuple[str, str] | None) -> None:
    assert subject_and_split(name) == expected
