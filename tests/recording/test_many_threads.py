"""Thirty-two threads on one cassette: every answer is the recorded one for its own request."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.recording.cassette import Cassette, Exchange
from mmlu_pipe.records import Endpoint
from tests.servers.aoai import AoaiServer, Json

THREADS, MODEL = 32, "gpt-4o"
ADDRESS = "https://aoai.invalid/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"
Line = tuple[int, str]


@pytest.fixture(autouse=True)
def _turns_are_short() -> Iterator[None]:
    """With turns as long as usual, ten thousand requests do not show a mistake that threads make together."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def messages(question: str) -> list[Json]:
    return [{"role": "user", "content": question}]


def exchange(question: str, answer: str) -> Exchange:
    body = {"model": MODEL, "messages": messages(question), "temperature": 0}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
    completion = {"id": "chatcmpl-0", "object": "chat.completion", "model": MODEL, "choices": [choice]}
    return Exchange(ADDRESS, json.dumps(body), 200, "OK", "application/json", json.dumps(completion))


def ask_twice(lines: Iterable[Line], cassette: Path, endpoint: str, mode: str) -> list[tuple[str, list[str]]]:
    """Each line asks its question two times; question and answers, in the order of the lines."""
    together = threading.Barrier(THREADS)
    options = ModelOptions(workers=THREADS, cassette=cassette, record_mode=mode)
    with connect(Endpoint(endpoint, "dep", MODEL, "2024-10-21"), options) as connection:
        client = connection.client
        assert client is not None

        def ask(line: Line) -> tuple[str, list[str]]:
            number, question = line
            if number <= THREADS:
                together.wait(timeout=60)
            session = LineSession(number, shard=f"shard {number % 7}")
            return question, [client.ask(messages(question), session).text for _ in range(2)]

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(ask, lines))


def test_ten_thousand_requests_in_any_order_get_their_own_answers(tmp_path: Path) -> None:
    questions = [f"question {number}" for number in range(1_000)]
    cassette = Cassette(tmp_path)
    for number, question in enumerate(questions, start=1):
        for occurrence in range(2):
            found = exchange(question, f"{question}, answer {occurrence}")
            cassette.keep((found.identity, occurrence), f"shard {number % 7}", number, found)
    cassette.finish()
    asked = random.Random(5).choices(questions, k=5_000)
    answers = ask_twice(enumerate(asked, start=1), tmp_path, "https://contoso.invalid", "none")
    assert [question for question, _ in answers] == asked
    wrong = [(q, said) for q, said in answers if said != [f"{q}, answer 0", f"{q}, answer 1"]]
    assert wrong == []


def test_equal_requests_of_many_threads_are_asked_once_and_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    questions = [f"question {number}" for number in range(60)] * 8
    random.Random(6).shuffle(questions)
    lines = list(enumerate(questions, start=1))

    def answer(body: Json, count: int) -> str:
        return f"{body['messages'][0]['content']}, answer {count}"

    with AoaiServer(answer=answer) as server:
        recorded = ask_twice(lines, tmp_path, server.endpoint, "new_episodes")
        counts = Counter(body["messages"][0]["content"] for body in server.bodies)
    assert counts == dict.fromkeys(questions, 2)
    said = dict(recorded)
    for question, answers in recorded:
        assert answers == said[question]
        assert answers[0] != answers[1]
        assert all(text.startswith(f"{question}, ") for text in answers)
    assert len(Cassette(tmp_path)) == 120
    assert ask_twice(lines, tmp_path, "https://contoso.invalid", "none") == recorded
