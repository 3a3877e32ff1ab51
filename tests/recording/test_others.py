"""Cassettes that plain vcrpy recorded: those of a published project, and constructed ones."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from io import BytesIO
from pathlib import PurePosixPath

import httpx2
import openai
import pytest
import vcr
import vcr.cassette
from vcr.record_mode import RecordMode
from vcr.serializers import yamlserializer

from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording import index
from mmlu_pipe.recording.cassette import Cassette
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.recording.index import Unused
from mmlu_pipe.recording.transport import TapeDeck
from mmlu_pipe.records import Endpoint
from tests.recording.test_cassette import asked, exchange, identity, keep
from tests.servers.aoai import AoaiServer

NAME, VERSION = "opentelemetry-instrumentation-openai-v2", "2.4b0"
SHA256 = "571a2febd05b15808d7c777455d5a74c9abe08c694cb9827a98c5b4258f2adf1"
FILES, INTERACTIONS, CHATS = 50, 54, 39


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """The cassettes in the source distribution of a project that pytest-recording tests."""
    folder = tmp_path_factory.mktemp("published")
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{NAME}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--no-binary", NAME, "--require-hashes", "--retries", "2", "--dest", folder]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        missing = f"{NAME} {VERSION} is not to be had: pip download --no-deps --no-binary {NAME} {NAME}=={VERSION}"
        if os.environ.get("CI") == "true" or "HASHES" in done.stderr:
            pytest.fail(f"{missing}\n{done.stdout}\n{done.stderr}")
        pytest.skip(missing)
    (archive,) = folder.glob("*.tar.gz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    cassettes = folder / "cassettes"
    cassettes.mkdir()
    with tarfile.open(archive) as opened:
        for member in opened:
            path = PurePosixPath(member.name)
            if member.isfile() and path.parent.name == "cassettes" and path.suffix == ".yaml":
                (cassettes / path.name).write_bytes(opened.extractfile(member).read())
    assert len(list(cassettes.iterdir())) == FILES
    return cassettes


def requests_of(path):
    """The bodies of the chat completions of a cassette, in its order, as vcrpy reads them."""
    found = vcr.cassette.Cassette.load(path=str(path), record_mode=RecordMode.NONE)
    return [json.loads(each.body) for each in found.requests if each.uri.endswith("/chat/completions")]


def said(client, body):
    """All that the openai package makes of the answer: the completion, the chunks of a stream, or the error."""
    try:
        found = client.chat.completions.create(**body)
        return [chunk.to_dict() for chunk in found] if body.get("stream") else found.to_dict()
    except openai.APIStatusError as error:
        return error.status_code, error.body


def sent(client, body):
    """Status, kind and bytes of the answer."""
    response = client.with_options(max_retries=0).post("/chat/completions", body=body, cast_to=httpx2.Response)
    return response.status_code, response.headers["content-type"], response.content


def ours(folder, bodies, ask):
    """What our transport serves to a line that asks so."""
    decks = {}
    answers = []
    session = LineSession(1)
    for body in bodies:
        deck = decks.setdefault(body["model"], TapeDeck(Cassette(folder), body["model"]))
        key = request_hash(body, body["model"])
        with (
            openai.OpenAI(api_key="none", max_retries=0, http_client=httpx2.Client(transport=deck)) as client,
            deck.call(key, session.occurrence(key), "s", 1),
        ):
            answers.append(ask(client, body))
    return answers


def vcrpys(path, bodies, ask):
    """What plain vcrpy serves."""
    recorder = vcr.VCR(record_mode="none", match_on=("method", "uri", "body"))
    with recorder.use_cassette(str(path)), openai.OpenAI(api_key="none", max_retries=0) as client:
        return [ask(client, body) for body in bodies]


def test_a_published_folder_is_opened_and_only_its_chat_completions_are_played(published, tmp_path, caplog):
    folder = shutil.copytree(published, tmp_path / "theirs")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO", logger="mmlu_pipe"):
            cassette = Cassette(folder)
        assert cassette.passed_over == INTERACTIONS - CHATS
        assert cassette.unused().count == CHATS
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == sum("embeddings" in name for name in before) == 15
        assert all("1 recordings are no chat completions" in line for line in told)
    keep(cassette, "new")
    cassette.finish()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before


@pytest.mark.parametrize("ask", [said, sent])
def test_each_published_cassette_plays_as_in_plain_vcrpy(published, tmp_path, ask):
    played, streams = 0, 0
    for path in sorted(published.iterdir()):
        bodies = requests_of(path)
        if ask is sent and "404" in path.name:
            continue  # an error, which `said` compares
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copy(path, folder)
        answers = ours(folder, bodies, ask)
        assert answers == vcrpys(path, bodies, ask), path.name
        played += len(answers)
        streams += sum(body.get("stream") is True for body in bodies)
    assert (played, streams) == (CHATS if ask is said else CHATS - 2, 13)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test_chat_completion_with_content", "This is a test."),
        ("test_chat_completion_streaming", '"This is a test."'),
        ("test_chat_completion_multiple_choices", "This is a test. How can I assist you further?"),
        ("test_chat_completion_multiple_choices_streaming", "I'm unable to provide real-time weather updates."),
    ],
)
def test_a_published_answer_goes_through_the_whole_client(published, tmp_path, name, text):
    shutil.copy(published / f"{name}.yaml", tmp_path)
    (body,) = requests_of(published / f"{name}.yaml")
    endpoint = Endpoint("https://aoai.invalid", "recorded", body["model"], "2024-10-21")
    with connect(endpoint, ModelOptions(cassette=tmp_path)) as connection:
        fields = {name: value for name, value in body.items() if name not in ("messages", "model", "stream_options")}
        answer = connection.client.ask(body["messages"], LineSession(1), **{"temperature": None, **fields})
    assert answer.completion.finish_reason == "stop"
    assert answer.text.startswith(text)


def test_what_plain_vcrpy_records_of_us_plays_here(tmp_path):
    replies = iter(["one", "two", "three"])
    with AoaiServer(answer=lambda _body, _count: next(replies)) as server:
        options = {"azure_endpoint": server.endpoint, "api_key": server.key, "api_version": "2024-10-21"}
        recorder = vcr.VCR(record_mode="all", filter_headers=["api-key"])
        with recorder.use_cassette(str(tmp_path / "theirs.yaml")), openai.AzureOpenAI(**options) as client:
            for text in ("same", "same", "other"):
                client.chat.completions.create(**asked(text) | {"model": "dep"})
    bodies = [asked(text) | {"model": "dep"} for text in ("other", "same", "same")]
    answers = ours(tmp_path, bodies, said)
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == ["three", "one", "two"]


# Constructed


def interaction(**changes):
    """An interaction of a chat completion, with parts of it changed."""
    item = exchange("a").to_item()
    for name, value in changes.items():
        part, _, key = name.partition("_")
        item[part][key] = value
    return item


def write(folder, *items):
    path = folder / "theirs.yaml"
    path.write_text(yamlserializer.serialize({"version": 1, "interactions": list(items)}), encoding="utf-8")
    return path


OTHERS = {
    "embeddings": interaction(request_uri="https://api.openai.com/v1/embeddings", request_body='{"input": "a"}'),
    "a GET": interaction(request_method="GET", request_body=None),
    "no body": interaction(request_uri="https://example.org/", request_body=None),
    "another vendor's messages": interaction(request_uri="https://api.example.org/v1/messages"),
    "an upload": interaction(request_uri="https://example.org/files", request_body=BytesIO(b"\x89PNG")),
    "a streamed upload": interaction(request_uri="https://example.org/files", request_body=iter([b"\x89", b"PNG"])),
    "binary bodies": interaction(
        request_uri="https://example.org/image", request_body=b"\xff\xfe", response_body={"string": b"\x89PNG\r\n"}
    ),
    "no content": interaction(request_uri="https://example.org/", response_body={"string": None}),
    "the old form for httpx": {
        "request": {"method": "GET", "uri": "https://example.org/", "body": "", "headers": {}},
        "response": {"status_code": 200, "http_version": "HTTP/1.1", "headers": {}, "content": ""},
    },
}


def test_recordings_of_something_else_stay_and_are_passed_over(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_WORTH_IT", 0)
    path = write(tmp_path, exchange("first").to_item(), *OTHERS.values(), exchange("last").to_item())
    before = path.read_bytes()
    for _ in range(2):  # the second time by the index
        caplog.clear()
        with caplog.at_level("INFO", logger="mmlu_pipe"):
            cassette = Cassette(tmp_path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}: {len(OTHERS)} recordings are no chat completions and are not played"
        ]
        assert (len(cassette), cassette.passed_over, cassette.existed) == (2, len(OTHERS), True)
        assert cassette.unused() == Unused(2, (("theirs.yaml", 1), ("theirs.yaml", len(OTHERS) + 2)))
        assert cassette.find((identity("last"), 0), 1) == exchange("last")
        assert cassette.unused() == Unused(1, (("theirs.yaml", 1),))
    keep(cassette, "new", shard="theirs")
    cassette.finish()
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_with_nothing_but_something_else_holds_no_recording(tmp_path, kind):
    write(tmp_path, OTHERS[kind])
    cassette = Cassette(tmp_path)
    assert (len(cassette), cassette.passed_over, cassette.existed) == (0, 1, True)


@pytest.mark.parametrize(
    "item",
    [
        interaction(request_uri="http://[broken", request_body=None),
        interaction(request_uri="https://example.org/", request_method=None),
        interaction(request_uri="https://example.org/", response_status={"code": "many"}),
        interaction(request_uri="https://example.org/") | {"response": {}},
        interaction(request_uri="https://example.org/") | {"response": None},
        {"request": {"uri": "https://example.org/", "method": "GET"}, "response": interaction()["response"]},
    ],
    ids=str,
)
def test_what_is_no_interaction_at_all_is_an_error_whatever_it_is_of(tmp_path, item):
    path = write(tmp_path, interaction(), item)
    with pytest.raises(RecordingError) as caught:
        Cassette(tmp_path)
    assert str(caught.value).startswith(f"{path}: interaction 2 is no readable recording (")


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate ": raw_deflate,
    "identity": bytes,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}


@pytest.mark.parametrize("encoding", PACKED)
def test_an_answer_that_was_recorded_compressed_is_served_as_plain_vcrpy_serves_it(tmp_path, encoding):
    plain = exchange("a", "Größe \u2028 \U0001f600").response_body
    item = interaction(
        response_headers={"content-type": ["application/json"], "Content-Encoding": [encoding.strip()]},
        response_body={"string": PACKED[encoding](plain.encode())},
        request_headers={"content-type": ["application/json"]},
        request_uri="https://api.openai.com/v1/chat/completions",
    )
    path = write(tmp_path, item)
    if encoding != "identity":
        assert "!!binary" in path.read_text(encoding="utf-8")
    assert ours(tmp_path, [asked("a")], sent) == [(200, "application/json", plain.encode())]
    assert vcrpys(path, [asked("a")], sent) == [(200, "application/json", plain.encode())]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_an_answer_that_was_decompressed_before_it_was_recorded_is_taken_as_it_is(tmp_path, as_bytes):
    plain = exchange("a").response_body
    headers = {"content-type": ["application/json"], "content-encoding": ["gzip"]}
    write(
        tmp_path, interaction(response_headers=headers, response_body={"string": plain.encode() if as_bytes else plain})
    )
    assert Cassette(tmp_path).find((identity("a"), 0), 1) == exchange("a")


@pytest.mark.parametrize("form", ["bytes", "file", "pieces", "gzip"])
def test_a_request_is_found_whatever_its_body_was_sent_from(tmp_path, form):
    body = json.dumps(asked("a")).encode()
    forms = {"bytes": body, "file": BytesIO(body), "pieces": iter([body[:9], body[9:]]), "gzip": gzip.compress(body)}
    headers = {"Content-Encoding": "gzip"} if form == "gzip" else {}
    write(tmp_path, interaction(request_body=forms[form], request_headers=headers))
    found = Cassette(tmp_path).find((identity("a"), 0), 1)
    assert json.loads(found.request_body) == asked("a")
    assert found.response_body == exchange("a").response_body


@pytest.mark.parametrize("packed", [False, True])
def test_the_old_form_for_httpx_is_read(tmp_path, packed):
    plain = exchange("a").response_body
    response = {
        "status_code": 200,
        "http_version": "HTTP/1.1",
        "headers": {"content-type": ["application/json"]} | ({"content-encoding": ["gzip"]} if packed else {}),
        "content": gzip.compress(plain.encode()) if packed else plain,
    }
    write(tmp_path, interaction() | {"response": response})
    found = Cassette(tmp_path).find((identity("a"), 0), 1)
    assert (found.status, found.content_type, found.response_body) == (200, "application/json", plain)


def test_a_chat_completion_whose_bytes_cannot_be_read_is_an_error(tmp_path):
    headers = {"content-type": ["application/json"], "content-encoding": ["br"]}
    path = write(tmp_path, interaction(response_headers=headers, response_body={"string": b"\xff\xfe"}))
    with pytest.raises(RecordingError, match="interaction 1 is no readable recording"):
        Cassette(path.parent)


def test_equal_requests_of_a_file_answer_in_their_order_and_the_first_file_goes_first(tmp_path):
    for name, answers in {"aaa": ["1", "2"], "bbb": ["3", "4", "5"]}.items():
        items = [exchange("same", answer).to_item() for answer in answers]
        text = yamlserializer.serialize({"version": 1, "interactions": items})
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    cassette = Cassette(tmp_path)
    for line in (1, 2):
        found = [cassette.find((identity("same"), occurrence), line) for occurrence in range(3)]
        assert found == [exchange("same", answer) for answer in "125"]
    assert cassette.find((identity("same"), 3), 1) is None
    assert cassette.unused() == Unused(2, (("bbb.yaml", 1), ("bbb.yaml", 2)))


def test_a_host_of_their_own_makes_no_difference(tmp_path):
    write(tmp_path, interaction(request_uri="https://llm.example.org:8443/proxy/v1/chat/completions/?x=1"))
    assert Cassette(tmp_path).find((identity("a"), 0), 1).response_body == exchange("a").response_body
