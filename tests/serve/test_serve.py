"""The whole way: a tiny model with random weights, llama.cpp, real HTTP, the real SDK, and our own runs over it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

import mmlu_pipe
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.serve.chat import Cancelled, ChatRequest, Ending, Piece
from mmlu_pipe.serve.handler import MAX_BODY
from mmlu_pipe.serve.http import Endpoint
from mmlu_pipe.serve.listener import Served
from mmlu_pipe.serve.llama import LlamaEngine, default_threads
from mmlu_pipe.serve.process import choose_key, config_text, keep_config
from mmlu_pipe.serve.wire import Refusal
from tests.serve.tiny_gguf import CONTEXT, write_tiny_gguf

KEY = "a-key-for-tests"
SERVED = Served("Tiny", "dep", "gguf-0123456789ab")
HELLO: list[Any] = [{"role": "user", "content": "Hello, tell me something as JSON"}]
CHOICES = ["0", "1", "22", "é"]
FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "choice",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"choice": {"type": "string", "enum": CHOICES}},
            "required": ["choice"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def rambling(tmp_path_factory: pytest.TempPathFactory) -> LlamaEngine:
    """A model that says any bytes and never ends."""
    return LlamaEngine(write_tiny_gguf(tmp_path_factory.mktemp("model") / "rambling.gguf"), threads=1)


@pytest.fixture(scope="module")
def terse(tmp_path_factory: pytest.TempPathFactory) -> LlamaEngine:
    """A model that says one of four digits and ends."""
    path = write_tiny_gguf(tmp_path_factory.mktemp("model") / "terse.gguf", seed=1, answers="0123")
    return LlamaEngine(path, threads=1)


@pytest.fixture
def endpoint(rambling: LlamaEngine) -> Iterator[Endpoint]:
    with Endpoint() as found:
        found.start(rambling, SERVED, KEY)
        yield found


@pytest.fixture
def azure(endpoint: Endpoint) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(
        azure_endpoint=endpoint.url, api_key=KEY, api_version="2024-10-21", max_retries=0, timeout=60
    ) as client:
        yield client


@pytest.fixture
def v1(endpoint: Endpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{endpoint.url}/openai/v1", api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def post(
    endpoint: Endpoint,
    body: Any = None,
    path: str = "/openai/deployments/dep/chat/completions?api-version=2024-10-21",
    **headers: str,
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    with contextlib.closing(connection):
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request("POST", path, content, {"api-key": KEY} | headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


# Through the SDK


def test_an_answer_is_the_same_in_both_styles_of_the_api(azure: openai.AzureOpenAI, v1: openai.OpenAI) -> None:
    answers = [
        client.chat.completions.create(model="dep", messages=HELLO, max_tokens=8, temperature=0)
        for client in (azure, v1)
    ]
    assert answers[0].choices == answers[1].choices
    assert answers[0].choices[0].message.content
    assert {answer.model for answer in answers} == {"Tiny"}
    assert {answer.system_fingerprint for answer in answers} == {"gguf-0123456789ab"}
    assert answers[0].id != answers[1].id


def test_a_stream_carries_the_same_answer_the_same_tokens_and_the_usage(azure: openai.AzureOpenAI) -> None:
    asked: Any = {"model": "dep", "messages": HELLO, "max_tokens": 40, "temperature": 0, "logprobs": True}
    whole = azure.chat.completions.create(**asked, top_logprobs=3)
    with azure.chat.completions.create(
        **asked, top_logprobs=3, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert chunks[0].model_extra is not None
    assert chunks[0].model_extra["prompt_filter_results"] == [{"prompt_index": 0, "content_filter_results": {}}]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert choices[-1].finish_reason == whole.choices[0].finish_reason == "length"
    told = [token.model_dump() for choice in choices if choice.logprobs for token in choice.logprobs.content or []]
    assert whole.choices[0].logprobs is not None
    assert told == [token.model_dump() for token in whole.choices[0].logprobs.content or []]
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 40


def test_a_seed_repeats_an_answer_and_another_seed_gives_another(azure: openai.AzureOpenAI) -> None:
    def say(seed: int) -> str | None:
        asked: Any = {"model": "dep", "messages": HELLO, "max_tokens": 12, "temperature": 2, "seed": seed}
        return azure.chat.completions.create(**asked).choices[0].message.content

    assert say(1) == say(1)
    assert len({say(seed) for seed in (1, 2, 3, -4, 2**40)}) > 1


def test_max_tokens_ends_an_answer_for_its_length(azure: openai.AzureOpenAI) -> None:
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        found = azure.chat.completions.create(model="dep", messages=HELLO, temperature=0, **limit)  # type: ignore[call-overload]
        assert found.choices[0].finish_reason == "length"
        assert found.usage.completion_tokens == 3


def test_an_answer_without_a_limit_ends_with_the_models_context(azure: openai.AzureOpenAI) -> None:
    found = azure.chat.completions.create(model="dep", messages=HELLO)
    assert found.choices[0].finish_reason == "length"
    assert found.usage is not None
    assert found.usage.total_tokens <= CONTEXT


def test_a_stop_text_ends_an_answer_and_is_not_in_it(azure: openai.AzureOpenAI) -> None:
    asked: Any = {"model": "dep", "messages": HELLO, "max_tokens": 60, "temperature": 0}
    text = azure.chat.completions.create(**asked).choices[0].message.content
    letter = next(each for each in text[3:] if each.isascii() and each.isprintable())
    found = azure.chat.completions.create(**asked, stop=[letter]).choices[0]
    assert (found.finish_reason, found.message.content) == ("stop", text[: text.index(letter)])


@pytest.mark.parametrize("seed", range(4))
def test_the_grammar_keeps_even_random_weights_to_the_enum(azure: openai.AzureOpenAI, seed: int) -> None:
    found = azure.chat.completions.create(
        model="dep", messages=HELLO, response_format=FORMAT, temperature=2, seed=seed, max_tokens=30
    )
    content = found.choices[0].message.content or ""
    assert found.choices[0].finish_reason == "stop"
    assert json.loads(content)["choice"] in CHOICES
    assert content == json.dumps(json.loads(content), separators=(",", ":"), ensure_ascii=False)


def test_a_schema_s_answer_that_is_cut_says_so(azure: openai.AzureOpenAI) -> None:
    found = azure.chat.completions.create(model="dep", messages=HELLO, response_format=FORMAT, max_tokens=2)
    assert found.choices[0].finish_reason == "length"


def test_json_mode_gives_the_beginning_of_an_object(azure: openai.AzureOpenAI) -> None:
    asked: Any = {"response_format": {"type": "json_object"}, "max_tokens": 20, "seed": 1}
    found = azure.chat.completions.create(model="dep", messages=HELLO, **asked)
    assert (found.choices[0].message.content or "").startswith("{")


@pytest.mark.parametrize("alternatives", [0, 5, 20])
def test_logprobs_tell_every_token_with_as_many_alternatives_as_asked(
    azure: openai.AzureOpenAI, alternatives: int
) -> None:
    found = azure.chat.completions.create(
        model="dep", messages=HELLO, max_tokens=1, temperature=0, logprobs=True, top_logprobs=alternatives
    )
    assert found.choices[0].logprobs is not None
    (token,) = found.choices[0].logprobs.content or []
    assert len(token.top_logprobs) == alternatives
    assert token.logprob < 0
    if alternatives:
        assert token.logprob == max(other.logprob for other in token.top_logprobs)


def test_a_wrong_key_is_refused(endpoint: Endpoint) -> None:
    with (
        openai.AzureOpenAI(azure_endpoint=endpoint.url, api_key="wrong", api_version="2024-10-21") as client,
        pytest.raises(openai.AuthenticationError, match="invalid subscription key"),
    ):
        client.chat.completions.create(model="dep", messages=HELLO)
    assert post(endpoint, {}, **{"api-key": ""})[0] == 401
    assert post(endpoint, {}, **{"api-key": "", "Authorization": "Basic " + KEY})[0] == 401


def test_the_key_may_come_as_a_bearer_token(endpoint: Endpoint) -> None:
    with openai.AzureOpenAI(azure_endpoint=endpoint.url, azure_ad_token=KEY, api_version="2024-10-21") as client:
        assert client.chat.completions.create(model="dep", messages=HELLO, max_tokens=1).choices


def test_another_deployment_does_not_exist(azure: openai.AzureOpenAI, v1: openai.OpenAI) -> None:
    for client in (azure, v1):
        with pytest.raises(openai.NotFoundError) as raised:
            client.chat.completions.create(model="other", messages=HELLO)
        assert raised.value.code == "DeploymentNotFound"


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(azure: openai.AzureOpenAI) -> None:
    long: Any = [{"role": "user", "content": "word " * CONTEXT}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=f"maximum context length is {CONTEXT} tokens") as raised:
            azure.chat.completions.create(model="dep", messages=long, stream=stream)
        assert raised.value.code == "context_length_exceeded"


def test_a_schema_that_cannot_be_enforced_is_refused_and_not_ignored(azure: openai.AzureOpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "wish"}}}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="Invalid schema for response_format: Invalid type: wish"):
            azure.chat.completions.create(model="dep", messages=HELLO, response_format=wanted, stream=stream)


def test_what_is_not_served_is_refused_with_the_api_s_error(azure: openai.AzureOpenAI) -> None:
    for fields, code in (({"n": 2}, "unsupported_value"), ({"tools": [{"type": "function"}]}, "unsupported_parameter")):
        with pytest.raises(openai.BadRequestError) as raised:
            azure.chat.completions.create(model="dep", messages=HELLO, extra_body=fields)
        assert raised.value.code == code


# The HTTP of it


def test_only_this_machine_is_listened_to(endpoint: Endpoint) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", endpoint.url)
    assert endpoint._listener.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/openai/deployments/dep/chat/completions", 404, "404"),
        ("/openai/deployments/dep/chat/completions?api-version=newest", 404, "404"),
        ("/openai/deployments/other/chat/completions?api-version=2024-10-21", 404, "DeploymentNotFound"),
        ("/openai/deployments/dep/completions?api-version=2024-10-21", 404, "404"),
        ("/openai/v1/chat/completions?api-version=2024-10-21", 400, "BadRequest"),
        ("/openai/v1/chat/completions", 400, None),
        ("/v1/chat/completions", 404, "404"),
        ("/", 404, "404"),
    ],
)
def test_another_path_or_version_is_answered_as_azure_does(
    endpoint: Endpoint, path: str, status: int, code: str | None
) -> None:
    found, body = post(endpoint, {"messages": HELLO}, path)
    assert (found, body["error"]["code"]) == (status, code)


@pytest.mark.parametrize("content", [b"", b"{", b'{"temperature": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_bad_request(endpoint: Endpoint, content: bytes) -> None:
    assert post(endpoint, content) == (
        400,
        {"error": {"code": "BadRequest", "message": "The request body is not valid JSON."}},
    )


def test_a_body_without_end_is_not_read(endpoint: Endpoint) -> None:
    assert post(endpoint, None, **{"Content-Length": str(MAX_BODY + 1)})[0] == 413
    assert post(endpoint, None, **{"Content-Length": "-1"})[0] == 400
    assert post(endpoint, None, **{"Transfer-Encoding": "chunked", "Content-Length": "5"})[0] == 400


@pytest.mark.parametrize("line", [b"nonsense\r\n\r\n", b"BREW /pot HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_request_is_answered_and_hung_up_on(endpoint: Endpoint, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=30) as connection:
        connection.sendall(line)
        with connection.makefile("rb") as answer:
            assert b'{"error":{"code":"' in answer.read()


def test_get_is_not_found_and_needs_the_key_too(endpoint: Endpoint) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    with contextlib.closing(connection):
        for headers, status in (({}, 401), ({"api-key": KEY}, 404)):
            connection.request("GET", "/openai/models", headers=headers)
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_one_connection_serves_many_requests_streamed_or_not_refused_or_not(endpoint: Endpoint) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    with contextlib.closing(connection):
        connection.connect()
        first = connection.sock
        for fields in ({}, {"stream": True}, {"n": 2}, {"stream": True, "logprobs": True}, {}):
            body = json.dumps({"messages": HELLO, "max_tokens": 2} | fields)
            path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
            connection.request("POST", path, body, {"Authorization": f"Bearer {KEY}"})
            response = connection.getresponse()
            content = response.read()
            assert response.status == (400 if "n" in fields else 200)
            assert content.endswith(b"data: [DONE]\n\n") == bool(fields.get("stream"))
            assert connection.sock is first


def test_a_client_of_http_1_0_gets_its_stream_too(endpoint: Endpoint) -> None:
    body = json.dumps({"messages": HELLO, "max_tokens": 2, "stream": True}).encode()
    head = (
        "POST /openai/deployments/dep/chat/completions?api-version=2024-10-21 HTTP/1.0\r\n"
        f"api-key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as answer:
            found = answer.read()
    assert found.endswith(b"data: [DONE]\n\n")
    assert b"chunked" not in found


class Endless:
    """An engine that goes on until nobody waits."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()

    def chat(self, request: ChatRequest, emit: Callable[[Piece], None], cancelled: Callable[[], bool]) -> Ending:
        while not cancelled():
            if request.stream:
                emit(Piece("on and "))
            self.begun.set()
            time.sleep(0.01)
        self.cancelled.set()
        raise Cancelled


class Broken:
    def chat(self, request: ChatRequest, emit: Callable[[Piece], None], cancelled: Callable[[], bool]) -> Ending:
        raise ZeroDivisionError("secret of the engine")


def _begin(endpoint: Endpoint, stream: bool) -> socket.socket:
    body = json.dumps({"messages": HELLO, "stream": stream}).encode()
    head = (
        "POST /openai/deployments/dep/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n"
        f"Host: x\r\napi-key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", endpoint.port), timeout=30)
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_its_answer_and_nothing_else(stream: bool) -> None:
    engine = Endless()
    with Endpoint() as endpoint:
        endpoint.start(engine, SERVED, KEY)
        with _begin(endpoint, stream):
            assert engine.begun.wait(10)
        assert engine.cancelled.wait(10)
        assert post(endpoint, {})[0] == 400


def test_stopping_tells_clients_and_takes_no_time() -> None:
    engine = Endless()
    endpoint = Endpoint()
    endpoint.start(engine, SERVED, KEY)
    with _begin(endpoint, stream=False) as whole, _begin(endpoint, stream=True) as streamed:
        assert engine.begun.wait(10)
        streamed.recv(1)
        begun = time.monotonic()
        endpoint.stop()
        assert time.monotonic() - begun < 5
        with whole.makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 503 ")
        with streamed.makefile("rb") as answer:
            rest = answer.read()
    assert b"The server is stopping" in rest
    assert b"[DONE]" not in rest
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=5)


def test_an_engine_that_fails_is_a_server_error_and_its_words_stay_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Endpoint() as endpoint:
        endpoint.start(Broken(), SERVED, KEY)
        for _ in range(2):
            status, body = post(endpoint, {"messages": HELLO})
            assert (status, body["error"]["type"]) == (500, "server_error")
            assert "secret" not in json.dumps(body)
    assert "secret of the engine" in caplog.text


def test_a_port_that_is_taken_is_told_before_anything_else_happens() -> None:
    with Endpoint() as first:
        first.start(Broken(), SERVED, KEY)
        with pytest.raises(ConfigError, match=f"--port {first.port}: .*0 takes a free one"):
            Endpoint(first.port)


def test_no_log_holds_a_key_or_a_prompt(azure: openai.AzureOpenAI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mmlu_pipe.serve"):
        azure.chat.completions.create(model="dep", messages=HELLO, max_tokens=3)
        azure.close()
        for _ in range(100):
            if "tokens" in caplog.text:
                break
            time.sleep(0.05)
    told = [record.getMessage() for record in caplog.records if record.name == "mmlu_pipe.serve"]
    assert any(re.match(r"200 length, \d+\+3 tokens, ", line) for line in told)
    assert not any(KEY in line or "Hello" in line for line in told)


# The engine


def _request(**fields: Any) -> ChatRequest:
    return ChatRequest(messages=({"role": "user", "content": "Hello"},), max_tokens=20, **fields)


def test_one_answer_is_made_at_a_time_and_who_gives_up_leaves_the_queue(rambling: LlamaEngine) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(_piece: Piece) -> None:
        begun.set()
        assert go_on.wait(30)

    first = threading.Thread(target=rambling.chat, args=(_request(), hold, lambda: False))
    first.start()
    try:
        assert begun.wait(10)
        with pytest.raises(Cancelled):
            rambling.chat(_request(), lambda _piece: None, lambda: True)
    finally:
        go_on.set()
        first.join()
    assert rambling.chat(_request(), lambda _piece: None, lambda: False).completion_tokens == 20


@pytest.mark.parametrize("reuse", [False, True])
def test_what_prompts_begin_with_alike_is_computed_again_unless_asked_otherwise(reuse: bool, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "terse.gguf", seed=1, answers="0123")
    engine = LlamaEngine(path, threads=1, reuse_prompts=reuse)
    examples = ({"role": "user", "content": "One and one? " * 8}, {"role": "assistant", "content": "2"})
    endings, answers = [], []
    for question in ("Two and two?", "Two and one?", "Two and one?"):
        messages = (*examples, {"role": "user", "content": question})
        pieces: list[Piece] = []
        schema = FORMAT["json_schema"]["schema"]
        request = ChatRequest(messages, max_tokens=30, temperature=0, top_logprobs=5, schema=schema)
        endings.append(engine.chat(request, pieces.append, lambda: False))
        answers.append([token for piece in pieces for token in piece.tokens])
        assert json.loads("".join(piece.text for piece in pieces))["choice"] in CHOICES
    again = endings[0].prompt_tokens - len("two?<|im_end|>\n<|im_start|>assistant\n")
    assert all(ending.reused >= again if reuse else ending.reused == 0 for ending in endings[1:])
    assert endings[0].reused == 0
    for first, second in zip(*answers[1:], strict=True):
        assert first["token"] == second["token"]
        assert first["logprob"] == pytest.approx(second["logprob"], abs=1e-3)


def test_what_the_listener_raises_comes_back_and_ends_the_answer(rambling: LlamaEngine) -> None:
    pieces: list[Piece] = []

    def break_down(piece: Piece) -> None:
        pieces.append(piece)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        rambling.chat(_request(), break_down, lambda: False)
    assert len(pieces) == 1


def test_a_template_that_refuses_the_messages_is_a_bad_request(tmp_path: Path) -> None:
    template = (
        "{{ raise_exception('only the moon may speak') if messages[0].content == 'Hello' }}{{ messages[0].content }}"
    )
    engine = LlamaEngine(write_tiny_gguf(tmp_path / "picky.gguf", template=template), threads=1)
    with pytest.raises(Refusal, match="do not fit the model's chat template") as raised:
        engine.chat(_request(), lambda _piece: None, lambda: False)
    assert raised.value.status == 400


def test_the_listener_that_llama_cpp_brings_along_answers_nobody(rambling: LlamaEngine) -> None:
    found = urlsplit(rambling._server.listening_address)
    assert found.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(found.hostname, found.port or 0, timeout=30)
    with contextlib.closing(connection):
        for method, path in (("GET", "/props"), ("GET", "/slots"), ("POST", "/v1/chat/completions")):
            connection.request(method, path, "{}")
            response = connection.getresponse()
            response.read()
            assert response.status in (401, 404), path


def test_loading_leaves_ctrl_c_to_the_program(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    LlamaEngine(write_tiny_gguf(tmp_path / "tiny.gguf"), threads=1)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (3, 2), (4, 2), (8, 4), (16, 8)])
def test_no_more_threads_are_started_than_there_are_processors(
    processors: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(processors)), raising=False)
    assert default_threads() == threads


def test_a_torn_model_file_is_one_message(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "torn.gguf")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ConfigError, match=r"llama\.cpp cannot load it"):
        LlamaEngine(path, threads=1)


def test_without_llama_cpp_the_message_has_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigError, match=r'pip install "xllamacpp>=2026\.10" "llguidance>=1\.5"$'):
        LlamaEngine(tmp_path / "any.gguf")


# Our own runs over it


@pytest.mark.parametrize("api_version", ["2024-10-21", "v1"])
@pytest.mark.parametrize("strategy", ["json_schema", "logprob", "text"])
def test_a_run_over_it_answers_every_line_by_every_strategy(
    strategy: str,
    api_version: str,
    terse: LlamaEngine,
    write_dataset: Callable[..., Path],
    write_config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    model = "Qwen2.5-Coder-1.5B-Instruct"
    with Endpoint() as endpoint:
        endpoint.start(terse, Served(model, "dep", "gguf-0"), KEY)
        run = mmlu_pipe.run(
            str(write_dataset(4)),
            "zero_shot",
            other_config=write_config(endpoint.url, aoai_model=model, aoai_api_version=api_version),
            select_strategy=strategy,
            output_dir=tmp_path / "out",
            stream=strategy == "text",
            max_errors="0",
        )
    assert run.score is not None
    assert run.score.count == 4
    calls = [json.loads(line) for line in (run.run_dir / "calls.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {call["strategy"].partition("-")[0] for call in calls} == {strategy}
    assert {(call["served_model"], call["system_fingerprint"]) for call in calls} == {(model, "gguf-0")}
    assert all(call["distribution"] for call in calls)


# The command


def _serve(tmp_path: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "mmlu_pipe", "serve", "--threads", "1", *map(str, arguments)],
        cwd=tmp_path,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def _told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    return "".join(lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped_and_tells_all_that_is_needed(
    number: signal.Signals, tmp_path: Path
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    arguments = ("--model-file", path, "--port", "0", "--deployment", "mine", "--write-config", "local.json")
    with _serve(tmp_path, *arguments, "--reuse-prompts", MMLU_PIPE_SERVE_KEY=KEY) as process:
        try:
            told = _told(process)
            config = json.loads((tmp_path / "local.json").read_text(encoding="utf-8"))
            assert list(config) == ["aoai_endpoint", "aoai_deployment", "aoai_model", "aoai_api_version"]
            with openai.AzureOpenAI(
                azure_endpoint=config["aoai_endpoint"], api_key=KEY, api_version=config["aoai_api_version"]
            ) as client:
                for _ in range(2):
                    answer = client.chat.completions.create(
                        model=config["aoai_deployment"], messages=HELLO, max_tokens=2
                    )
        finally:
            process.send_signal(number)
            rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert re.search(r"sha-256   [0-9a-f]{64}\n", told)
    assert answer.system_fingerprint == "gguf-" + re.search(r"sha-256   ([0-9a-f]{12})", told)[1]  # type: ignore[index]
    assert answer.model == config["aoai_model"] == "tiny"
    assert 'export AZURE_OPENAI_API_KEY="$MMLU_PIPE_SERVE_KEY"' in told
    assert "mmlu-pipe run --other-config local.json" in told
    assert "no content filter" in told
    assert KEY not in told + rest + errors + json.dumps(config)
    first, second = re.findall(r"200 length, \d+\+2 tokens(, \d+ reused)?, ", errors)
    assert (bool(first), bool(second)) == (False, True)


def test_a_key_is_made_and_shown_to_a_person_and_never_to_a_log(tmp_path: Path) -> None:
    shown = choose_key({}, on_a_terminal=True)
    assert re.fullmatch(r"export AZURE_OPENAI_API_KEY=[\w-]{43}", shown.line)
    assert shown.value in shown.line
    assert shown.value not in repr(shown)
    assert choose_key({}, on_a_terminal=True) != shown
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    with _serve(tmp_path, "--model-file", path, "--port", "0") as process:
        told, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told == ""
    assert "set MMLU_PIPE_SERVE_KEY to a key of your own" in errors


@pytest.mark.parametrize("value", ["two words", "schlüssel", "two\nlines"])
def test_a_key_that_no_header_could_carry_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ConfigError, match="MMLU_PIPE_SERVE_KEY holds a blank") as raised:
        choose_key({"MMLU_PIPE_SERVE_KEY": value}, on_a_terminal=True)
    assert value not in str(raised.value)


def test_another_file_is_never_overwritten_by_the_configuration(tmp_path: Path) -> None:
    text = config_text("http://127.0.0.1:1", "dep", "Tiny")
    path = tmp_path / "other_configs.json"
    keep_config(path, text, only_check=True)
    assert not path.exists()
    keep_config(path, text)
    keep_config(path, text)
    assert path.read_text(encoding="utf-8") == text
    for only_check in (False, True):
        with pytest.raises(ConfigError, match="left alone, choose another name"):
            keep_config(path, config_text("http://127.0.0.1:2", "dep", "Tiny"), only_check=only_check)
    assert path.read_text(encoding="utf-8") == text
    with pytest.raises(ConfigError, match="cannot be written"):
        keep_config(tmp_path / "nowhere" / "x.json", text)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--model", "gpt-9"), "known weights are"),
        (("--model-file", "nothing.gguf"), "nothing.gguf: cannot be read"),
        (("--deployment", "a/b"), "--deployment 'a/b'"),
        (("--port", "70000"), "70000 is not in the range"),
        (("--threads", "0"), "0 is not in the range"),
    ],
)
def test_bad_usage_is_one_message_and_exit_2(arguments: tuple[str, str], told: str, tmp_path: Path) -> None:
    port = () if "--port" in arguments else ("--port", "0")
    with _serve(tmp_path, *arguments, *port, MMLU_PIPE_SERVE_KEY=KEY) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told in errors
    assert "Traceback" not in errors


def test_help_and_import_load_neither_llama_cpp_nor_the_hub() -> None:
    code = (
        "import sys\nfrom mmlu_pipe.cli.root import invoke\nimport mmlu_pipe.serve.process\n"
        "try: invoke(['serve', '--help'])\nexcept SystemExit as end: assert not end.code\n"
        "print('MODULES', ' '.join({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("MODULES")[2].split())
    assert not {"xllamacpp", "llguidance", "huggingface_hub", "numpy", "openai", "guidance"} & loaded
