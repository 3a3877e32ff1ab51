"""Faults as Microsoft documents them, constructed by hand and played over HTTP to the real client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmlu_pipe.endpoint.chat import ChatClient
from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import ContentFiltered
from mmlu_pipe.recording.cassette import Cassette
from mmlu_pipe.recording.leaks import find_leaks
from mmlu_pipe.records import Endpoint
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer, Reply

FOLDER = ROOT / "tests" / "constructed"
FILES = sorted(FOLDER.glob("*.yaml"))
LABEL = "Constructed from documentation; no endpoint ever sent it."
MESSAGES = [{"role": "user", "content": "Which letter comes first?"}]


def read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return value


def reply(name: str) -> Reply:
    (item,) = read(FOLDER / f"{name}.yaml")["interactions"]
    response = item["response"]
    headers = {key.lower(): value for key, (value,) in response["headers"].items()}
    content_type = headers.pop("content-type")
    raw = response["body"]["string"].encode()
    return Reply(status=response["status"]["code"], raw=raw, content_type=content_type, headers=headers)


@contextmanager
def client_of(server: AoaiServer, **options: Any) -> Iterator[ChatClient]:
    with connect(Endpoint(server.endpoint, "dep", "gpt-4o", "2024-10-21"), ModelOptions(**options)) as connection:
        assert connection.client is not None
        yield connection.client


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


def test_a_429_is_asked_again_after_the_milliseconds_that_it_names() -> None:
    session, asked = LineSession(1), list[float]()

    def answer(_body: Any, count: int) -> Reply:
        asked.append(time.monotonic())
        return Reply("A") if count else reply("rate_limited")

    with AoaiServer(answer=answer) as server, client_of(server) as client:
        assert client.ask(MESSAGES, session).text == "A"
    assert asked[1] - asked[0] >= 1.2  # a wait of our own would be shorter the first time
    assert [call.attempts for call in session.calls] == [2]


@pytest.mark.parametrize("name", ["prompt_filtered", "prompt_filtered_annotations"])
def test_a_blocked_prompt_names_its_categories_and_is_not_asked_again(name: str) -> None:
    with AoaiServer(answer=lambda _body, _count: reply(name)) as server, client_of(server) as client:
        with pytest.raises(ContentFiltered, match="blocked the prompt") as caught:
            client.ask(MESSAGES, LineSession(1))
        assert len(server.requests) == 1
    assert caught.value.categories == {"hate": "high", "violence": "medium"}


def test_an_answer_that_the_filter_could_not_look_at_is_an_answer() -> None:
    with AoaiServer(answer=lambda _body, _count: reply("filter_not_run")) as server, client_of(server) as client:
        assert client.ask(MESSAGES, LineSession(1)).text == "The letter A"


def test_annotations_of_the_asynchronous_filter_are_no_part_of_the_answer() -> None:
    server = AoaiServer(answer=lambda _body, _count: reply("async_filter_passes"))
    with server, client_of(server, stream=True) as client:
        found = client.ask(MESSAGES, LineSession(1))
    assert (found.text, found.completion.finish_reason) == ("The letter A", "stop")
    assert found.completion.usage == {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16}


@pytest.mark.parametrize(
    ("name", "categories"),
    [
        ("async_filter_blocks", {"protected_material_text": "detected"}),
        ("async_filter_blocks_late", {"violence": "high"}),
    ],
)
def test_what_the_asynchronous_filter_blocks_is_no_answer(name: str, categories: dict[str, str]) -> None:
    server = AoaiServer(answer=lambda _body, _count: reply(name))
    with server, client_of(server, stream=True) as client:
        with pytest.raises(ContentFiltered, match="cut the answer") as caught:
            client.ask(MESSAGES, LineSession(1))
        assert len(server.requests) == 1
    assert caught.value.categories == categories


@pytest.mark.parametrize("name", ["prompt_filtered", "async_filter_passes", "async_filter_blocks"])
def test_recorded_and_replayed_they_are_what_they_were(name: str, tmp_path: Path) -> None:
    stream = name.startswith("async")
    said = []
    with AoaiServer(answer=lambda _body, _count: reply(name)) as server:
        for mode in ("once", "none"):
            with client_of(server, stream=stream, cassette=tmp_path / "tape", record_mode=mode) as client:
                try:
                    said.append(client.ask(MESSAGES, LineSession(1)).text)
                except ContentFiltered as error:
                    said.append(str(error))
        assert len(server.requests) == 1
    assert said[0] == said[1]
    assert len(Cassette(tmp_path / "tape")) == 1


def test_every_constructed_exchange_says_so_and_names_its_source() -> None:
    assert len(FILES) == 7
    for path in FILES:
        value = read(path)
        assert value["constructed"] == LABEL
        assert value["shows"]
        assert value["source"]
        for source in value["source"]:
            assert source.startswith("https://learn.microsoft.com/azure/"), path.name
        assert len(value["interactions"]) == 1


def test_every_constructed_exchange_is_played_by_a_test_of_this_module() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in FILES if f'"{path.stem}"' not in tests] == []


def test_no_constructed_exchange_is_among_the_recordings() -> None:
    bodies = {item["response"]["body"]["string"] for path in FILES for item in read(path)["interactions"]}
    folders = [ROOT / "cassettes", *ROOT.glob("examples/**/cassettes")]
    recordings = [path for folder in folders for path in folder.rglob("*.yaml")]
    assert len(recordings) > 50
    for path in recordings:
        text = path.read_text(encoding="utf-8")
        assert "constructed" not in text.partition("interactions:")[0], path
        assert not any(item["response"]["body"]["string"] in bodies for item in read(path)["interactions"]), path


def test_the_constructed_exchanges_hold_nothing_private() -> None:
    assert find_leaks(FOLDER) == []
