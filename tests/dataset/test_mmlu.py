from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mmlu_pipe
from mmlu_pipe.dataset.locate import locate, subject_and_split
from mmlu_pipe.dataset.mmlu import DEFAULT_REVISION, SPLITS, create_dataset
from mmlu_pipe.dataset.schema import check_dataset
from mmlu_pipe.errors import ConfigError, DatasetError
from tests.servers.hub import LoopbackHub, mmlu_repository

SUBJECTS = ("cheese_making", "knots")
SUFFIXES = {"test": "test", "validation": "val", "dev": "dev"}
CHOICES = ['a "quoted", one', "two\r\nlines", "drei, größer", " blanks "]


def questions(subject: str, split: str, count: int = 3) -> list[dict[str, Any]]:
    return [
        {"question": f"{subject}, {split} {n}:\nwhich?", "subject": subject, "choices": CHOICES, "answer": n % 4}
        for n in range(count)
    ]


def expected_lines(*subjects: str, split: str = "test") -> list[dict[str, Any]]:
    return [
        {
            "dataset": "mmlu",
            "subject": row["subject"],
            "question": row["question"],
            "choices": row["choices"],
            "correct_answer": row["answer"],
        }
        for subject in subjects
        for row in questions(subject, split)
    ]


def lines_of(path: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_bytes().split(b"\n") if line]


def write_jsonl(path: Path, *rows: object, prefix: bytes = b"") -> Path:
    path.write_bytes(prefix + b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return path


@pytest.fixture
def csv_folder(tmp_path: Path) -> Path:
    """The original layout: no header, the answer as a letter."""
    folder = tmp_path / "hendrycks"
    for split, suffix in SUFFIXES.items():
        (folder / suffix).mkdir(parents=True)
        for subject in SUBJECTS:
            with (folder / suffix / f"{subject}_{suffix}.csv").open("w", encoding="utf-8", newline="") as handle:
                csv.writer(handle).writerows(
                    [row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in questions(subject, split)
                )
    (folder / "test" / "._knots_test.csv").write_bytes(b"\0\xff what another system leaves")
    return folder


@pytest.fixture
def jsonl_file(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "mmlu_test.jsonl", *(row for name in SUBJECTS for row in questions(name, "test")))


# What all sources have in common


@pytest.mark.parametrize("kind", ["csv_folder", "jsonl_file"])
def test_one_subject(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(kind)
    created = create_dataset(mmlu_dataset="knots", split="test", source=str(source), output_dir=tmp_path / "a" / "data")
    assert created.path == tmp_path / "a" / "data" / "mmlu_knots_test.jsonl"
    assert (created.name, created.source) == ("mmlu_knots_test", str(source))
    assert (created.revision, created.commit) == (None, None)
    assert lines_of(created.path) == expected_lines("knots")
    assert list(lines_of(created.path)[0]) == ["dataset", "subject", "question", "choices", "correct_answer"]
    facts = check_dataset(created.path)
    assert (facts.lines, facts.sha256) == (created.lines, created.sha256) == (3, facts.sha256)
    assert locate(created.name, tmp_path / "a" / "data") == created.path
    assert subject_and_split(created.name) == ("knots", "test")
    assert [path.name for path in created.path.parent.iterdir()] == ["mmlu_knots_test.jsonl"]


@pytest.mark.parametrize("kind", ["csv_folder", "jsonl_file"])
def test_all_keeps_each_rows_own_subject(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(kind)
    created = create_dataset(mmlu_dataset="all", split="test", source=str(source), output_dir=tmp_path / "data")
    assert created.name == "mmlu_all_test"
    assert lines_of(created.path) == expected_lines(*SUBJECTS)


def test_sources_with_the_same_rows_give_the_same_bytes(csv_folder: Path, jsonl_file: Path, tmp_path: Path) -> None:
    made = [
        create_dataset(mmlu_dataset="all", split="test", source=str(source), output_dir=tmp_path / name)
        for name, source in {"one": csv_folder, "two": jsonl_file}.items()
    ]
    assert made[0].path.read_bytes() == made[1].path.read_bytes()


@pytest.mark.parametrize("split", ["train", "auxiliary_train", "val", "Test", ""])
def test_another_split_is_answered_with_those_that_exist(split: str, jsonl_file: Path, tmp_path: Path) -> None:
    for source in (str(jsonl_file), "cais/mmlu"):
        with pytest.raises(ConfigError, match="MMLU has test, validation, dev") as caught:
            create_dataset(mmlu_dataset="knots", split=split, source=source, output_dir=tmp_path / "data")
        assert caught.value.exit_code == 2
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["csv_folder", "jsonl_file"])
@pytest.mark.parametrize(
    ("subject", "advice"),
    [
        ("knot", "did you mean knots"),
        ("Cheese Making", "did you mean cheese_making"),
        ("zzz", "all, cheese_making, knots"),
    ],
)
def test_an_unknown_subject_gets_its_neighbours(
    kind: str, subject: str, advice: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = request.getfixturevalue(kind)
    with pytest.raises(ConfigError, match=advice) as caught:
        create_dataset(mmlu_dataset=subject, split="test", source=str(source), output_dir=tmp_path / "data")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("subject", ["", "../knots", "a/b", "a\\b", "a\0"])
def test_a_subject_is_no_path(subject: str, jsonl_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a subject's name"):
        create_dataset(mmlu_dataset=subject, split="test", source=str(jsonl_file), output_dir=tmp_path)


@pytest.mark.parametrize("source", ["none.jsonl", "data/none.jsonl", "./none", "a/b/c", "mmlu", "/none", "x" * 5000])
def test_a_source_that_is_neither_here_nor_a_repository(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        create_dataset(mmlu_dataset="knots", source=source, output_dir=tmp_path)


def test_revisions_are_of_repositories(jsonl_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is local"):
        create_dataset(
            mmlu_dataset="all", split="test", source=str(jsonl_file), revision="v1", output_dir=tmp_path / "data"
        )
    with pytest.raises(ConfigError, match="--revision: is empty"):
        create_dataset(mmlu_dataset="all", split="test", revision="", output_dir=tmp_path / "data")


def test_an_existing_file_stays_unless_overwritten(jsonl_file: Path, tmp_path: Path) -> None:
    def create(*, overwrite: bool = False) -> Path:
        return create_dataset(
            mmlu_dataset="knots", split="test", source=str(jsonl_file), output_dir=tmp_path, overwrite=overwrite
        ).path

    path = create()
    os.utime(path, (1, 1))
    assert create() == path
    assert path.stat().st_mtime == 1, "identical: left as it is"
    path.write_bytes(b"mine\n")
    with pytest.raises(ConfigError, match="exists with other content"):
        create()
    assert path.read_bytes() == b"mine\n"
    assert lines_of(create(overwrite=True)) == expected_lines("knots")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["mmlu_knots_test.jsonl", jsonl_file.name]


def test_an_output_folder_that_cannot_be(jsonl_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        create_dataset(mmlu_dataset="knots", split="test", source=str(jsonl_file), output_dir=jsonl_file / "data")
    (tmp_path / "mmlu_knots_test.jsonl").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        create_dataset(mmlu_dataset="knots", split="test", source=str(jsonl_file), output_dir=tmp_path, overwrite=True)


def test_an_interrupted_write_leaves_nothing(jsonl_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Path, target: Path) -> None:
        assert self.read_bytes(), "the whole content is in the temporary file before it gets its name"
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create_dataset(mmlu_dataset="knots", split="test", source=str(jsonl_file), output_dir=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


# The original CSV files


@pytest.mark.parametrize("split", SPLITS)
def test_csv_splits_are_found_under_their_short_names(split: str, csv_folder: Path, tmp_path: Path) -> None:
    created = create_dataset(mmlu_dataset="knots", split=split, source=str(csv_folder), output_dir=tmp_path)
    assert lines_of(created.path) == expected_lines("knots", split=split)


def test_csv_with_a_byte_order_mark(csv_folder: Path, tmp_path: Path) -> None:
    path = csv_folder / "test" / "knots_test.csv"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    created = create_dataset(mmlu_dataset="knots", split="test", source=str(csv_folder), output_dir=tmp_path)
    assert lines_of(created.path) == expected_lines("knots")


def test_all_bad_csv_rows_are_listed_with_the_line_they_start_at(csv_folder: Path, tmp_path: Path) -> None:
    (csv_folder / "test" / "knots_test.csv").write_bytes(
        b'"two\nlines",a,b,c,d,A\n'  # good, lines 1 and 2
        b"question,A,B,C,D,answer\n"
        b"too,few,columns\n\n"
        b'"also\ntwo",a,b,c,d,E\n'
        b",a,b,c,d,B\n"
    )
    (csv_folder / "test" / "cheese_making_test.csv").write_bytes(b"caf\xe9,a,b,c,d,A\n")
    with pytest.raises(DatasetError) as caught:
        create_dataset(mmlu_dataset="all", split="test", source=str(csv_folder), output_dir=tmp_path / "data")
    head, *listed = str(caught.value).split("\n")
    assert "5 bad rows" in head
    assert [line.split(": ")[0].strip() for line in listed] == [
        "cheese_making_test.csv",
        *(f"knots_test.csv line {number}" for number in (3, 4, 6, 8)),
    ]
    assert "is not UTF-8" in listed[0]
    assert 'answer is "answer"' in listed[1]
    assert "has 3 columns" in listed[2]
    assert 'answer is "E"' in listed[3]
    assert 'question is ""' in listed[4]
    assert not (tmp_path / "data").exists()


def test_a_csv_cell_beyond_the_readers_limit(csv_folder: Path, tmp_path: Path) -> None:
    (csv_folder / "test" / "knots_test.csv").write_bytes(b"x" * 200_000)
    with pytest.raises(DatasetError, match=r"knots_test\.csv line 1: is not CSV"):
        create_dataset(mmlu_dataset="knots", split="test", source=str(csv_folder), output_dir=tmp_path)


def test_folders_that_are_not_the_original_layout(csv_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has none of the folders test, val, dev"):
        create_dataset(mmlu_dataset="knots", source=str(csv_folder / "test"), output_dir=tmp_path)
    with pytest.raises(ConfigError, match="give the folder"):
        create_dataset(
            mmlu_dataset="knots", source=str(csv_folder / "test" / "knots_test.csv"), output_dir=tmp_path / "data"
        )
    for path in (csv_folder / "val").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="has no question"):
        create_dataset(mmlu_dataset="all", source=str(csv_folder), output_dir=tmp_path)
    (csv_folder / "val").rmdir()
    with pytest.raises(ConfigError, match="has only test, dev"):
        create_dataset(mmlu_dataset="knots", source=str(csv_folder), output_dir=tmp_path)


# A JSONL file


def test_answers_as_index_digit_or_letter_under_either_key(tmp_path: Path) -> None:
    base = {"subject": "knots", "question": "?", "choices": CHOICES}
    answers = [{"answer": 2}, {"answer": "C"}, {"answer": " c "}, {"answer": "2"}, {"correct_answer": "C"}]
    answers.append({"answer": "C", "correct_answer": 2})
    source = write_jsonl(tmp_path / "in.jsonl", *(base | answer for answer in answers), prefix=codecs.BOM_UTF8)
    created = create_dataset(mmlu_dataset="knots", source=str(source), output_dir=tmp_path)
    assert [line["correct_answer"] for line in lines_of(created.path)] == [2] * len(answers)


def test_all_bad_jsonl_rows_are_listed(tmp_path: Path) -> None:
    good = questions("knots", "test")[0]
    bad: list[dict[str, Any]] = [
        good | {"answer": 4},
        good | {"answer": True},
        good | {"answer": "AB"},
        good | {"choices": ["a", "b", "c"]},
        good | {"choices": ["a", "b", "c", 4]},
        good | {"question": None},
        good | {"subject": None},
        good | {"answer": 0, "correct_answer": "B"},
        {"subject": "knots", "question": "?", "choices": CHOICES},
    ]
    source = write_jsonl(tmp_path / "in.jsonl", good, *bad)
    with source.open("ab") as handle:
        handle.write(b'{"subject": \n')
    with pytest.raises(DatasetError) as caught:
        create_dataset(mmlu_dataset="knots", source=str(source), output_dir=tmp_path / "data")
    head, *listed = str(caught.value).split("\n")
    assert f"{len(bad) + 1} bad rows" in head
    assert [line.split(":")[0] for line in listed] == [f"  line {number}" for number in range(2, len(bad) + 3)]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("stem", ["dev", "mmlu_knots_dev", "mmlu-dev"])
def test_a_file_named_after_another_split_is_refused(stem: str, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / f"{stem}.jsonl", *questions("knots", "dev"))
    with pytest.raises(ConfigError, match="give --split dev"):
        create_dataset(mmlu_dataset="knots", split="validation", source=str(source), output_dir=tmp_path / "data")
    assert (
        create_dataset(mmlu_dataset="knots", split="dev", source=str(source), output_dir=tmp_path / "data").lines == 3
    )


REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mmlu"


@pytest.mark.parametrize("split", ["invented", *(name for name in SPLITS if (REAL / f"{name}.jsonl").exists())])
def test_every_row_of_a_file_arrives_in_order(split: str, tmp_path: Path) -> None:
    if split == "invented":
        split, rows = "test", [row for subject in SUBJECTS for row in questions(subject, "test", 10)]
        source = write_jsonl(tmp_path / "in.jsonl", *rows)
    else:
        source = REAL / f"{split}.jsonl"
        rows = lines_of(source)
    created = create_dataset(mmlu_dataset="all", split=split, source=str(source), output_dir=tmp_path / "data")
    assert created.lines == check_dataset(created.path).lines == len(rows)
    for row, line in zip(rows, lines_of(created.path), strict=True):
        assert [line[key] for key in ("subject", "question", "choices", "correct_answer")] == [
            row[key] for key in ("subject", "question", "choices", "answer")
        ]


# The hub: the real client in its own process, against a hub on loopback

CLIENT = """
import dataclasses, json, pathlib, sys
from mmlu_pipe.dataset.mmlu import create_dataset
from mmlu_pipe.errors import MmluPipeError
options = json.loads(sys.argv[1])
try:
    created = create_dataset(**options | {"output_dir": pathlib.Path("data")})
    print(json.dumps(dataclasses.asdict(created), default=str))
except MmluPipeError as error:
    print(json.dumps({"error": type(error).__name__, "exit_code": error.exit_code, "message": str(error)}))
"""
TAGGED = "0123456789abcdef0123456789abcdef01234567"


class Client:
    """Calls `create_dataset` in a process of its own, with a cache of its own: the hub's address is read at import."""

    def __init__(self, home: Path, url: str) -> None:
        self.folder = home
        self.url = url
        self.stderr = ""

    def create(self, *, env: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        own = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.folder / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HOME": str(self.folder),
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(Path(mmlu_pipe.__file__).parents[1]),
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, json.dumps(options)],
            cwd=self.folder,
            env=inherited | own | (env or {}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )
        self.stderr = done.stderr
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def refused(self, **options: Any) -> str:
        result = self.create(**options)
        assert result.get("exit_code") == 2, result
        assert not (self.folder / "data").exists()
        return f"{result['error']}: {result['message']}"


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    subjects = {name: {split: questions(name, split) for split in SPLITS} for name in SUBJECTS}
    everything = {split: [row for name in SUBJECTS for row in questions(name, split)] for split in SPLITS}
    everything["auxiliary_train"] = questions("", "train")
    bad = [questions("knots", "test")[0], *({**row, "answer": 7} for row in questions("knots", "test", 2))]
    repositories = {
        "cais/mmlu": mmlu_repository({"all": everything, **subjects}, commit=DEFAULT_REVISION),
        "other/mmlu": mmlu_repository({**subjects, "short": {"test": questions("short", "test")}}, commit=TAGGED),
        "other/bad": mmlu_repository({"knots": {"test": bad}}, commit=TAGGED, labelled=False),
        "other/gated": mmlu_repository(subjects, commit=TAGGED, gated=True),
    }
    repositories["other/mmlu"].refs = ("main", "v1")
    with LoopbackHub(repositories) as server:
        yield server


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> Client:
    hub.requests.clear()
    return Client(tmp_path, hub.url)


KINDS = ("revision", "tree", "resolve", "paths-info")


def revisions_asked(hub: LoopbackHub) -> set[str]:
    return {
        path.split(f"/{kind}/")[1].split("/")[0] for _, path in hub.requests for kind in KINDS if f"/{kind}/" in path
    }


def test_the_default_repository_is_asked_for_the_pinned_revision(hub: LoopbackHub, client: Client) -> None:
    created = client.create(mmlu_dataset="knots", split="test")
    path = client.folder / created["path"]
    assert lines_of(path) == expected_lines("knots")
    assert created["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (created["source"], created["revision"], created["commit"]) == ("cais/mmlu", *[DEFAULT_REVISION] * 2)
    assert hub.requests
    assert all(f"/{DEFAULT_REVISION}" in path for _, path in hub.requests)
    assert "split" not in client.stderr, "no progress bars where nobody watches"
    assert (client.folder / "hf").is_dir(), "HF_HOME is honoured"


def test_all_of_the_hub_keeps_subjects_and_leaves_training_rows(client: Client, csv_folder: Path) -> None:
    created = client.create(mmlu_dataset="all", split="validation")
    content = (client.folder / created["path"]).read_bytes()
    local = create_dataset(
        mmlu_dataset="all", split="validation", source=str(csv_folder), output_dir=client.folder / "local"
    )
    assert content == local.path.read_bytes()


def test_another_repository_at_a_tag_and_unpinned(hub: LoopbackHub, client: Client) -> None:
    created = client.create(mmlu_dataset="knots", split="dev", source="other/mmlu", revision="v1")
    assert (created["revision"], created["commit"]) == ("v1", TAGGED)
    assert revisions_asked(hub) == {"v1", TAGGED}
    hub.requests.clear()
    again = client.create(mmlu_dataset="knots", split="dev", source="other/mmlu")
    assert (again["revision"], again["commit"]) == (None, TAGGED)
    assert again["sha256"] == created["sha256"]
    assert revisions_asked(hub) == {TAGGED}, "what main was is asked once, the rest at that commit"


def test_all_of_a_repository_without_that_config_is_its_subjects_together(client: Client) -> None:
    created = client.create(mmlu_dataset="all", split="test", source="other/mmlu")
    subjects = [line["subject"] for line in lines_of(client.folder / created["path"])]
    assert subjects == [name for name in (*SUBJECTS, "short") for _ in range(3)]


def test_what_the_hub_does_not_have(client: Client) -> None:
    message = client.refused(mmlu_dataset="knot", split="test")
    assert message.startswith("ConfigError: --mmlu-dataset knot: cais/mmlu at revision c30699e")
    assert message.endswith("did you mean knots?")
    message = client.refused(mmlu_dataset="short", split="dev", source="other/mmlu")
    assert message == "ConfigError: --split dev: other/mmlu has test"
    message = client.refused(mmlu_dataset="knots", revision="v9")
    assert message.startswith("ConfigError: --revision v9: cais/mmlu has no such")
    message = client.refused(mmlu_dataset="knots", source="other/none")
    assert message.startswith("ConfigError: --source other/none: no such public dataset")
    message = client.refused(mmlu_dataset="knots", source="other/gated")
    assert "HF_TOKEN" in message


def test_bad_rows_of_the_hub_are_listed(client: Client) -> None:
    message = client.refused(mmlu_dataset="knots", split="test", source="other/bad")
    assert "DatasetError: other/bad: 2 bad rows" in message
    assert [line.split(":")[0] for line in message.split("\n")[1:]] == ["  knots row 2", "  knots row 3"]


def test_an_unreachable_hub_is_reported_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    client = Client(tmp_path, url)
    message = client.refused(mmlu_dataset="knots")
    assert message.startswith(f"DatasetError: cais/mmlu at revision {DEFAULT_REVISION}: the hub cannot be reached")
    assert "--source FOLDER" in message
    assert "\n" not in message
    assert "Retrying" not in client.stderr


def test_offline_only_the_pinned_commit_counts(client: Client) -> None:
    offline = {"HF_HUB_OFFLINE": "1"}
    assert "cannot be loaded" in client.refused(mmlu_dataset="knots", env=offline)
    online = client.create(mmlu_dataset="knots")
    content = (client.folder / online["path"]).read_bytes()
    (client.folder / "data").rename(client.folder / "before")
    again = client.create(mmlu_dataset="knots", env=offline)
    assert (client.folder / again["path"]).read_bytes() == content
    assert again == online
    (client.folder / "data").rename(client.folder / "again")
    message = client.refused(mmlu_dataset="knots", revision=TAGGED, env=offline)
    assert message == (
        f"DatasetError: cais/mmlu: the hub did not give revision {TAGGED}, and the cache holds only {DEFAULT_REVISION}"
    )
    assert "only a full commit" in client.refused(mmlu_dataset="knots", revision="main", env=offline)


def test_without_the_hubs_client_the_message_has_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r'pip install "datasets>=4"') as caught:
        create_dataset(mmlu_dataset="knots", output_dir=tmp_path / "data")
    assert caught.value.exit_code == 2


def test_the_hubs_client_is_imported_only_for_the_hub(jsonl_file: Path, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from mmlu_pipe.dataset.locate import locate\n"
        "from mmlu_pipe.dataset.mmlu import create_dataset\n"
        "create_dataset(mmlu_dataset='all', split='test', source=sys.argv[1], output_dir=pathlib.Path('data'))\n"
        "print({'datasets', 'huggingface_hub', 'pyarrow', 'numpy'} & set(sys.modules))\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(mmlu_pipe.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(jsonl_file)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")


def test_a_plugin_adds_a_source_of_its_own(tmp_path: Path) -> None:
    from collections.abc import Callable

    from mmlu_pipe.dataset.loader import Loaded, Row, Wanted
    from mmlu_pipe.plugins import hookimpl, manager

    class Exam:
        def accepts(self, source: str) -> bool:
            return source.startswith("exam:")

        def load(self, wanted: Wanted) -> Loaded:
            return Loaded([Row("row 1", wanted.subject, f"What is in {wanted.source}?", ["a", "b", "c", "d"], "C")])

    class Plugin:
        @hookimpl
        def register_dataset_loaders(self, register: Callable[[str, Any], None]) -> None:
            register("exam", Exam())

    manager().register(plugin := Plugin())
    try:
        created = create_dataset(mmlu_dataset="law", split="dev", source="exam:2020", output_dir=tmp_path)
    finally:
        manager().unregister(plugin)
    assert json.loads(created.path.read_text(encoding="utf-8"))["correct_answer"] == 2
