import os
import random
import shutil
import threading

import pytest
from vcr.serializers import yamlserializer

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording import cassette as cassette_module
from mmlu_pipe.recording import index
from mmlu_pipe.recording.cassette import Cassette
from tests.recording.test_cassette import exchange, identity, keep, vcrpys


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of indexes, which are kept for cassettes of any size."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_WORTH_IT", 0)
    return tmp_path / "cache" / "mmlu-pipe" / "cassettes"


@pytest.fixture
def folder(tmp_path, cache):
    """A cassette of two shards, with its index."""
    made = Cassette(tmp_path / "tape")
    for number in range(6):
        keep(made, f"question {number}", line=number, shard="anatomy" if number < 4 else "botany")
    keep(made, "question 0", occurrence=1, answer="again")
    made.finish()
    (made.folder / "theirs.yaml").write_text(vcrpys("their question"), encoding="utf-8")
    (made.folder / "flow.yaml").write_text(
        yamlserializer.serialize({"version": 1, "interactions": [exchange("flow").to_item()]}).replace("\n", "\r\n"),
        encoding="utf-8",
        newline="",
    )
    assert len(Cassette(made.folder)) == 9
    return made.folder


KEYS = {
    **{(identity(f"question {number}"), 0): exchange(f"question {number}") for number in range(6)},
    (identity("question 0"), 1): exchange("question 0", "again"),
    (identity("their question"), 0): exchange("their question", "their their question"),
    (identity("flow"), 0): exchange("flow"),
}


def plays(folder):
    cassette = Cassette(folder)
    assert len(cassette) == len(KEYS)
    for key, expected in KEYS.items():
        assert cassette.find(key, 1) == expected


def no_parsing(monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("a shard was parsed")

    monkeypatch.setattr(cassette_module, "parse_shard", refuse)
    monkeypatch.setattr(cassette_module, "read_shard", refuse)


def test_an_unchanged_cassette_is_opened_without_yaml_and_plays_single_items(folder, cache, monkeypatch):
    (kept,) = cache.iterdir()
    assert b"question" not in kept.read_bytes()
    plays(folder)
    no_parsing(monkeypatch)
    parsed = []
    whole = cassette_module.parse_item
    monkeypatch.setattr(cassette_module, "parse_item", lambda piece: parsed.append(piece) or whole(piece))
    cassette = Cassette(folder)
    assert not parsed
    for key in [(identity("question 4"), 0), (identity("question 0"), 1), (identity("their question"), 0)]:
        assert cassette.find(key, 1) == KEYS[key]
    assert len(parsed) == 3
    with pytest.raises(AssertionError, match="was parsed"):
        cassette.find((identity("flow"), 0), 1)  # its items cannot be read one by one


def test_the_index_follows_the_content_whatever_the_time_and_size(folder, monkeypatch):
    path = folder / "anatomy.yaml"
    stat, before = path.stat(), path.read_bytes()
    path.write_bytes(before.replace(b"question 3", b"question 7"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    cassette = Cassette(folder)
    assert cassette.find((identity("question 3"), 0), 1) is None
    assert cassette.find((identity("question 7"), 0), 1) == exchange("question 7")
    path.write_bytes(before)
    plays(folder)
    os.utime(path)
    no_parsing(monkeypatch)
    Cassette(folder)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "binary", "old", "folder", "gone", "swapped"])
def test_a_damaged_index_is_done_without_and_made_again(folder, cache, damage, monkeypatch, caplog):
    (kept,) = cache.iterdir()
    good = kept.read_bytes()
    bad = {
        "empty": b"",
        "cut": good[:-20],
        "flipped": good.replace(b",true,", b",false,", 1),
        "binary": bytes(range(256)) * 9,
        "old": good.replace(b"cassette index ", b"cassette index 0", 1),
        "swapped": good.splitlines()[0] + b"\n{}",
    }
    kept.unlink()
    if damage == "folder":
        kept.mkdir()
    elif damage != "gone":
        kept.write_bytes(bad[damage])
    for _ in range(2):
        plays(folder)
    assert not caplog.records
    if damage != "folder":
        assert kept.read_bytes() == good
    assert [path.name for path in cache.iterdir()] == [kept.name]


def test_where_no_index_can_be_kept_it_is_done_without(folder, cache):
    shutil.rmtree(cache)
    cache.write_text("a file", encoding="utf-8")
    for _ in range(2):
        plays(folder)


def test_the_index_is_of_the_folder_and_never_in_it(folder, cache, tmp_path):
    before = sorted(path.name for path in folder.iterdir())
    copy = shutil.copytree(folder, tmp_path / "copy")
    plays(copy)
    assert len(list(cache.iterdir())) == 2
    assert sorted(path.name for path in copy.iterdir()) == before
    (copy / "anatomy.yaml").unlink()
    assert len(Cassette(copy)) == 5
    plays(folder)


def test_small_cassettes_keep_no_index_and_old_indexes_go(folder, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_KEPT", 2)
    for name in "abc":
        plays(shutil.copytree(folder, tmp_path / name))
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(index, "_WORTH_IT", 1_000_000)
    shutil.rmtree(cache)
    plays(folder)
    assert not cache.exists()


def test_a_shard_that_changes_while_it_is_open_plays_right_or_not_at_all(folder):
    cassette = Cassette(folder)
    path = folder / "anatomy.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"# moved\n{text}", encoding="utf-8")
    assert cassette.find((identity("question 1"), 0), 1) == exchange("question 1")
    path.write_text(text.replace("question 2", "question 8"), encoding="utf-8")
    cassette = Cassette(folder)
    path.unlink()
    with pytest.raises(RecordingError, match=r"anatomy\.yaml"):
        cassette.find((identity("question 8"), 0), 1)


def test_32_threads_in_any_order_get_no_wrong_answer(tmp_path, cache):
    made = Cassette(tmp_path / "tape")
    for number in range(300):
        keep(made, f"question {number}", line=number, shard=f"s {number % 7}", answer=f"answer {number}")
    made.finish()
    asked = [number % 300 for number in range(10_000)]
    random.Random(7).shuffle(asked)
    cassette, wrong = Cassette(made.folder), []

    def work(numbers):
        for number in numbers:
            found = cassette.find((identity(f"question {number}"), 0), number)
            if found != exchange(f"question {number}", f"answer {number}"):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(asked[start::32],)) for start in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cassette.used == 300
