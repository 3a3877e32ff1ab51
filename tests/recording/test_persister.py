"""Folders of ours under plain vcrpy and pytest-recording, with the real openai SDK on top."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import vcr
import vcr.cassette
from vcr.errors import CannotOverwriteExistingCassetteException as Missed
from vcr.request import Request

import mmlu_pipe
from mmlu_pipe.bundled import bundled_cassette
from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording import persister
from mmlu_pipe.recording.shards import HEADER, Exchange, dump_item, read_shard
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer

pytest_plugins = ["pytester"]

SAMPLE = bundled_cassette("sample", "zero_shot")
UNPATCHED = httpx2.HTTPTransport.handle_request
ADDRESS = "https://aoai.invalid/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"


@pytest.fixture
def client() -> Iterator[openai.AzureOpenAI]:
    """The SDK as a program of somebody else has it, for a resource that cannot be reached."""
    made = openai.AzureOpenAI(
        azure_endpoint="https://contoso.invalid", api_key="none", api_version="2024-10-21", max_retries=0
    )
    with made:
        yield made


def recorder(*, model: str | None = None, **options: Any) -> vcr.VCR:
    made = vcr.VCR(**{"record_mode": "none"} | options)
    persister.register(made, model=model)
    return made


def bodies_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(each.request_body) for path in folder.glob("*.yaml") for each, _ in read_shard(path).items]


def exchange(question: str, answer: str, *, model: str = "gpt-4o", **fields: Any) -> Exchange:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0} | fields
    message = {"role": "assistant", "content": answer}
    completion = {"id": "chatcmpl-0", "object": "chat.completion", "created": 1, "model": model}
    completion["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
    return Exchange(ADDRESS, json.dumps(body), 200, "OK", "application/json", json.dumps(completion))


def write(path: Path, *items: tuple[Exchange, int | None], torn: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER + b"".join(dump_item(each.to_item(says)) for each, says in items) + torn)
    return path.parent


def ask(client: openai.AzureOpenAI, question: str, model: str = "gpt-4o", **fields: Any) -> str | None:
    messages: Any = [{"role": "user", "content": question}]
    found = client.chat.completions.create(model=model, messages=messages, temperature=0, **fields)
    return found.choices[0].message.content


def test_the_sample_answers_in_any_order_as_in_our_own_replay(client: openai.AzureOpenAI, tmp_path: Path) -> None:
    run = mmlu_pipe.run(output_dir=tmp_path / "run")
    calls = [json.loads(line) for line in (run.run_dir / "calls.jsonl").read_text(encoding="utf-8").splitlines()]
    ours = {json.dumps(call["messages"]): call["text"] for call in calls}
    bodies = bodies_of(SAMPLE)
    random.Random(11).shuffle(bodies)
    with recorder().use_cassette(SAMPLE) as cassette:
        for body in bodies:
            said = client.chat.completions.create(**body).choices[0].message.content
            assert said == ours[json.dumps(body["messages"])]
        assert cassette.all_played
    assert len(bodies) == len(ours) == 114


@pytest.mark.parametrize("stream", [False, True])
def test_what_we_recorded_plays_in_the_form_it_was_recorded_in(
    client: openai.AzureOpenAI, tmp_path: Path, write_dataset: Any, write_config: Any, monkeypatch: Any, stream: bool
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    with AoaiServer() as server:
        config, tape = write_config(server.endpoint), tmp_path / "tape"
        options: Any = {"other_config": config, "cassette": tape, "record_mode": "once", "stream": stream}
        run = mmlu_pipe.run(write_dataset(9), output_dir=tmp_path / "run", **options)
    calls = [json.loads(line) for line in (run.run_dir / "calls.jsonl").read_text(encoding="utf-8").splitlines()]
    ours = {json.dumps(call["messages"]): call["text"] for call in calls}
    bodies = bodies_of(tape)
    random.Random(3).shuffle(bodies)
    with recorder().use_cassette(tape):
        for body in bodies:
            answer = client.chat.completions.create(**body)
            if stream:
                said = "".join(part.delta.content or "" for event in answer for part in event.choices)
            else:
                said = answer.choices[0].message.content
            assert said == ours[json.dumps(body["messages"])]
    assert len(bodies) == 9


def test_a_stream_is_not_played_to_a_client_that_reads_one_body(client: openai.AzureOpenAI, tmp_path: Path) -> None:
    folder = write(tmp_path / "tape" / "a.yaml", (exchange("q", "1", stream=True), None))
    with recorder().use_cassette(folder), pytest.raises(Missed, match="one asks for a stream"):
        ask(client, "q")


def test_parts_are_one_cassette_in_numeric_order_and_a_torn_end_is_cut(tmp_path: Path) -> None:
    folder = tmp_path / "tape"
    for number in (1, 2, 10):
        name = f"a-{number}.yaml" if number > 1 else "a.yaml"
        torn = b"- request:\n    body: '{\"model" if number == 10 else b""
        write(folder / name, (exchange(f"q{number}", "x"), None), (exchange(f"r{number}", "x"), None), torn=torn)
    requests, responses = persister.FolderPersister().load_cassette(folder, None)
    asked = [json.loads(request.body)["messages"][0]["content"] for request in requests]
    assert asked == ["q1", "r1", "q2", "r2", "q10", "r10"]
    assert len(responses) == 6


def test_equal_requests_of_a_line_are_answered_in_their_order(client: openai.AzureOpenAI, tmp_path: Path) -> None:
    folder = tmp_path / "tape"
    write(folder / "a.yaml", (exchange("q", "third"), 2), (exchange("other", "0"), None), (exchange("q", "first"), 0))
    write(folder / "b.yaml", (exchange("q", "second"), 1), (exchange("other", "of another line"), None))
    with recorder().use_cassette(folder) as cassette:
        assert [ask(client, "q") for _ in range(3)] == ["first", "second", "third"]
        assert ask(client, "other") == "0"
        assert len(cassette) == 4
    with recorder().use_cassette(folder, allow_playback_repeats=True):
        assert [ask(client, "other") for _ in range(3)] == ["0"] * 3


@pytest.mark.parametrize("suffix", ["", ".yaml", ".yml", ".json"])
def test_a_folder_is_found_with_the_suffix_that_is_appended_to_its_name(
    client: openai.AzureOpenAI, tmp_path: Path, suffix: str
) -> None:
    write(tmp_path / "tape" / "a.yaml", (exchange("q", "1"), None))
    library = recorder(cassette_library_dir=str(tmp_path), path_transformer=vcr.VCR.ensure_suffix(suffix))
    with library.use_cassette("tape"):
        assert ask(client, "q") == "1"


def test_a_folder_whose_name_has_a_suffix_of_its_own_is_found(client: openai.AzureOpenAI, tmp_path: Path) -> None:
    folder = write(tmp_path / "tape.yaml" / "a.yaml", (exchange("q", "1"), None))
    with recorder().use_cassette(folder):
        assert ask(client, "q") == "1"


def test_a_file_is_read_and_written_as_vcrpy_does_it(tmp_path: Path) -> None:
    path = tmp_path / "tape.yaml"
    with AoaiServer() as server:
        with recorder(record_mode="once").use_cassette(path), httpx2.Client() as http:
            live = http.get(server.endpoint).content
        text = path.read_text(encoding="utf-8")
        path.with_suffix("").mkdir()  # a file goes before a folder
        with recorder(record_mode="once").use_cassette(path), httpx2.Client() as http:
            assert http.get(server.endpoint).content == live
    assert path.read_text(encoding="utf-8") == text
    assert server.connections == 1


def test_without_a_cassette_nothing_is_played_and_nothing_is_sent(client: openai.AzureOpenAI, tmp_path: Path) -> None:
    with recorder().use_cassette(tmp_path / "none.yaml"), pytest.raises(Missed, match="doesn't exist"):
        ask(client, "q")


def test_a_folder_without_recordings_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "tape").mkdir()
    with (
        pytest.raises(RecordingError, match="tape: holds no recordings"),
        recorder().use_cassette(tmp_path / "tape.yaml"),
    ):
        pass


def test_a_shard_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "tape" / "a.yaml", (exchange("q", "1"), None))
    (folder / "b.yaml").write_text("interactions: 7", encoding="utf-8")
    with pytest.raises(RecordingError, match=r"b\.yaml: is no cassette"), recorder().use_cassette(folder):
        pass


@pytest.mark.parametrize("mode", ["none", "once", "new_episodes"])
def test_what_a_folder_does_not_hold_is_not_asked_for(tmp_path: Path, mode: str) -> None:
    folder = write(tmp_path / "tape" / "a.yaml", (exchange("q", "1"), None))
    before = (folder / "a.yaml").read_bytes()
    with AoaiServer() as server:
        azure = openai.AzureOpenAI(azure_endpoint=server.endpoint, api_key="test-key", api_version="2024-10-21")
        with azure, recorder(record_mode=mode).use_cassette(folder):
            assert ask(azure, "q") == "1"
            with pytest.raises(Missed, match="messages, or what is asked of the model, differ"):
                ask(azure, "another")
        assert server.connections == 0
    assert (folder / "a.yaml").read_bytes() == before
    assert_nothing_is_patched()


def assert_nothing_is_patched() -> None:
    assert httpx2.HTTPTransport.handle_request is UNPATCHED


def test_a_folder_is_not_recorded_anew(tmp_path: Path) -> None:
    folder = write(tmp_path / "tape" / "a.yaml", (exchange("q", "1"), None))
    told = "tape: vcrpy does not record into a folder of mmlu-pipe; record with mmlu-pipe"
    with pytest.raises(RecordingError, match=told), recorder(record_mode="all").use_cassette(folder):
        pass
    assert_nothing_is_patched()


@pytest.mark.parametrize("new", [{"requests": 1}, {"metadata": {"when": "now"}}], ids=["an exchange", "metadata"])
def test_the_persister_alone_refuses_what_is_new_for_a_folder(tmp_path: Path, new: dict[str, Any]) -> None:
    folder = write(tmp_path / "tape" / "a.yaml", (exchange("q", "1"), None))
    before = (folder / "a.yaml").read_bytes()
    ours = persister.FolderPersister()
    requests, responses = ours.load_cassette(folder, None)
    known = {"requests": requests, "responses": responses}
    ours.save_cassette(folder, known, None)
    if "requests" in new:
        other = write(tmp_path / "other" / "a.yaml", (exchange("r", "2"), None))
        more = ours.load_cassette(other, None)
        new = {"requests": requests + more[0], "responses": responses + more[1]}
    with pytest.raises(RecordingError, match="tape: vcrpy does not record into a folder"):
        ours.save_cassette(folder, known | new, None)
    assert (folder / "a.yaml").read_bytes() == before


def test_a_replay_that_leaves_some_unplayed_changes_nothing(client: openai.AzureOpenAI, tmp_path: Path) -> None:
    folder = write(tmp_path / "tape" / "a.yaml", (exchange("q", "1"), None), (exchange("r", "2"), None))
    before = (folder / "a.yaml").read_bytes()
    with recorder(record_mode="new_episodes", drop_unused_requests=True).use_cassette(folder):
        assert ask(client, "r") == "2"
    assert (folder / "a.yaml").read_bytes() == before


def test_a_deployment_stands_for_the_declared_model_where_that_is_said(
    client: openai.AzureOpenAI, tmp_path: Path
) -> None:
    folder = write(tmp_path / "tape" / "a.yaml", (exchange("q", "1"), None))
    with recorder(model="gpt-4o").use_cassette(folder):
        assert ask(client, "q", model="my-deployment") == "1"
    told = "model 'my-deployment' asked, 'gpt-4o' recorded"
    with recorder().use_cassette(folder), pytest.raises(Missed, match=told):
        ask(client, "q", model="my-deployment")
    with recorder(model="gpt-4.1").use_cassette(folder), pytest.raises(Missed):
        ask(client, "q", model="gpt-4o")


def request(method: str = "POST", uri: str = ADDRESS, body: Any = b"", **headers: str) -> Request:
    return Request(method, uri, body, headers)


CHAT = {"model": "m", "messages": [{"role": "user", "content": "q"}]}


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        (request(body=json.dumps(CHAT | {"user": "ada", "temperature": None})), True),
        (request(uri="https://gw.example/openai/v1/chat/completions", body=json.dumps(CHAT)), True),
        (request(body=json.dumps(CHAT | {"temperature": 1})), False),
        (request(body=json.dumps(CHAT | {"model": "n"})), False),
        (request(body=json.dumps(CHAT | {"stream": True})), False),
        (request(uri=ADDRESS.replace("chat/completions", "embeddings"), body=json.dumps(CHAT)), False),
        (request(body="no JSON"), False),
        (request(body='{"messages": 7}'), False),
        (request(body="[]"), False),
        (request("GET", body=None), False),
    ],
)
def test_the_matcher_knows_what_is_asked_from_how_it_is_sent(asked: Request, matches: bool) -> None:
    recorded = request(body=json.dumps(CHAT))
    found = vcr.cassette.requests_match(asked, recorded, [persister.meaning_matcher()])
    assert found is matches


@pytest.mark.parametrize(
    ("changes", "matches"),
    [({}, True), ({"method": "PUT"}, False), ({"uri": "https://a.example/else"}, False), ({"body": b"other"}, False)],
)
def test_other_requests_match_by_method_address_and_body(changes: dict[str, Any], matches: bool) -> None:
    same: dict[str, Any] = {"method": "POST", "uri": "https://a.example/token", "body": b"scope=x"}
    assert vcr.cassette.requests_match(request(**same | changes), request(**same), [persister.meaning_matcher()]) is (
        matches
    )


# pytest-recording

CONFTEST = """
import openai, pytest

def pytest_recording_configure(config, vcr):
    from mmlu_pipe.recording import persister
    persister.register(vcr)

@pytest.fixture
def ask():
    with openai.AzureOpenAI(azure_endpoint="https://contoso.invalid", api_key="none", api_version="2024-10-21") as made:
        def ask(question):
            messages = [{"role": "user", "content": question}]
            found = made.chat.completions.create(model="gpt-4o", messages=messages, temperature=0)
            return found.choices[0].message.content
        yield ask
"""
PLAYS = """
import os, pytest

@pytest.fixture(scope="module")
def vcr_cassette_dir():
    return os.path.join(os.path.dirname(__file__), "cassettes")

@pytest.mark.vcr
@pytest.mark.default_cassette("tape")
def test_named_by_the_marker(ask):
    assert [ask("r"), ask("q")] == ["2", "1"]

@pytest.mark.vcr("tape")
def test_named_as_a_further_cassette(ask):
    assert ask("q") == "1"

@pytest.mark.vcr("tape", "file.yaml")
def test_beside_a_file(ask):
    assert [ask("in a file"), ask("q")] == ["3", "1"]

@pytest.mark.vcr
@pytest.mark.default_cassette("tape")
@pytest.mark.xfail(strict=True, raises=Exception)
def test_what_was_not_recorded_is_not_asked(ask):
    ask("never asked")

class TestRepeats:
    @pytest.fixture
    def vcr_config(self):
        return {"allow_playback_repeats": True}

    @pytest.mark.vcr
    @pytest.mark.default_cassette("tape")
    def test_of_one_question(self, ask):
        assert [ask("q"), ask("q")] == ["1", "1"]
"""


def test_pytest_recording_plays_a_folder_with_the_network_blocked(pytester: pytest.Pytester) -> None:
    folder = pytester.path / "cassettes"
    write(folder / "tape" / "a.yaml", (exchange("q", "1"), None))
    write(folder / "tape" / "a-2.yaml", (exchange("r", "2"), None))
    write(folder / "file.yaml", (exchange("in a file", "3"), None))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(PLAYS)
    before = {path: path.read_bytes() for path in folder.rglob("*.yaml")}
    done = pytester.runpytest_subprocess("--block-network", "-p", "no:cacheprovider", "-W", "error")
    done.assert_outcomes(passed=4, xfailed=1)
    assert {path: path.read_bytes() for path in folder.rglob("*.yaml")} == before


# The page


def test_the_examples_of_the_page_run(pytester: pytest.Pytester) -> None:
    page = (ROOT / "docs" / "cassettes.md").read_text(encoding="utf-8")
    section = page.partition("## With plain vcrpy and pytest-recording\n")[2].partition("\n## ")[0]
    scripts = re.findall(r"```python\n# (\S+)\n(.*?)```", section, re.DOTALL)
    assert [name for name, _ in scripts] == ["my_app.py", "play.py", "conftest.py", "test_play.py"]
    for name, code in scripts:
        (pytester.path / name).write_text(code, encoding="utf-8")
    shutil.copytree(SAMPLE, pytester.path / "cassettes" / "sample-zero_shot")
    played = pytester.runpython(pytester.path / "play.py")
    assert (played.ret, played.outlines) == (0, ['{"choice":"2"}'])
    pytester.runpytest_subprocess("--block-network", "-W", "error").assert_outcomes(passed=1)
