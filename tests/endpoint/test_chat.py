"""One model call over real HTTP: what is asked again, what is an error of which kind, and what the record keeps."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from mmlu_pipe.endpoint.capabilities import apply, settle
from mmlu_pipe.endpoint.chat import Answer, ChatClient, FieldWithdrawn
from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.retry import MAX_ATTEMPTS, retry_delay
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import (
    AuthenticationFailed,
    ComeBackLater,
    ConfigError,
    ContentFiltered,
    EndpointError,
    EndpointRejected,
    EndpointUnavailable,
    MmluPipeError,
    RateLimited,
    Refused,
    RequirementUnmet,
    RunCancelled,
    Truncated,
)
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.records import Endpoint
from tests.servers.aoai import AoaiServer, Json, Reply, filtered_prompt, rate_limited

MESSAGES = [{"role": "user", "content": "Which?"}]
KEY = "test-key-hunter2"
BOTH_WAYS = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
BOTH_STYLES = pytest.mark.parametrize("version", ["2024-10-21", "v1"])


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been waited, in order; nothing is."""
    found: list[float] = []

    def delay(attempt: int, headers: Any) -> float:
        found.append(retry_delay(attempt, headers, jitter=lambda: 0.0))
        return 0.001

    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setattr("mmlu_pipe.endpoint.exchange.retry_delay", delay)
    return found


def serving(*replies: Reply | str, model: str = "gpt-4o", **options: Any) -> AoaiServer:
    """A server that gives these answers in order, and the last of them for ever."""

    def answer(body: Json, count: int) -> Reply | str:
        return replies[min(count, len(replies) - 1)]

    return AoaiServer({"dep": model, "vectors": "text-embedding-3-large"}, key=KEY, answer=answer, **options)


@contextmanager
def client_of(
    server: AoaiServer, model: str = "gpt-4o", version: str = "2024-10-21", deployment: str = "dep", **options: Any
) -> Iterator[ChatClient]:
    with connect(Endpoint(server.endpoint, deployment, model, version), ModelOptions(**options)) as connection:
        assert connection.client is not None
        yield connection.client


def ask(server: AoaiServer, session: LineSession | None = None, fields: Json | None = None, **options: Any) -> Answer:
    with client_of(server, **options) as client:
        return client.ask(MESSAGES, session or LineSession(1), **(fields or {}))


def failing(server: AoaiServer, session: LineSession | None = None, **options: Any) -> MmluPipeError:
    with pytest.raises(MmluPipeError) as caught:
        ask(server, session, **options)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)
    return caught.value


# Good answers, and their record


@BOTH_WAYS
@BOTH_STYLES
def test_a_good_answer_and_its_record(version: str, stream: bool) -> None:
    session = LineSession(7, shard="astronomy")
    with serving(Reply("2", served_model="gpt-4o-2024-08-06", fingerprint="fp_7")) as server:
        answer = ask(server, session, version=version, stream=stream, fields={"logprobs": True, "top_logprobs": 3})
        (body,) = server.bodies
    assert answer.text == "2"
    assert body["temperature"] == 0
    (call,) = session.calls
    usage = call.usage
    assert usage
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < call.latency_s < 60
    assert dataclasses.replace(call, latency_s=0.0, usage=None) == type(call)(
        line_number=7,
        index=0,
        request_hash=request_hash(body, "gpt-4o"),
        messages=MESSAGES,
        text="2",
        finish_reason="stop",
        distribution=None,
        usage=None,
        strategy=None,
        served_model="gpt-4o-2024-08-06",
        system_fingerprint="fp_7",
        latency_s=0.0,
        attempts=1,
        error=None,
    )
    json.dumps(call.to_json())


def test_the_calls_of_a_line_are_numbered_in_order_good_or_not() -> None:
    session = LineSession(3)
    with serving("a", Reply(finish_reason="length"), "c") as server, client_of(server) as client:
        client.ask(MESSAGES, session, strategy="text-v1")
        with pytest.raises(Truncated):
            client.ask(MESSAGES, session)
        client.ask(
            [*MESSAGES, {"role": "assistant", "content": "b"}], session, read_distribution=lambda _seen: {"c": 0.5}
        )
    assert [(call.index, call.text, call.error, call.strategy) for call in session.calls] == [
        (0, "a", None, "text-v1"),
        (1, "", "truncated", None),
        (2, "c", None, None),
    ]
    assert [call.distribution for call in session.calls] == [None, None, {"c": 0.5}]
    assert session.calls[0].request_hash == session.calls[1].request_hash != session.calls[2].request_hash


def test_json_and_stream_are_one_request() -> None:
    hashes = set()
    for stream in (False, True):
        for version in ("2024-10-21", "v1"):
            session = LineSession(1)
            with serving("2") as server:
                ask(server, session, stream=stream, version=version)
            hashes.add(session.calls[0].request_hash)
    assert len(hashes) == 1


def test_defaults_are_overridden_and_options_are_sent() -> None:
    with serving("2") as server:
        ask(server, seed=11, fields={"temperature": 0.7, "max_completion_tokens": 5, "stop": ["\n"]})
        (body,) = server.bodies
    assert body["temperature"] == 0.7
    assert body["seed"] == 11
    assert body["max_tokens"] == 5
    assert body["stop"] == ["\n"]
    assert "stream" not in body


# Answers that are none


@BOTH_WAYS
@BOTH_STYLES
@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (Reply("The ans", finish_reason="length"), Truncated, "max_tokens"),
        (Reply("The", finish_reason="content_filter", filtered={"violence": "high"}), ContentFiltered, "violence"),
        (Reply("The", filtered={"hate": "medium"}), ContentFiltered, "hate"),
        (Reply("bad words", filtered={"hate": "high"}, async_filter=True), ContentFiltered, "hate"),
        (Reply(finish_reason="content_filter"), ContentFiltered, "not given"),
        (Reply(finish_reason="tool_calls"), EndpointError, "'tool_calls'"),
        (Reply("2", finish_reason="something_new"), EndpointError, "'something_new'"),
        (Reply(refusal="I cannot help with that."), Refused, "I cannot help with that"),
        (filtered_prompt("jailbreak", "high"), ContentFiltered, "blocked the prompt (jailbreak"),
    ],
)
def test_an_answer_that_is_none_is_typed_and_asked_once(
    reply: Reply, kind: type[EndpointError], told: str, version: str, stream: bool
) -> None:
    session = LineSession(1)
    with serving(reply) as server:
        error = failing(server, session, version=version, stream=stream)
        assert len(server.requests) == 1
    assert type(error) is kind
    assert told in str(error)
    assert not error.stops_run
    assert [(call.attempts, call.error, call.distribution) for call in session.calls] == [(1, error.kind, None)]


def test_no_content_is_no_answer() -> None:
    with serving(Reply(content=None)) as server:
        assert "no text" in str(failing(server))


@BOTH_WAYS
def test_no_choices_is_asked_again_and_then_given_up(stream: bool) -> None:
    session = LineSession(1)
    with serving(Reply(empty_choices=True)) as server:
        error = failing(server, session, stream=stream)
        assert len(server.requests) == MAX_ATTEMPTS
    assert type(error) is EndpointUnavailable
    assert "choices" in str(error) or "finish reason" in str(error)
    assert f"after {MAX_ATTEMPTS} attempts" in str(error)
    with serving(Reply(empty_choices=True), "2") as server:
        assert ask(server, stream=stream).text == "2"


@pytest.mark.parametrize("spelling", ["content_filter_result", "content_filter_results"])
@pytest.mark.parametrize("code", ["content_filter", None])
def test_the_categories_of_a_blocked_prompt_are_kept_in_both_spellings(spelling: str, code: str | None) -> None:
    reply = filtered_prompt("violence", "medium")
    assert reply.error
    error = json.loads(json.dumps(reply.error)) | {"code": code}
    error["innererror"] = {
        "code": "ResponsibleAIPolicyViolation",
        spelling: error["innererror"]["content_filter_result"],
    }
    with serving(dataclasses.replace(reply, error=error)) as server:
        found = failing(server)
    assert isinstance(found, ContentFiltered)
    assert found.categories == {"violence": "medium"}


def test_the_asynchronous_filters_annotations_change_nothing() -> None:
    with serving(Reply("The answer is 2.", async_filter=True)) as server:
        assert ask(server, stream=True).text == "The answer is 2."


# What is asked again


@BOTH_WAYS
def test_a_429_says_how_long_and_is_asked_again(stream: bool, waits: list[float]) -> None:
    session = LineSession(1)
    with serving(rate_limited(40), rate_limited(1500), "2") as server:
        assert ask(server, session, stream=stream).text == "2"
    assert waits == [0.04, 1.5]
    (call,) = session.calls
    assert (call.attempts, call.error, call.text) == (3, None, "2")


TROUBLE = [
    pytest.param(Reply(status=500), id="500"),
    pytest.param(Reply(status=502, raw=b"<html>Bad gateway</html>", content_type="text/html"), id="502"),
    pytest.param(Reply(status=503), id="503"),
    pytest.param(Reply(status=408), id="408"),
    pytest.param(Reply(status=409), id="409"),
    pytest.param(Reply(status=529), id="529"),
    pytest.param(Reply(status=400, headers={"x-should-retry": "true"}), id="x-should-retry"),
    pytest.param(Reply("2", reset="before"), id="reset before"),
    pytest.param(Reply("2", reset="middle"), id="reset in the middle"),
    pytest.param(Reply("2", truncated=True), id="cut"),
    pytest.param(Reply(raw=b"<html>Sign in</html>", content_type="text/html"), id="html"),
    pytest.param(Reply(raw=b'{"choices": 7}'), id="other JSON"),
    pytest.param(Reply(raw=b'{"error": {"message": "overloaded"}}'), id="error in a 200"),
    pytest.param(Reply(raw=b""), id="nothing"),
]


@BOTH_WAYS
@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_is_asked_again(trouble: Reply, stream: bool, waits: list[float]) -> None:
    session = LineSession(1)
    with serving(trouble, trouble, "2") as server:
        assert ask(server, session, stream=stream).text == "2"
        assert len(server.requests) == 3
    assert waits == [0.5, 1.0]
    assert [(call.attempts, call.error) for call in session.calls] == [(3, None)]


@BOTH_WAYS
@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_without_end_is_given_up_typed(trouble: Reply, stream: bool, waits: list[float]) -> None:
    session = LineSession(1)
    with serving(trouble) as server:
        error = failing(server, session, stream=stream)
        assert len(server.requests) == MAX_ATTEMPTS
    assert type(error) is EndpointUnavailable
    assert str(error).endswith(f"(after {MAX_ATTEMPTS} attempts)")
    assert not error.stops_run
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert [(call.attempts, call.error) for call in session.calls] == [(MAX_ATTEMPTS, "unavailable")]


def test_a_rate_limit_is_waited_for_up_to_max_wait_in_all(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    session = LineSession(1)
    with serving(rate_limited(250)) as server:
        error = failing(server, session, max_wait=0.8)
        assert len(server.requests) == 4
    assert type(error) is RateLimited
    assert "HTTP 429" in str(error)
    assert "rate limit" in str(error)
    assert "after 4 attempts and --max-wait 0.8 s" in str(error)
    assert not error.stops_run
    assert [(call.attempts, call.error) for call in session.calls] == [(4, "rate_limited")]


def test_a_rate_limit_outlasts_the_attempts_that_other_trouble_gets(waits: list[float]) -> None:
    session = LineSession(1)
    refusals = [rate_limited(100)] * (2 * MAX_ATTEMPTS)
    with serving(*refusals, Reply(status=500), *refusals, "2") as server:
        assert ask(server, session).text == "2"
    assert session.calls[0].attempts == 4 * MAX_ATTEMPTS + 2
    assert waits.count(0.1) == 4 * MAX_ATTEMPTS


def test_trouble_between_rate_limits_is_given_up_after_its_own_attempts() -> None:
    session = LineSession(1)
    with serving(*[rate_limited(100), Reply(status=500)] * MAX_ATTEMPTS) as server:
        error = failing(server, session)
    assert type(error) is EndpointUnavailable
    assert session.calls[0].attempts == 2 * MAX_ATTEMPTS


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_wait_longer_than_max_wait_stops_the_run_and_says_when_to_return(status: int, waits: list[float]) -> None:
    with serving(Reply(status=status, headers={"retry-after": "7500"})) as server:
        before = time.time()
        error = failing(server)
        assert len(server.requests) == 1
    assert type(error) is ComeBackLater
    assert error.stops_run
    assert error.seconds == 7500
    assert "come back in 2 h 5 min" in str(error)
    assert "--max-wait 300 s" in str(error)
    assert "the same command" in str(error)
    (told,) = re.findall(r"at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) local time", str(error))
    back = time.mktime(time.strptime(told, "%Y-%m-%d %H:%M:%S"))
    assert before + 7499 <= back <= time.time() + 7502
    assert waits == []


def test_a_wait_as_long_as_max_wait_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmlu_pipe.endpoint.exchange.retry_delay", retry_delay)
    with serving(rate_limited(100), "2") as server:
        assert ask(server, max_wait=0.1).text == "2"


def test_a_wait_beyond_all_calendars_is_told_as_a_year() -> None:
    with serving(Reply(status=429, headers={"retry-after": "1e400"})) as server:
        assert "come back in 366 d" in str(failing(server))


def test_retry_after_is_obeyed_for_a_503_too(waits: list[float]) -> None:
    with serving(Reply(status=503, headers={"retry-after": "3"}), "2") as server:
        assert ask(server).text == "2"
    assert waits == [3]


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (Reply(status=429, headers={"x-should-retry": "false"}), RateLimited, "HTTP 429"),
        (Reply(status=503, headers={"x-should-retry": "false"}), EndpointUnavailable, "HTTP 503"),
    ],
)
def test_a_word_against_another_attempt_ends_the_call(
    reply: Reply, kind: type[EndpointError], told: str, waits: list[float]
) -> None:
    with serving(reply) as server:
        error = failing(server)
        assert len(server.requests) == 1
    assert type(error) is kind
    assert told in str(error)
    assert waits == []


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with serving("2") as gone:
        pass
    error = failing(gone)
    assert type(error) is EndpointUnavailable
    assert "ConnectError" in str(error)


def test_stop_ends_waits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmlu_pipe.endpoint.exchange.retry_delay", lambda attempt, headers: 3600.0)
    refused, sessions = threading.Barrier(5), [LineSession(number) for number in range(1, 5)]

    def answer(body: Json, count: int) -> Reply:
        refused.wait(30)
        return Reply(status=503)

    with (
        AoaiServer(key=KEY, answer=answer) as server,
        client_of(server, workers=4) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        asked = [pool.submit(client.ask, MESSAGES, session) for session in sessions]
        refused.wait(30)  # all four are refused, and wait or are about to
        client.stop()
        for future in asked:
            assert isinstance(future.exception(timeout=30), RunCancelled)
        assert len(server.requests) == 4
    assert [len(session.calls) for session in sessions] == [1] * 4


# What no other attempt would change


@BOTH_STYLES
@pytest.mark.parametrize("auth", ["key", "entra"])
@pytest.mark.parametrize("status", [401, 403])
def test_401_and_403_say_what_to_change(status: int, auth: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmlu_pipe.endpoint.credentials import Credential

    if auth == "entra":
        monkeypatch.setattr(
            "mmlu_pipe.endpoint.connect.choose_credential",
            lambda *_asked: Credential("Entra ID (azure-identity)", token_provider=lambda: KEY),
        )
    key = None if status == 403 else "another-key"
    session = LineSession(1)
    with AoaiServer(key=key, bearer=lambda token: 403 if status == 403 else False) as server:
        error = failing(server, session, version=version, auth=auth)
        assert len(server.requests) == 1
    assert type(error) is AuthenticationFailed
    assert error.stops_run
    assert f"HTTP {status}" in str(error)
    advice = {
        ("key", 401): ["AZURE_OPENAI_API_KEY", "aoai_endpoint", "--auth entra"],
        ("key", 403): ["--auth entra", "network"],
        ("entra", 401): ["az login", "tenant", "--auth key"],
        ("entra", 403): ["Cognitive Services OpenAI User", "network"],
    }
    assert [text for text in advice[auth, status] if text not in str(error)] == []
    assert [(call.attempts, call.error) for call in session.calls] == [(1, "authentication")]


@pytest.mark.parametrize("status", [400, 401, 418, 429, 500])
def test_a_gateway_that_repeats_the_credential_does_not_leak_it(status: int) -> None:
    told = {"message": f"Wrong key {KEY} given", "code": "x", "received": {"authorization": f"Bearer {KEY}"}}
    with serving(Reply(status=status, error=told)) as server:
        error = failing(server, max_wait=0.005)
    assert "Wrong key [credential] given" in str(error)


@BOTH_STYLES
def test_a_deployment_that_is_not_there_stops_the_run(version: str) -> None:
    with serving("2") as server:
        error = failing(server, version=version, deployment="missing")
        assert len(server.requests) == 1
    assert isinstance(error, EndpointRejected)
    assert (error.status, error.code, error.stops_run) == (404, "DeploymentNotFound", True)
    assert "aoai_deployment" in str(error)
    assert "aoai_deployment" in str(error)


def test_a_path_that_is_no_api_stops_the_run() -> None:
    with serving("2") as server:
        endpoint = Endpoint(f"{server.endpoint}/elsewhere", "dep", "gpt-4o", "2024-10-21")
        with connect(endpoint, ModelOptions()) as connection:
            assert connection.client is not None
            with pytest.raises(EndpointRejected, match="aoai_endpoint") as caught:
                connection.client.ask(MESSAGES, LineSession(1))
    assert caught.value.stops_run


@BOTH_STYLES
def test_a_deployment_without_chat_is_warned_of_and_stops_the_run(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving("2") as server, caplog.at_level(logging.WARNING, "mmlu_pipe.endpoint"):
        error = failing(server, version=version, deployment="vectors", model="text-embedding-3-large")
        assert len(server.requests) == 1
    assert isinstance(error, EndpointRejected)
    assert error.code == "OperationNotSupported"
    assert error.stops_run
    assert "chat" in str(error)
    assert "not known as a chat model" in caplog.text


def test_a_prompt_too_long_fails_its_line_only() -> None:
    told = {
        "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
        " Please reduce the length of the messages.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
    with serving(Reply(status=400, error=told)) as server:
        error = failing(server)
        assert len(server.requests) == 1
    assert type(error) is EndpointRejected
    assert (error.status, error.code, error.stops_run) == (400, "context_length_exceeded", False)
    assert str(error).startswith("HTTP 400 context_length_exceeded: This model's maximum")


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(status=400, error={"message": "a : b", "code": None}), "HTTP 400: a : b"),
        (Reply(status=400, raw=b'{"statusCode": 400, "message": "m"}'), "HTTP 400: m"),
        (Reply(status=400, raw=b'{"detail": "d"}'), "HTTP 400: {'detail': 'd'}"),
        (Reply(status=400, raw=b"<html>"), "HTTP 400: no message"),
        (Reply(status=413, raw=b""), "HTTP 413: no message"),
    ],
)
def test_another_refusal_is_shown_as_it_is(reply: Reply, told: str) -> None:
    with serving(reply) as server:
        error = failing(server)
        assert len(server.requests) == 1
    assert type(error) is EndpointRejected
    assert str(error) == told


# The endpoint corrects the table


def test_the_endpoint_corrects_a_wrong_table_once_for_all_threads(caplog: pytest.LogCaptureFixture) -> None:
    """The client believes gpt-4o; behind the deployment is o4-mini, which takes neither temperature nor logprobs."""
    workers, sessions = 8, [LineSession(number) for number in range(1, 41)]
    fields: Json = {"max_completion_tokens": 9, "logprobs": True, "top_logprobs": 5}
    with (
        serving("2", model="o4-mini") as server,
        caplog.at_level(logging.WARNING, "mmlu_pipe.endpoint"),
        client_of(server, workers=workers) as client,
        ThreadPoolExecutor(workers) as pool,
    ):
        answers = list(pool.map(lambda session: client.ask(MESSAGES, session, **fields), sessions))
        notes = client.settled.notes()
        known = client.capabilities
        refused = len(server.requests) - server.answered
        last = server.bodies[-1]
    assert {answer.text for answer in answers} == {"2"}
    assert not known.temperature
    assert not known.logprobs
    assert known.token_limit == "max_completion_tokens"
    assert last == {"model": "gpt-4o", "messages": MESSAGES, "max_completion_tokens": 9}
    corrections = [note for note in notes if "refused" in note]
    assert len(corrections) == len(client.settled.corrections) <= 3
    assert refused <= 3 * workers  # those under way together; no later one
    assert sum(call.attempts for session in sessions for call in session.calls) == len(server.requests)
    for field in ("temperature", "logprobs"):
        assert any(field in note for note in corrections)
        assert any(f"{field}=" in note and "not sent" in note for note in notes)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told))
    assert sum("corrected by the endpoint" in text for text in told) == len(corrections)
    assert all(call.request_hash == request_hash(last, "gpt-4o") for session in sessions for call in session.calls)


def test_a_correction_holds_for_later_calls_and_counts_its_attempts() -> None:
    first, second = LineSession(1), LineSession(2)
    with serving("2", model="o4-mini") as server, client_of(server) as client:
        client.ask(MESSAGES, first)
        client.ask(MESSAGES, second)
        assert [body.get("temperature") for body in server.bodies] == [0, None, None]
    assert [call.attempts for call in (*first.calls, *second.calls)] == [2, 1]


@pytest.mark.parametrize("workers", [1, 6])
def test_a_required_field_that_the_endpoint_withdraws_is_an_error_for_every_line(workers: int) -> None:
    sessions = [LineSession(number) for number in range(1, 13)]
    with serving("2", model="o4-mini") as server:
        with (
            client_of(server, workers=workers, require=("temperature=0",)) as client,
            ThreadPoolExecutor(workers) as pool,
        ):
            asked = [pool.submit(client.ask, MESSAGES, session) for session in sessions]
        errors = [future.exception(timeout=30) for future in asked]
        assert server.answered == 0
    assert {type(error) for error in errors} == {RequirementUnmet}
    assert "temperature=0 is required, but gpt-4o on 2024-10-21 does not accept temperature=0" in str(errors[0])
    assert all(call.error == "requirement" and call.attempts for session in sessions for call in session.calls)


def test_a_requirement_that_the_table_denies_fails_before_any_request() -> None:
    with serving("2", model="o4-mini") as server:
        error = failing(server, model="o4-mini", require=("temperature=0",))
        assert server.requests == []
    assert type(error) is RequirementUnmet
    assert error.stops_run


@pytest.mark.parametrize("text", ["colour", "temperature=warm", "seed=", "logprobs=-1"])
def test_a_requirement_that_is_none_is_refused(text: str) -> None:
    with serving("2") as server:
        error = failing(server, require=(text,))
    assert type(error) is ConfigError
    assert text in str(error)


def test_a_need_that_the_table_denies_makes_no_call_and_no_record() -> None:
    session = LineSession(1)
    with serving("2", model="gpt-4-32k") as server, client_of(server, "gpt-4-32k", "2024-02-01") as client:
        with pytest.raises(FieldWithdrawn, match="structured_outputs"):
            client.ask(MESSAGES, session, needs=("structured_outputs",))
        assert server.requests == []
    assert session.calls == []


def test_a_need_that_the_endpoint_withdraws_is_told_with_its_record() -> None:
    session = LineSession(1)
    with serving("2", model="o4-mini") as server, client_of(server) as client:
        with pytest.raises(FieldWithdrawn, match="logprobs"):
            client.ask(MESSAGES, session, needs=("logprobs",), logprobs=True, top_logprobs=5, temperature=None)
        assert server.answered == 0
    assert [(call.attempts, call.error) for call in session.calls] == [(1, "rejected")]


def test_a_400_that_corrects_nothing_does_not_go_round_for_ever() -> None:
    told = {"message": "Unsupported parameter: 'temperature' is not supported with this model.", "param": "temperature"}
    with serving(Reply(status=400, error=told)) as server:
        error = failing(server)
        assert [body.get("temperature") for body in server.bodies] == [0, None]
    assert type(error) is EndpointRejected


def test_what_is_dropped_is_noticed_once(caplog: pytest.LogCaptureFixture) -> None:
    with (
        serving("2", model="o4-mini") as server,
        caplog.at_level(logging.WARNING, "mmlu_pipe.endpoint"),
        client_of(server, model="o4-mini", seed=3) as client,
    ):
        for number in range(3):
            client.ask(MESSAGES, LineSession(number))
        assert server.answered == len(server.requests) == 3
        assert client.settled.notes() == [
            "temperature=0 is not sent: o4-mini on 2024-10-21 does not accept 'temperature'"
        ]
    assert len(caplog.records) == 1
    assert apply(settle("o4-mini", "2024-10-21"), {"seed": 3})[0] == {"seed": 3}


# Nothing secret anywhere


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=401),
        Reply(status=500),
        Reply(reset="before"),
        Reply(refusal="no"),
        Reply(raw=b"x"),
        rate_limited(1),
    ],
)
def test_no_secret_is_in_a_record_or_a_log(
    reply: Reply, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = LineSession(1)
    with caplog.at_level(logging.DEBUG), serving(reply) as server:
        failing(server, session, max_wait=0.005)
        assert server.requests[0].headers["api-key"] == KEY
    assert KEY not in json.dumps([call.to_json() for call in session.calls])
    assert KEY not in caplog.text


def test_the_facts_of_a_connection_name_no_host_no_deployment_and_no_key() -> None:
    with serving("2") as server:
        endpoint = Endpoint(server.endpoint, "dep-of-ours", "gpt-4o", "2024-10-21")
        with connect(endpoint, ModelOptions()) as connection:
            facts = json.dumps(connection.facts)
            assert connection.facts["endpoint_kind"] == "loopback"
            assert connection.facts["auth"] == "API key (AZURE_OPENAI_API_KEY)"
    for secret in (KEY, "dep-of-ours", "127.0.0.1"):
        assert secret not in facts


# The limits


def test_the_facts_of_a_connection_tell_what_the_limits_did() -> None:
    with serving(rate_limited(1), "2") as server:
        endpoint = Endpoint(server.endpoint, "dep", "gpt-4o", "2024-10-21")
        with connect(endpoint, ModelOptions(workers=3)) as connection:
            assert connection.client is not None
            assert connection.client.limiter is not None
            assert connection.client.limiter.concurrency == 3
            connection.client.ask(MESSAGES, LineSession(1))
            limits = connection.facts["limits"]
    assert set(limits) == {"lowest_concurrency", "rate_limited", "waited_s"}
    assert limits["rate_limited"] == 1
    assert limits["waited_s"] > 0


def test_requests_a_minute_are_a_bound_that_is_kept() -> None:
    with serving("2") as server, client_of(server, workers=4, rpm=600) as client, ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        list(pool.map(lambda number: client.ask(MESSAGES, LineSession(number)), range(6)))
        assert time.monotonic() - started >= 0.5


def test_stop_ends_the_wait_for_a_slot_at_once() -> None:
    with serving("2") as server, client_of(server, workers=8, rpm=1) as client, ThreadPoolExecutor(8) as pool:
        client.ask(MESSAGES, LineSession(0))
        asked = [pool.submit(client.ask, MESSAGES, LineSession(number)) for number in range(1, 9)]
        client.stop()
        for future in asked:
            assert isinstance(future.exception(timeout=30), RunCancelled)
        assert len(server.requests) == 1
