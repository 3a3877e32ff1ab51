import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import vcr.cassette
import vcr.errors
import vcr.serialize
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from vcr.record_mode import RecordMode
from vcr.request import Request
from vcr.serializers import yamlserializer

from mmlu_pipe.errors import CassetteMiss, RecordingError
from mmlu_pipe.recording import index, provenance
from mmlu_pipe.recording.cassette import Cassette, Exchange
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.recording.index import Unused
from mmlu_pipe.recording.nearest import difference_kind
from mmlu_pipe.recording.shards import HEADER, dump_item, parse_shard, shard_name
from mmlu_pipe.records import Endpoint
from tests.conftest import ROOT

MODEL = "gpt-4o"
URI = "https://aoai.invalid/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"
NASTY = [
    "line\u2028and\u2029paragraph\x85next",
    "emoji \U0001f600\U0001f1ea\U0001f1fa\u200d",
    "\x00\x01\x07\x08\x0b\x0c\x1b\x1f\x7f\x9f\ufeff\ufffe\uffff",
    "a\r\nb\rc\n\n\n d \n",
    " \t leading and trailing \t ",
    "- [not]: {yaml} # 'at' \"all\" %TAG !!python/object/apply:os.system ['true']",
    "--- \n...\n",
    "null",
    "~",
    "0o17",
    "1_000",
    "=",
    "",
    "tab\tand \\ backslash \\u2028 \\x00",
    "\u05d0\u202e rtl",
    '"id":"chatcmpl-7"',
]


def asked(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0} | more


def identity(text, **more):
    return request_hash(asked(text, **more), MODEL)


def exchange(text, answer="answer", **more):
    content = json.dumps({"choices": [{"message": {"content": answer}, "finish_reason": "stop"}]}, ensure_ascii=False)
    body = json.dumps(asked(text, **more), ensure_ascii=False)
    return Exchange(URI, body, 200, "OK", "application/json", content)


def keep(cassette, text, *, line=1, occurrence=0, shard="astronomy", answer="answer"):
    cassette.keep((identity(text), occurrence), shard, line, exchange(text, answer))


def answers(folder):
    """What a fresh cassette of the folder plays, by question and occurrence."""
    cassette = Cassette(folder)
    return {
        (json.loads(found.request_body)["messages"][0]["content"], key[1]): json.loads(found.response_body)["choices"][
            0
        ]["message"]["content"]
        for key in list(cassette._places)
        if (found := cassette.find(key, 1)) is not None
    }


def in_order(path):
    """The questions of a shard in the order of the file."""
    items = yamlserializer.deserialize(path.read_text(encoding="utf-8"))["interactions"]
    return [json.loads(item["request"]["body"])["messages"][0]["content"] for item in items]


def in_vcrpy(path):
    """The shard as the real vcrpy loads it."""
    return vcr.cassette.Cassette.load(path=str(path), record_mode=RecordMode.NONE)


def test_what_is_kept_is_found_again_and_says_so(tmp_path):
    cassette = Cassette(tmp_path / "new")
    assert (len(cassette), cassette.used, cassette.recorded, cassette.existed) == (0, 0, 0, False)
    assert cassette.find((identity("a"), 0), 1) is None
    assert not (tmp_path / "new").exists()
    keep(cassette, "a")
    assert cassette.find((identity("a"), 0), 1) == exchange("a")
    assert (len(cassette), cassette.used, cassette.recorded, cassette.existed) == (1, 1, 1, False)
    cassette.finish()
    again = Cassette(tmp_path / "new")
    assert again.find((identity("a"), 0), 9) == exchange("a")
    assert (len(again), again.used, again.recorded, again.existed) == (1, 1, 0, True)


def test_each_exchange_is_on_disk_before_the_next_call(tmp_path):
    cassette = Cassette(tmp_path)
    sizes = []
    for number in range(5):
        keep(cassette, f"question {number}", line=number)
        content = (tmp_path / "astronomy.yaml").read_bytes()
        sizes.append(len(content))
        assert content.startswith(b"version: 1\ninteractions:\n- request:\n")
        assert len(in_vcrpy(tmp_path / "astronomy.yaml")) == number + 1
        assert len(Cassette(tmp_path)) == number + 1  # what a killed run would leave
    assert sizes == sorted(set(sizes))


def test_every_shard_is_a_cassette_of_the_real_vcrpy(tmp_path):
    cassette = Cassette(tmp_path)
    for number, text in enumerate(NASTY):
        keep(cassette, text, line=number, shard=f"subject {number % 3}", answer=text)
    keep(cassette, NASTY[0], line=1, occurrence=1, answer="again")
    for when in ("appended", "finished"):
        played = []
        for path in sorted(tmp_path.glob("*.yaml")):
            requests, responses = vcr.serialize.deserialize(path.read_text(encoding="utf-8"), yamlserializer)
            for request, response in zip(requests, responses, strict=True):
                assert (request.method, request.uri) == ("POST", URI)
                assert response["status"] == {"code": 200, "message": "OK"}
                played.append(json.loads(response["body"]["string"])["choices"][0]["message"]["content"])
        assert sorted(played) == sorted([*NASTY, "again"]), when
        cassette.finish()


def test_vcrpy_plays_what_we_recorded(tmp_path):
    cassette = Cassette(tmp_path)
    keep(cassette, "a", answer="one")
    keep(cassette, "a", occurrence=1, answer="two")
    cassette.finish()
    found = in_vcrpy(tmp_path / "astronomy.yaml")
    request = Request("POST", URI, json.dumps(asked("a")), {})
    played = [
        json.loads(found.play_response(request)["body"]["string"])["choices"][0]["message"]["content"] for _ in "12"
    ]
    assert played == ["one", "two"]
    with pytest.raises(vcr.errors.UnhandledHTTPRequestError):
        found.play_response(request)


def test_vcrpys_own_spelling_of_our_cassette_plays_the_same(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    cassette = Cassette(ours)
    for number, text in enumerate(NASTY):
        keep(cassette, text, line=number, answer=text)
    cassette.finish()
    theirs.mkdir()
    found = in_vcrpy(ours / "astronomy.yaml")
    text = vcr.serialize.serialize({"requests": found.requests, "responses": found.responses}, yamlserializer)
    (theirs / "astronomy.yaml").write_text(text, encoding="utf-8")
    assert answers(theirs) == answers(ours)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(NASTY)


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_any_text_survives_byte_for_byte(question, answer):
    body = json.dumps(asked(question))  # lone surrogates travel escaped, as scrub.py writes them
    plain = json.dumps(
        {"choices": [{"message": {"content": answer}}]}, ensure_ascii=any("\ud800" <= c <= "\udfff" for c in answer)
    )
    responses = [plain, json.dumps(answer), f"data: {plain}\n\ndata: [DONE]\n\n", f"{plain}\r\n\t "]
    with tempfile.TemporaryDirectory() as folder:
        for number, response in enumerate(responses):
            made = Exchange(URI, body, 400, "Bad Request", "text/event-stream; charset=utf-8", response)
            kept = Cassette(Path(folder, str(number)))
            kept.keep((made.identity, 0), "s", 1, made)
            for _ in range(2):
                assert Cassette(kept.folder).find((made.identity, 0), 1) == made
                kept.finish()


def test_items_stand_in_dataset_order_at_the_end(tmp_path):
    cassette = Cassette(tmp_path)
    for line in (5, 2, 9, 1):
        keep(cassette, f"question {line}", line=line)
    assert in_order(tmp_path / "astronomy.yaml") == [f"question {line}" for line in (5, 2, 9, 1)]
    cassette.finish()
    assert in_order(tmp_path / "astronomy.yaml") == [f"question {line}" for line in (1, 2, 5, 9)]


def test_a_shared_recording_stands_at_its_first_line_and_unused_ones_at_the_end(tmp_path):
    first = Cassette(tmp_path)
    for line, text in enumerate("xyz"):
        keep(first, text, line=line)
    first.finish()
    second = Cassette(tmp_path)
    keep(second, "new", line=7)
    second.find((identity("z"), 0), 9)
    second.find((identity("z"), 0), 2)
    second.finish()
    assert in_order(tmp_path / "astronomy.yaml") == ["z", "new", "x", "y"]


def test_a_run_that_recorded_nothing_changes_no_file(tmp_path):
    keep(Cassette(tmp_path), "b", line=2)
    second = Cassette(tmp_path)
    keep(second, "a", line=1)
    before = (tmp_path / "astronomy.yaml").read_bytes()
    third = Cassette(tmp_path)
    third.find((identity("a"), 0), 1)
    third.finish()
    assert (tmp_path / "astronomy.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["astronomy.yaml"]


def test_only_the_shards_that_grew_are_written(tmp_path):
    first = Cassette(tmp_path)
    keep(first, "a", shard="anatomy")
    keep(first, "b", shard="botany")
    first.finish()
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = Cassette(tmp_path)
    keep(second, "c", shard="botany", line=9)
    second.finish()
    assert (tmp_path / "anatomy.yaml").stat().st_mtime_ns == stamps["anatomy.yaml"]
    assert in_order(tmp_path / "botany.yaml") == ["c", "b"]


def test_equal_requests_of_a_line_keep_their_order(tmp_path):
    cassette = Cassette(tmp_path)
    for line in (2, 1):
        for occurrence in (0, 1, 2):
            keep(cassette, f"line {line}", line=line, occurrence=occurrence, answer=f"{line}.{occurrence}")
    for _ in range(2):
        assert answers(tmp_path) == {(f"line {n}", o): f"{n}.{o}" for n in (1, 2) for o in (0, 1, 2)}
        cassette.finish()


def test_equal_requests_of_lines_in_different_shards_are_never_swapped(tmp_path):
    # Line 1 (zoology) asks once; line 2 (anatomy) asks the same twice, and shares the first answer.
    cassette = Cassette(tmp_path)
    keep(cassette, "same", line=1, shard="zoology", answer="first")
    keep(cassette, "same", line=2, shard="anatomy", occurrence=1, answer="second")
    for _ in range(2):
        assert answers(tmp_path) == {("same", 0): "first", ("same", 1): "second"}
        cassette.finish()


def test_a_second_recording_of_the_same_call_is_not_kept(tmp_path):
    cassette = Cassette(tmp_path)
    keep(cassette, "a", answer="first")
    keep(cassette, "a", answer="second", line=4)
    assert answers(tmp_path) == {("a", 0): "first"}
    assert cassette.recorded == 1


def test_many_threads_keep_every_exchange_once(tmp_path):
    cassette = Cassette(tmp_path)
    ready = threading.Barrier(16)

    def work(worker):
        ready.wait()
        for number in range(40):
            text = f"question {number if number % 2 else (worker, number)}"
            key = (identity(text), 0)
            if cassette.find(key, worker) is None:
                cassette.keep(key, f"shard {number % 3}", worker, exchange(text, text))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"question {number}" for number in range(1, 40, 2)}
    expected |= {f"question {(worker, number)}" for worker in range(16) for number in range(0, 40, 2)}
    for _ in range(2):
        assert answers(tmp_path) == {(text, 0): text for text in expected}
        assert sum(len(in_vcrpy(path)) for path in tmp_path.glob("*.yaml")) == len(expected)
        cassette.finish()


def test_mode_all_replaces_what_was_asked_again_and_keeps_the_rest(tmp_path):
    first = Cassette(tmp_path)
    for line, text in enumerate(["a", "b"]):
        keep(first, text, line=line, answer=f"old {text}")
    first.finish()
    fresh = Cassette(tmp_path, fresh=True)
    assert (fresh.existed, len(fresh), fresh.find((identity("a"), 0), 0)) == (True, 0, None)
    keep(fresh, "a", answer="new a")
    assert answers(tmp_path) == {("a", 0): "new a", ("b", 0): "old b"}  # also where the run is killed now
    fresh.finish()
    assert answers(tmp_path) == {("a", 0): "new a", ("b", 0): "old b"}
    assert in_order(tmp_path / "astronomy.yaml") == ["a", "b"]
    assert "occurrence" not in (tmp_path / "astronomy.yaml").read_text(encoding="utf-8")


def test_mode_all_moves_a_recording_to_the_shard_of_its_line(tmp_path):
    first = Cassette(tmp_path)
    keep(first, "a", shard="zoology", answer="old")
    first.finish()
    fresh = Cassette(tmp_path, fresh=True)
    keep(fresh, "a", shard="anatomy", answer="new")
    assert answers(tmp_path) == {("a", 0): "new"}
    fresh.finish()
    assert answers(tmp_path) == {("a", 0): "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["anatomy.yaml"]


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("astronomy", "astronomy"),
        ("High School Physics", "high_school_physics"),
        ("../../../etc/passwd", "_etc_passwd"),
        ("/abs/olute", "_abs_olute"),
        ("..\\..\\windows", "_windows"),
        ("..", "_"),
        ("", "default"),
        ("a\x00b\nc", "a_b_c"),
        ("数学", "_"),
        ("ma\u0308the", "ma_the"),
        ("CON", "con_"),
        ("nul", "nul_"),
        ("Com1", "com1_"),
        ("-rf", "-rf"),
        ("x" * 300, "x" * 80),
    ],
)
def test_names_of_shards_are_safe_everywhere(tmp_path, subject, name):
    assert shard_name(subject) == name
    cassette = Cassette(tmp_path / "cassette")
    keep(cassette, "a", shard=subject)
    cassette.finish()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.yaml")] == [f"cassette/{name}.yaml"]
    assert list(tmp_path.iterdir()) == [tmp_path / "cassette"]


@given(st.text(st.characters(exclude_categories=())))
def test_no_name_leaves_the_folder(subject):
    name = shard_name(subject)
    assert Path("cassette", f"{name}.yaml").resolve().parent == Path("cassette").resolve()
    assert name == name.lower()
    assert 0 < len(name) <= 81


def test_subjects_that_differ_in_case_share_a_file_so_that_none_replaces_the_other(tmp_path):
    cassette = Cassette(tmp_path)
    keep(cassette, "a", shard="Math")
    keep(cassette, "b", shard="math", line=2)
    cassette.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["math.yaml"]
    assert in_order(tmp_path / "math.yaml") == ["a", "b"]


def test_a_file_keeps_its_own_spelling(tmp_path):
    cassette = Cassette(tmp_path)
    keep(cassette, "a", shard="math")
    (tmp_path / "math.yaml").rename(tmp_path / "Math.yaml")
    second = Cassette(tmp_path)
    keep(second, "b", shard="MATH", line=2)
    second.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["Math.yaml"]
    assert in_order(tmp_path / "Math.yaml") == ["b", "a"]


# Files of others


def foreign(tmp_path, text):
    path = tmp_path / "astronomy.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def vcrpys(*texts):
    """A cassette as vcrpy writes it: `version` stands last, so nothing can be appended."""
    items = [exchange(text, f"their {text}").to_item() for text in texts]
    return yamlserializer.serialize({"version": 1, "interactions": items})


@pytest.mark.parametrize("change", ["vcrpy", "crlf", "no newline", "comment", "flow", "blank", "bom"])
def test_a_file_of_others_is_played_and_never_written(tmp_path, change):
    ours = Cassette(tmp_path / "ours")
    keep(ours, "a", answer="their a")
    text = (tmp_path / "ours" / "astronomy.yaml").read_text(encoding="utf-8")
    text = {
        "vcrpy": vcrpys("a"),
        "crlf": text.replace("\n", "\r\n"),
        "no newline": text.rstrip("\n"),
        "comment": f"# by hand\n{text}",
        "flow": json.dumps({"interactions": [exchange("a", "their a").to_item()], "version": 1}),
        "blank": "\n",
        "bom": f"\ufeff{text}",
    }[change]
    path = foreign(tmp_path, text)
    for fresh in (False, True):
        cassette = Cassette(tmp_path, fresh=fresh)
        assert cassette.existed is (change != "blank" or fresh)
        if not fresh and change != "blank":
            assert cassette.find((identity("a"), 0), 1) == exchange("a", "their a")
        keep(cassette, f"new {fresh}", answer="new")
        if fresh:
            keep(cassette, "a", answer="ours")
        for _ in range(2):
            assert path.read_bytes() == text.encode()
            assert answers(tmp_path)[f"new {fresh}", 0] == "new"
            assert answers(tmp_path).get(("a", 0)) == ("ours" if fresh else None if change == "blank" else "their a")
            cassette.finish()
    assert sorted(path.name for path in tmp_path.glob("*.yaml")) == ["astronomy-2.yaml", "astronomy.yaml"]


def test_a_newer_answer_beside_a_file_of_others_wins_whatever_the_names(tmp_path):
    (tmp_path / "aaa.yaml").write_text(vcrpys("a"), encoding="utf-8")
    (tmp_path / "zzz.yaml").write_text(vcrpys("a"), encoding="utf-8")
    fresh = Cassette(tmp_path, fresh=True)
    keep(fresh, "a", answer="ours")
    for _ in range(2):
        assert answers(tmp_path) == {("a", 0): "ours"}
        fresh.finish()


def test_what_another_process_appends_meanwhile_is_not_lost(tmp_path):
    one, other = Cassette(tmp_path), Cassette(tmp_path)
    keep(one, "b", line=2)
    keep(other, "c", line=3)
    keep(one, "a", line=1)
    one.finish()
    other.finish()
    assert sorted(in_order(tmp_path / "astronomy.yaml")) == ["a", "b", "c"]


def test_headers_and_bytes_as_vcrpy_may_spell_them(tmp_path):
    item = exchange("a").to_item()
    item["response"]["headers"] = {"x-other": ["1"], "CONTENT-TYPE": "text/event-stream"}
    item["response"]["body"]["string"] = b"data: [DONE]\n\n"
    item["request"]["body"] = item["request"]["body"].encode()
    item["response"]["status"]["message"] = None
    item["recorded_at"] = "2026-01-01"
    foreign(tmp_path, yamlserializer.serialize({"version": 1, "interactions": [item]}))
    found = Cassette(tmp_path).find((identity("a"), 0), 1)
    assert (found.content_type, found.response_body, found.reason) == ("text/event-stream", "data: [DONE]\n\n", "")


# Bad files


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("version: 1\ninteractions:\n- request:\n    body: 'torn", ":4"),
        ("version: 1\ninteractions: [\n", ":3"),
        ("version: 1\ninteractions:\n- request: {\n  body: a\n b: c\n", ":"),
        (b"version: 1\ninteractions:\n- \xff\xfe\n", ""),
        ("version: 1\x00\n", ""),
        ("just a text", ""),
        ("- request: {}\n", ""),
        ("version: 1\nname: a\n", ""),
        ("version: 1\ninteractions: 7\n", ""),
        ("version: 1\ninteractions: {a: b}\n", ""),
        ("%PDF-1.7 binary", ""),
        ('{"interactions": ' + "[" * 900 + "]" * 900 + "}", ""),
        ('{"interactions": ' + "[" * 100_000 + "]" * 100_000 + "}", ""),
        ("interactions: " + "{a: " * 100_000, ""),
        ("interactions:\n" + "- " * 100_000, ""),
    ],
)
def test_what_is_no_cassette_is_named_with_its_place(tmp_path, text, place):
    path = foreign(tmp_path, text)
    before = path.read_bytes()
    with pytest.raises(RecordingError, match=r"cassette|chat completion") as caught:
        Cassette(tmp_path)
    assert str(caught.value).startswith(f"{path}{place}")
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before


def broken(change):
    item = exchange("a").to_item()
    change(item)
    return item


@pytest.mark.parametrize(
    "item",
    [
        "a text",
        None,
        7,
        [],
        {},
        {"request": None, "response": None},
        {"request": {"method": "GET", "uri": "https://example.org/", "body": None, "headers": {}}, "response": {}},
        broken(lambda item: item["request"].update(body=None)),
        broken(lambda item: item["request"].update(body="not JSON")),
        broken(lambda item: item["request"].update(body='["no object"]')),
        broken(lambda item: item["request"].update(body='{"input": "embeddings"}')),
        broken(lambda item: item["request"].update(body='{"messages": "text"}')),
        broken(lambda item: item["request"].update(uri=["a"])),
        broken(lambda item: item["response"].pop("body")),
        broken(lambda item: item["response"].update(body={"string": None})),
        broken(lambda item: item["response"].update(body={"string": b"\x1f\x8b\x08gzip"})),
        broken(lambda item: item["response"].update(headers=None)),
        broken(lambda item: item["response"].update(headers={1: 2})),
        broken(lambda item: item["response"].update(status={"code": "many"})),
        broken(lambda item: item.update(occurrence=-1)),
        broken(lambda item: item.update(occurrence="first")),
        broken(lambda item: item.update(occurrence=True)),
    ],
    ids=lambda item: str(item)[:40],
)
def test_an_item_that_cannot_be_read_is_named_by_its_number(tmp_path, item):
    good = exchange("good").to_item()
    path = foreign(tmp_path, yaml.safe_dump({"version": 1, "interactions": [good, item]}))
    with pytest.raises(RecordingError) as caught:
        Cassette(tmp_path)
    assert str(caught.value).startswith(f"{path}: interaction 2 is no readable recording (")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir ['{canary}']",
        "!!python/object/new:os.mkdir ['{canary}']",
        '!!python/object/apply:builtins.exec [\'open("{canary}", "w")\']',
        "!!python/name:os.system",
        "!!python/module:os",
        "!custom thing",
    ],
)
@pytest.mark.parametrize(
    "where", ["interactions: {}", "interactions:\n- {}", "interactions:\n- request:\n    body: {}"]
)
def test_tags_of_python_are_refused_and_nothing_runs(tmp_path, tag, where):
    canary = tmp_path / "canary"
    path = foreign(tmp_path, "version: 1\n" + where.format(tag.format(canary=canary)) + "\n")
    with pytest.raises(RecordingError, match="ConstructorError") as caught:
        Cassette(tmp_path)
    assert str(path) in str(caught.value)
    assert not canary.exists()


def test_a_bomb_of_aliases_costs_nothing(tmp_path):
    levels = [f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    bomb = "\n".join(
        ["version: 1", "x:", "  l0: &l0 [lol]", *levels, "interactions:", "- request: {uri: *l29, body: *l29}"]
    )
    foreign(tmp_path, bomb + "\n")
    with pytest.raises(RecordingError, match="interaction 1 is no readable recording"):
        Cassette(tmp_path)


def test_one_bad_shard_is_found_among_good_ones(tmp_path):
    keep(Cassette(tmp_path), "a", shard="anatomy")
    foreign(tmp_path, "torn: '")
    with pytest.raises(RecordingError, match=r"astronomy\.yaml:1"):
        Cassette(tmp_path)


def test_a_shard_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "astronomy.yaml").mkdir()
    with pytest.raises(RecordingError, match=r"astronomy\.yaml: cannot be read"):
        Cassette(tmp_path)


# Writing where it cannot be


def test_a_recording_that_cannot_be_written_is_an_error_and_not_remembered(tmp_path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    cassette = Cassette(tmp_path / "taken")
    with pytest.raises(RecordingError, match=r"taken/astronomy\.yaml: the recording cannot be written") as caught:
        keep(cassette, "a")
    assert caught.value.stops_run
    assert (len(cassette), cassette.recorded) == (0, 0)
    cassette.finish()


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_full_disk_leaves_the_last_whole_item(tmp_path):
    import resource
    import signal

    cassette = Cassette(tmp_path)
    keep(cassette, "a")
    path = tmp_path / "astronomy.yaml"
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(RecordingError, match="cannot be written"):
            keep(cassette, "b", line=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    keep(cassette, "c", line=3)
    cassette.finish()
    assert in_order(path) == ["a", "c"]


def test_where_the_order_cannot_be_written_the_shard_stays_as_it_was(tmp_path):
    cassette = Cassette(tmp_path)
    keep(cassette, "b", line=2)
    keep(cassette, "a", line=1)
    (tmp_path / ".mmlu_pipe_order").write_text("in the way", encoding="utf-8")
    with pytest.raises(RecordingError, match="cannot be written"):
        cassette.finish()
    assert in_order(tmp_path / "astronomy.yaml") == ["b", "a"]


# Killed in the middle of an item


def some_items():
    """The bytes of a shard, and where its items end."""
    with tempfile.TemporaryDirectory() as folder:
        cassette = Cassette(Path(folder))
        keep(cassette, "first", answer="- one\n- two \u20ac")
        keep(cassette, "first", occurrence=1, answer="again")
        keep(cassette, "second", line=2)
        text = exchange("third \u20ac").to_item() | {"occurrence": 12}
        text["response"]["body"]["string"] = "data: {}\n\n- not an item\n"
        content = Path(folder, "astronomy.yaml").read_bytes() + dump_item({"occurrence": 12} | text)
    return content, [len(HEADER), *(span.offset + span.length for span in parse_shard(Path(), content).spans)]


def test_a_shard_cut_at_any_byte_is_read_up_to_its_last_whole_item(tmp_path, caplog):
    content, ends = some_items()
    assert len(ends) == 5
    expected = parse_shard(Path(), content).items
    path = tmp_path / "astronomy.yaml"
    near_ends = {end + offset for end in ends for offset in range(-3, 4)}
    for cut in sorted(near_ends | set(range(0, len(content), 5))):
        if cut >= len(content):
            break
        path.write_bytes(content[:cut])
        caplog.clear()
        whole = sum(end <= cut for end in ends[1:])
        cassette = Cassette(tmp_path)
        if cut + 1 in ends[1:]:  # only the line's end is missing: the item is whole, but the file is not ours any more
            assert len(cassette) == whole + 1
            continue
        assert parse_shard(path, content[:cut]).items == expected[:whole], cut
        assert len(cassette) == whole
        assert path.read_bytes() == content[:cut]
        assert bool(caplog.records) is (cut not in [0, *ends])
        assert cassette.existed is (cut >= len(HEADER))
        keep(cassette, "new", line=9)
        assert path.read_bytes().startswith(content[: ends[whole]] + b"- request:")
        assert Cassette(tmp_path).find((identity("new"), 0), 1) == exchange("new")
        assert len(in_vcrpy(path)) == whole + 1
        cassette.finish()
        assert len(answers(tmp_path)) == whole + 1 if whole < 4 else True
        assert [each.name for each in tmp_path.iterdir()] == ["astronomy.yaml"]


def test_a_cut_file_that_is_not_ours_is_an_error(tmp_path):
    content, ends = some_items()
    for bad in (
        content.replace(b"version: 1\n", b"version: 1 \n", 1)[:-40],
        content[:-40] + b"\n- torn: [",
        content[: ends[1] + 30] + content[ends[2] :],
        content.replace(b"code: 200", b"code: many", 1)[:-40],
    ):
        path = foreign(tmp_path, bad)
        with pytest.raises(RecordingError, match=r"astronomy\.yaml"):
            Cassette(tmp_path)
        assert path.read_bytes() == bad


# Killed while the shards are put in order

KILLED = """
import os, shutil, sys
from pathlib import Path
from mmlu_pipe.recording import index
from mmlu_pipe.recording.cassette import Cassette
from tests.recording.test_cassette import identity, keep
import vcr.serializers.yamlserializer

index._MOST_ITEMS = 3
start, ends = map(Path, sys.argv[1:])
left = None  # so many events of the file system are survived


def count(event, arguments):
    global left
    if left is not None and event.startswith(("open", "os.", "shutil.", "half")):
        left -= 1
        if left < 0:
            os._exit(9)


def write_bytes(path, content):
    with path.open("wb", buffering=0) as handle:
        handle.write(content[: len(content) // 2])
        sys.audit("half")
        handle.write(content[len(content) // 2 :])


def survive(work, source, target, events):
    global left
    shutil.copytree(source, target)
    child = os.fork()
    if child == 0:
        opened = Cassette(target, fresh=target.name.startswith("fresh")) if work == "order" else None
        if opened is not None:
            for line in range(8):
                if opened.find((identity(f"question {line}"), 0), line) is None and line % 2:
                    keep(opened, f"question {line}", line=line, answer="new")
            keep(opened, "question 99", line=0)
        left = events
        Cassette(target) if opened is None else opened.finish()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


sys.addaudithook(count)
Path.write_bytes = write_bytes
for mode in ("kept", "fresh"):
    events = 0
    while survive("order", start, ends / f"{mode}-{events}", events):
        again = 0
        mends = mode == "fresh" and (ends / f"{mode}-{events}" / ".mmlu_pipe_order").exists()
        while mends and survive("open", ends / f"{mode}-{events}", ends / f"{mode}-{events}-{again}", again):
            again += 1
        events += 1
"""


@pytest.mark.skipif(os.name == "nt", reason="forks")
def test_a_kill_at_any_step_of_the_ordering_or_of_its_mending_loses_and_doubles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_MOST_ITEMS", 3)
    cassette = Cassette(tmp_path / "start")
    for line in reversed(range(8)):
        keep(cassette, f"question {line}", line=line, answer="old")
    (tmp_path / "ends").mkdir()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "start"), str(tmp_path / "ends")]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
    old = {(f"question {line}", 0): "old" for line in range(8)}
    expected = {
        "kept": old | {("question 99", 0): "answer"},
        "fresh": old | {(f"question {line}", 0): "new" for line in range(1, 8, 2)} | {("question 99", 0): "answer"},
    }
    found = set()
    for folder in sorted((tmp_path / "ends").iterdir()):
        found |= {path.name[:16] for path in folder.iterdir() if path.suffix != ".yaml"}
        assert answers(folder) == expected[folder.name.split("-")[0]], folder.name
        after = Cassette(folder)
        keep(after, "after")
        after.finish()
        played = [text for path in folder.iterdir() for text in in_order(path)]
        assert sorted(played) == sorted(["after", *(text for text, _ in expected["kept"])]), folder.name
    assert found == {".mmlu_pipe_order", ".mmlu_pipe_writi"}


def committed(folder):
    """A cassette that was killed before its new files were moved: all of `a` to `c`, and `gone` is to go."""
    keep(Cassette(folder), "a", shard="gone")
    keep(Cassette(folder), "b", shard="math")
    valid = folder / ".mmlu_pipe_order"
    valid.mkdir()
    (valid / "gone.yaml").write_bytes(b"")
    (valid / "math.yaml").write_bytes(HEADER + b"".join(dump_item(exchange(text).to_item()) for text in "abc"))
    return {(text, 0): "answer" for text in "abc"}


def test_where_an_order_cannot_be_ended_its_files_are_read_where_they_are_and_nothing_is_written(tmp_path, monkeypatch):
    expected = committed(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.yaml")}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        cassette = Cassette(tmp_path)
        assert cassette.unused() == Unused(3, (("math.yaml", 1), ("math.yaml", 2), ("math.yaml", 3)))
        assert answers(tmp_path) == expected
        with pytest.raises(RecordingError, match="broken off"):
            keep(cassette, "d", shard="math")
        cassette.finish()
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.yaml")} == before
    assert answers(tmp_path) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["math.yaml"]


def test_an_order_that_cannot_be_moved_into_place_at_once_plays_and_is_ended_later(tmp_path, monkeypatch):
    cassette = Cassette(tmp_path)
    for line, text in enumerate("cba"):
        keep(cassette, text, line=-line)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        cassette.finish()
        for text in "abc":
            assert cassette.find((identity(text), 0), 1) == exchange(text)
    assert answers(tmp_path) == {(text, 0): "answer" for text in "abc"}
    assert in_order(tmp_path / "astronomy.yaml") == ["a", "b", "c"]


def test_an_order_that_was_being_written_is_no_part_of_the_cassette_and_is_removed_by_the_next(tmp_path):
    keep(Cassette(tmp_path), "b")
    writing = tmp_path / ".mmlu_pipe_writing_1"
    writing.mkdir()
    (writing / "astronomy.yaml").write_text("half of", encoding="utf-8")
    cassette = Cassette(tmp_path)
    assert (len(cassette), writing.exists()) == (1, True)
    keep(cassette, "a", line=0)
    cassette.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["astronomy.yaml"]


MANY = """
import os, sys, time
from pathlib import Path
from mmlu_pipe.recording.cassette import Cassette
from tests.recording.test_cassette import keep

for number in range(40):
    folder = Path(sys.argv[1], str(number))
    for line in range(3):
        keep(Cassette(folder), f"question {line}", line=9 - line)
    children = []
    for child in range(3):
        children.append(os.fork())
        if not children[-1]:
            cassette = Cassette(folder)
            time.sleep(0.001 * (number * (child + 1) % 7))
            keep(cassette, f"child {child}", line=child)
            time.sleep(0.001 * (number * (child + 2) % 5))
            cassette.finish()
            os._exit(0)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


@pytest.mark.skipif(os.name == "nt", reason="forks")
def test_processes_that_record_and_end_at_once_lose_nothing(tmp_path):
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
    expected = sorted([f"question {line}" for line in range(3)] + [f"child {child}" for child in range(3)])
    for folder in tmp_path.iterdir():
        assert sorted(in_order(folder / "astronomy.yaml")) == expected


# Parts


def test_shards_are_bounded_and_their_parts_stand_in_dataset_order(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_MOST_ITEMS", 10)
    cassette = Cassette(tmp_path)
    lines = random.Random(7).sample(range(35), 35)
    for line in lines[:20]:
        keep(cassette, f"question {line}", line=line)
    cassette.finish()
    cassette = Cassette(tmp_path)
    for line in lines[:20]:
        assert cassette.find((identity(f"question {line}"), 0), line)
    for line in lines[20:]:
        keep(cassette, f"question {line}", line=line)
    names = ["astronomy.yaml", "astronomy-2.yaml", "astronomy-3.yaml", "astronomy-4.yaml"]
    for _ in range(2):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
        assert [len(in_order(tmp_path / name)) for name in names] == [10, 10, 10, 5]
        assert set(answers(tmp_path)) == {(f"question {line}", 0) for line in range(35)}
        cassette.finish()
        assert [text for name in names for text in in_order(tmp_path / name)] == [f"question {n}" for n in range(35)]
        for line in range(35):
            assert cassette.find((identity(f"question {line}"), 0), line) == exchange(f"question {line}")


def test_large_items_make_a_part_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_MOST_BYTES", 3000)
    cassette = Cassette(tmp_path)
    for line in range(6):
        keep(cassette, f"question {line}", line=line, answer="long " * (800 if line == 2 else 100))
    for _ in range(2):
        sizes = [(len(in_order(path)), path.stat().st_size) for path in tmp_path.iterdir()]
        assert all(size <= 3000 or count == 1 for count, size in sizes)
        assert len(answers(tmp_path)) == 6
        cassette.finish()


def test_a_name_that_looks_like_a_part_is_left_alone(tmp_path):
    cassette = Cassette(tmp_path)
    for line, shard in enumerate(["grade", "grade-2", "grade", "grade-2"]):
        keep(cassette, f"question {line}", line=line, shard=shard)
    cassette.finish()
    assert in_order(tmp_path / "grade.yaml") == ["question 0", "question 2"]
    assert in_order(tmp_path / "grade-2.yaml") == ["question 1", "question 3"]


def test_a_cassette_of_before_keeps_its_files(tmp_path, monkeypatch):
    cassette = Cassette(tmp_path)
    for line in range(12):
        keep(cassette, f"question {line}", line=line)
    keep(cassette, "other", shard="botany", line=50)
    monkeypatch.setattr(index, "_MOST_ITEMS", 10)
    before = (tmp_path / "astronomy.yaml").read_bytes()
    cassette = Cassette(tmp_path)
    keep(cassette, "new", shard="botany", line=51)
    cassette.finish()
    assert (tmp_path / "astronomy.yaml").read_bytes() == before
    keep(cassette, "more", line=52)
    assert (tmp_path / "astronomy.yaml").read_bytes() == before
    assert in_order(tmp_path / "astronomy-2.yaml") == ["more"]


# A miss


def test_a_miss_names_what_differs_from_the_nearest(tmp_path):
    cassette = Cassette(tmp_path / "sample-zero_shot")
    keep(cassette, "Which planet is the largest of all the planets?")
    keep(cassette, "What is a cell?", line=2)
    cases = {
        'all the planets?", asked …t is the largest of the pl': asked("Which planet is the largest of the planets?"),
        "temperature (recorded 0, asked 1)": asked("What is a cell?", temperature=1),
        "seed (recorded null, asked 7)": asked("What is a cell?", seed=7),
        "messages (recorded 1, asked 2)": asked("") | {"messages": asked("What is a cell?")["messages"] * 2},
        "fewer times within a line": asked("What is a cell?"),
    }
    for expected, body in cases.items():
        miss = Cassette(cassette.folder).miss(body, MODEL)
        assert isinstance(miss, CassetteMiss)
        assert expected in miss.nearest
        assert miss.nearest in str(miss)
        assert "--record-mode new_episodes" in str(miss)
        assert str(tmp_path) not in str(miss)  # it goes into errors.jsonl
    assert "model (recorded" in cassette.miss(asked("What is a cell?"), "o4-mini").nearest
    role = {"messages": [{"role": "system", "content": "What is a cell?"}]}
    assert 'messages[0] (recorded {"role": "user"' in cassette.miss(asked("") | role, MODEL).nearest


def test_further_misses_are_cheap_and_keep_the_names_of_what_differs(tmp_path, monkeypatch):
    cassette = Cassette(tmp_path)
    for number in range(30):
        keep(cassette, f"question {number}", line=number)
    for _ in range(3):
        assert "messages[0].content (recorded" in cassette.miss(asked("question x"), MODEL).nearest
    monkeypatch.delattr("difflib.SequenceMatcher")
    monkeypatch.setattr(Cassette, "_read", None)
    cases = {
        "messages": asked("question x"),
        "messages, temperature": asked("question x", temperature=1),
        "seed": asked("question 7", seed=3),
    }
    for kind, body in cases.items():
        miss = cassette.miss(body, MODEL)
        assert difference_kind(miss.nearest) == kind
        assert miss.nearest in str(miss)
    assert cassette.miss(asked("question 7"), MODEL).nearest == "that it was recorded fewer times within a line"


def test_misses_of_many_threads_are_told_in_full_three_times(tmp_path):
    keep(Cassette(tmp_path), "a")
    cassette = Cassette(tmp_path)
    told = []
    threads = [
        threading.Thread(target=lambda: told.append(cassette.miss(asked("b"), MODEL).nearest)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted("otherwise" in text for text in told) == [False] * 3 + [True] * 13


def test_unused_recordings_are_counted_and_the_first_are_named(tmp_path):
    first = Cassette(tmp_path)
    for number in range(9):
        keep(first, f"question {number}", line=number, shard="anatomy" if number < 3 else "botany")
    cassette = Cassette(tmp_path)
    cassette.find((identity("question 1"), 0), 1)
    cassette.find((identity("question 4"), 0), 1)
    places = (("anatomy.yaml", 1), ("anatomy.yaml", 3), ("botany.yaml", 1), ("botany.yaml", 3), ("botany.yaml", 4))
    assert cassette.unused() == Unused(7, places)
    assert first.unused() == Unused(0, ())
    assert Cassette(tmp_path, fresh=True).unused().count == 9


def test_a_miss_in_an_empty_cassette_names_nothing(tmp_path):
    miss = Cassette(tmp_path).miss(asked("a"), MODEL)
    assert miss.nearest is None
    assert "nearest" not in str(miss)


# Provenance

ENDPOINT = Endpoint("https://contoso-secret.openai.azure.com", "ada-private", "gpt-4o", "2024-10-21")


def written(folder, **changes):
    value = provenance.provenance_of(
        endpoint=ENDPOINT,
        endpoint_kind="azure_openai",
        capabilities={"chat": True},
        facts={"recordings": 1},
        note="mine",
    )
    provenance.write_provenance(folder, value | changes)
    return folder / provenance.FILE_NAME


def test_provenance_says_whose_answers_they_are_without_host_or_deployment(tmp_path):
    path = written(tmp_path)
    text = path.read_text(encoding="utf-8")
    value = json.loads(text)
    assert "contoso" not in text
    assert "ada-private" not in text
    assert (value["model"], value["api_version"], value["note"], value["recordings"]) == (
        "gpt-4o",
        "2024-10-21",
        "mine",
        1,
    )
    assert set(value["packages"]) == {"mmlu-pipe", "guidance", "openai", "vcrpy"}
    assert provenance.recorded_endpoint(tmp_path) == Endpoint(
        "https://aoai.invalid", "recorded", "gpt-4o", "2024-10-21"
    )
    assert provenance.read_provenance(tmp_path) == value
    assert [entry.name for entry in tmp_path.iterdir()] == ["provenance.json"]


def test_a_cassette_without_provenance_or_folder_says_what_to_do(tmp_path):
    assert provenance.read_provenance(tmp_path) is None
    with pytest.raises(RecordingError, match=r"has no provenance\.json.*--other-config"):
        provenance.recorded_endpoint(tmp_path)
    with pytest.raises(RecordingError, match="no such cassette folder"):
        provenance.recorded_endpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"model": "gpt-4o"}',
        '{"model": 4, "api_version": "v1"}',
        '{"model": "m", "api_version": null}',
        '{"model": "m", "api_version": "v1", "capabilities": []}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_provenance_that_is_none_is_named(tmp_path, text):
    path = tmp_path / "provenance.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordingError, match="not readable as provenance") as caught:
        provenance.read_provenance(tmp_path)
    assert str(path) in str(caught.value)


def test_provenance_that_cannot_be_written_leaves_the_old_one(tmp_path):
    before = written(tmp_path).read_bytes()
    (tmp_path / ".provenance.json.new").mkdir()
    with pytest.raises(RecordingError, match="cannot be written"):
        written(tmp_path, note="new")
    assert (tmp_path / "provenance.json").read_bytes() == before
