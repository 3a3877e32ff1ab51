"""A cassette as an endpoint: real HTTP, the recordings that ship, and tokens as a job has them."""

from __future__ import annotations

import base64
import http.client
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.bundled import bundled_cassette
from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.cassette import Cassette, Exchange
from mmlu_pipe.recording.server import AUDIENCE, ReplayServer
from mmlu_pipe.recording.shards import read_shard

SAMPLE = bundled_cassette("sample", "zero_shot")
MODEL = "Qwen2.5-Coder-1.5B-Instruct"
DATED = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
V1 = "/openai/v1/chat/completions"


def token(**claims: Any) -> str:
    whole = {"aud": AUDIENCE, "exp": int(time.time()) + 600, "idtyp": "app", "appid": "the-cluster"} | claims
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, whole)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "signature"])


def post(
    server: ReplayServer, body: Any, *, path: str = DATED, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        given = {"Authorization": f"Bearer {token()}"} if headers is None else headers
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), given)
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(content) if is_json else content.decode(), dict(response.headers)
    finally:
        connection.close()


def recordings() -> list[Exchange]:
    return [exchange for path in sorted(SAMPLE.glob("*.yaml")) for exchange, _ in read_shard(path).items]


def exchange(question: str, answer: str, status: int = 200, content_type: str = "application/json") -> Exchange:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": question}], "temperature": 0}
    address = "https://aoai.invalid/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"
    return Exchange(address, json.dumps(body), status, "OK", content_type, answer)


def asking(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": question}], "temperature": 0} | more


@pytest.fixture
def sample() -> Iterator[ReplayServer]:
    with ReplayServer(SAMPLE, deployment="dep", model=MODEL) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Cassette:
    return Cassette(tmp_path / "own")


def served(cassette: Cassette) -> ReplayServer:
    return ReplayServer(cassette.folder, deployment="dep", model="gpt-4o")


@pytest.mark.parametrize("path", [DATED, V1], ids=["dated", "v1"])
def test_every_recording_is_given_whatever_the_order_the_threads_and_the_address(
    sample: ReplayServer, path: str
) -> None:
    kept = recordings()
    random.Random(5).shuffle(kept)

    def ask(one: Exchange) -> bool:
        body = json.loads(one.request_body) | ({"model": "dep"} if path == V1 else {})
        status, answer, _ = post(sample, body, path=path)
        return (status, answer) == (one.status, json.loads(one.response_body))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, kept + kept))
    assert sample.counts == {"asked": len(kept) * 2, "played": len(kept) * 2}
    assert dict(sample.callers) == {("app", "the-cluster"): len(kept) * 2}


def test_a_request_is_found_by_what_it_means(sample: ReplayServer) -> None:
    one = recordings()[0]
    body = json.loads(one.request_body) | {"stream": False, "user": "somebody"}
    body["temperature"] = float(body["temperature"])
    assert post(sample, dict(reversed(body.items())))[:2] == (200, json.loads(one.response_body))


def test_equal_requests_of_one_line_get_their_answers_in_turn_and_then_from_the_first_again(own: Cassette) -> None:
    for number in range(3):
        own.keep(("", number), "shard", 1, exchange("Again?", json.dumps({"answer": number})))
    own.finish()
    with served(own) as server:
        assert [post(server, asking("Again?"))[1]["answer"] for _ in range(5)] == [0, 1, 2, 0, 1]


def test_what_was_recorded_as_a_stream_or_as_an_error_is_given_as_such(own: Cassette) -> None:
    own.keep(("", 0), "shard", 1, exchange("Stream?", "data: [DONE]\n\n", content_type="text/event-stream"))
    own.keep(("other", 0), "shard", 2, exchange("Bad?", '{"error": {"code": "content_filter"}}', status=400))
    own.finish()
    with served(own) as server:
        assert post(server, asking("Stream?", stream=True))[:2] == (200, "data: [DONE]\n\n")
        status, body, headers = post(server, asking("Bad?"))
        assert (status, body["error"]["code"], headers["x-should-retry"]) == (400, "content_filter", "false")


def test_a_miss_says_what_differs_from_the_nearest_recording(sample: ReplayServer) -> None:
    body = json.loads(recordings()[0].request_body)
    status, answer, _ = post(sample, body | {"seed": 7})
    assert status == 404
    assert "seed (recorded null, asked 7)" in answer["error"]["message"]
    assert sample.counts == {"asked": 1, "missed": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"api-key": "a key"},
        {"Authorization": "Bearer no.jwt"},
        {"Authorization": f"Basic {token()}"},
        {"Authorization": f"Bearer {token(aud='https://ml.azure.com')}"},
        {"Authorization": f"Bearer {token(exp=1)}"},
        {"Authorization": f"Bearer {token(exp=None)}"},
    ],
    ids=["nothing", "a key", "no JWT", "another scheme", "for somebody else", "expired", "without an end"],
)
def test_only_a_token_for_azure_openai_is_let_in(sample: ReplayServer, headers: dict[str, str]) -> None:
    status, answer, _ = post(sample, json.loads(recordings()[0].request_body), headers=headers)
    assert (status, answer["error"]["code"]) == (401, "401")
    assert "Access token is missing, invalid, audience is incorrect" in answer["error"]["message"]
    assert (sample.counts, dict(sample.callers)) == ({"asked": 1, "refused": 1}, {})


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (DATED.replace("dep/", "other/"), None, 404, "DeploymentNotFound"),
        (V1, None, 404, "DeploymentNotFound"),  # the body names the model where the deployment belongs
        ("/openai/deployments/dep/embeddings", None, 404, "404"),
        (DATED, b"{", 400, "BadRequest"),
        (DATED, b'{"messages": "none"}', 400, "BadRequest"),
    ],
    ids=["another deployment", "another deployment in v1", "another API", "no JSON", "no chat"],
)
def test_what_no_deployment_would_answer_is_refused(
    sample: ReplayServer, path: str, body: bytes | None, status: int, code: str
) -> None:
    found, answer, _ = post(sample, body or json.loads(recordings()[0].request_body), path=path)
    assert (found, answer["error"]["code"]) == (status, code)
    assert sample.counts == {"asked": 1, "refused": 1}


def test_one_connection_takes_many_requests_and_ends_with_the_server() -> None:
    kept = recordings()[:3]
    with ReplayServer(SAMPLE, deployment="dep", model=MODEL) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for one in kept:
            connection.request("POST", DATED, one.request_body.encode(), {"Authorization": f"Bearer {token()}"})
            assert json.loads(connection.getresponse().read()) == json.loads(one.response_body)
    connection.close()
    with pytest.raises(ConnectionError):
        connection.request("POST", DATED, b"{}")


def test_a_folder_without_recordings_stands_for_nobody(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds no recordings"):
        ReplayServer(tmp_path, deployment="dep", model=MODEL)
