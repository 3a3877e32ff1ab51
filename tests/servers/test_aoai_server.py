"""The loopback endpoint of these tests, asked by the real openai SDK and by bare HTTP."""

from __future__ import annotations

import http.client
import json
import math
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from mmlu_pipe.endpoint.capabilities import Capabilities, apply, correction, rejected_fields, settle
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt, rate_limited

MESSAGES: list[Any] = [{"role": "user", "content": "Which is right?"}]
OPTIONS = ["red", "green", "blue"]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": OPTIONS}},
    "required": ["answer"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}


@pytest.fixture
def server() -> Iterator[AoaiServer]:
    with AoaiServer(
        {"dep": "gpt-4o", "o": "o4-mini", "old": "gpt-4-32k", "vectors": "text-embedding-3-large"}
    ) as server:
        yield server


def ask(server: AoaiServer, deployment: str = "dep", version: str = "2024-10-21", **more: Any) -> Any:
    options = {"api_key": server.key, "api_version": version, "max_retries": 0, "azure_deployment": deployment}
    with openai.AzureOpenAI(azure_endpoint=server.endpoint, **options) as client:
        given = client.chat.completions.create(model=deployment, messages=MESSAGES, **more)
        return list(given) if more.get("stream") else given


def post(server: AoaiServer, body: Any, path: str, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
    try:
        content = body if isinstance(body, str) else json.dumps(body)
        connection.request("POST", path, content, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def replying(reply: Reply | str) -> AoaiServer:
    return AoaiServer(answer=lambda body, count: reply)


# The wire format


def test_the_sdk_gets_a_whole_completion(server: AoaiServer) -> None:
    given = ask(server, logprobs=True, top_logprobs=4, max_tokens=5, temperature=0, seed=1)
    choice = given.choices[0]
    assert choice.message.content in {"0", "1", "2", "3"}
    assert choice.finish_reason == "stop"
    assert [token.token for token in choice.logprobs.content] == list(choice.message.content)
    top = choice.logprobs.content[0].top_logprobs
    assert len(top) == 4
    assert top[0].token == choice.message.content
    assert sum(math.exp(token.logprob) for token in top) <= 1
    assert given.model == "gpt-4o"
    assert given.system_fingerprint
    assert given.usage.total_tokens == given.usage.prompt_tokens + given.usage.completion_tokens
    assert given.model_extra["prompt_filter_results"][0]["content_filter_results"]["jailbreak"]["filtered"] is False
    assert choice.model_extra["content_filter_results"]["hate"]["severity"] == "safe"
    request = server.requests[0]
    assert request.path == "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == server.key
    assert request.body["seed"] == 1


def test_the_same_messages_get_the_same_option_of_the_schema(server: AoaiServer) -> None:
    answers = {ask(server, response_format=FORMAT).choices[0].message.content for _ in range(3)}
    assert len(answers) == 1
    assert json.loads(answers.pop())["answer"] in OPTIONS


def test_a_stream_begins_with_the_prompt_filter_and_ends_with_usage(server: AoaiServer) -> None:
    chunks = ask(
        server,
        stream=True,
        stream_options={"include_usage": True},
        response_format=FORMAT,
        logprobs=True,
        top_logprobs=2,
    )
    assert chunks[0].id == ""
    assert chunks[0].choices == []
    assert chunks[0].model_extra["prompt_filter_results"]
    spoken = [chunk.choices[0] for chunk in chunks if chunk.choices]
    text = "".join(choice.delta.content or "" for choice in spoken)
    assert json.loads(text)["answer"] in OPTIONS
    assert "".join(choice.logprobs.content[0].token for choice in spoken if choice.logprobs) == text
    assert spoken[-1].finish_reason == "stop"
    assert all(choice.model_extra["content_filter_results"] for choice in spoken if choice.delta.content)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(text)


def test_a_stream_has_no_usage_unless_asked(server: AoaiServer) -> None:
    assert all(chunk.usage is None for chunk in ask(server, stream=True))


def test_reasoning_models_count_their_hidden_tokens(server: AoaiServer) -> None:
    usage = ask(server, "o", max_completion_tokens=500).usage
    assert usage.completion_tokens > usage.completion_tokens_details.reasoning_tokens > 0


def test_the_v1_path_takes_the_deployment_as_model_and_the_key_as_bearer(server: AoaiServer) -> None:
    with openai.OpenAI(base_url=f"{server.endpoint}/openai/v1/", api_key=server.key, max_retries=0) as client:
        assert client.chat.completions.create(model="dep", messages=MESSAGES).choices[0].message.content
    with (
        pytest.raises(openai.BadRequestError, match="API version"),
        openai.OpenAI(
            base_url=f"{server.endpoint}/openai/v1/",
            api_key=server.key,
            max_retries=0,
            default_query={"api-version": "2024-10-21"},
        ) as client,
    ):
        client.chat.completions.create(model="dep", messages=MESSAGES)


def test_one_connection_serves_many_requests(server: AoaiServer) -> None:
    with openai.AzureOpenAI(azure_endpoint=server.endpoint, api_key=server.key, api_version="2024-10-21") as client:
        for _ in range(5):
            client.chat.completions.create(model="dep", messages=MESSAGES)
    assert server.connections == 1
    assert len(server.requests) == 5
    assert server.in_flight_peak == 1


def test_requests_at_once_are_counted() -> None:
    with AoaiServer(answer=lambda body, count: Reply("1", hang=0.3)) as server, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask(server), range(4)))
        assert server.in_flight_peak == 4
        assert server.connections == 4


def test_the_answer_is_the_tests_to_give() -> None:
    with AoaiServer(answer=lambda body, count: f"{count}:{body['messages'][0]['content'][:5]}") as server:
        assert [ask(server).choices[0].message.content for _ in range(2)] == ["0:Which", "1:Which"]


def test_it_speaks_tls(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with AoaiServer(tls=(tmp_path / "cert.pem", tmp_path / "key.pem")) as server:
        connection = http.client.HTTPSConnection(server.endpoint.removeprefix("https://"), context=context)
        path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
        connection.request("POST", path, json.dumps({"messages": MESSAGES}), {"api-key": str(server.key)})
        assert connection.getresponse().status == 200
        connection.close()


# Who may ask, and whom


def test_a_wrong_key_is_401_and_a_resource_without_keys_403(server: AoaiServer) -> None:
    with pytest.raises(openai.AuthenticationError):
        ask(AoaiServerLike(server, key="wrong"))
    with AoaiServer(key=None, bearer="token") as keyless, pytest.raises(openai.PermissionDeniedError):
        ask(AoaiServerLike(keyless, key="any"))


class AoaiServerLike:
    """The same server, asked with another key."""

    def __init__(self, server: AoaiServer, key: str) -> None:
        self.endpoint, self.key = server.endpoint, key


@pytest.mark.parametrize(("token", "status"), [("good", 200), ("bad", 401), ("outside", 403)])
def test_a_token_is_judged_by_the_test(token: str, status: int) -> None:
    verdict: dict[str, bool | int] = {"good": True, "outside": 403}
    with AoaiServer(bearer=lambda given: verdict.get(given, False)) as server:
        path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
        assert post(server, {"messages": MESSAGES}, path, Authorization=f"Bearer {token}")[0] == status


def test_what_is_not_there_is_404_in_azures_words(server: AoaiServer) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(server, "absent")
    assert caught.value.body == {"code": "DeploymentNotFound", "message": caught.value.body["message"]}
    for path in ("/openai/deployments/dep/chat/completions", "/v1/chat/completions"):
        assert post(server, {}, path, **{"api-key": str(server.key)}) == (
            404,
            {"error": {"code": "404", "message": "Resource not found"}},
        )


def test_a_deployment_without_chat_says_so(server: AoaiServer) -> None:
    with pytest.raises(openai.BadRequestError, match="chatCompletion operation does not work") as caught:
        ask(server, "vectors")
    assert caught.value.code == "OperationNotSupported"


# Strictness


@pytest.mark.parametrize(
    ("deployment", "version", "fields", "code", "words"),
    [
        ("o", "v1", {"temperature": 0}, "unsupported_value", "Only the default (1) value"),
        ("o", "v1", {"max_tokens": 3}, "unsupported_parameter", "Use 'max_completion_tokens' instead"),
        ("o", "v1", {"logprobs": True}, "unsupported_parameter", "'logprobs' is not supported"),
        ("o", "v1", {"reasoning_effort": "minimal"}, "unsupported_value", "'low', 'medium', 'high'"),
        ("dep", "v1", {"reasoning_effort": "low"}, None, "Unrecognized request argument"),
        ("dep", "v1", {"logprobs": True, "top_logprobs": 21}, None, "less than or equal to 20"),
        ("dep", "2024-06-01", {"max_completion_tokens": 3}, None, "Unrecognized request argument supplied: max_comp"),
        ("dep", "2024-10-21", {"colour": 3}, "unknown_parameter", "Unknown parameter: 'colour'"),
        ("dep", "2024-06-01", {"response_format": FORMAT}, "BadRequest", "enabled only for api versions"),
        ("old", "2024-10-21", {"response_format": FORMAT}, None, "of type 'json_schema' is not supported"),
        ("old", "2024-02-01", {"logprobs": True}, None, "Unrecognized request argument supplied: logprobs"),
        ("dep", "2024-10-21", {"stream_options": {}}, None, "only allowed when 'stream' is enabled"),
    ],
)
def test_a_field_that_is_not_accepted_is_refused_in_azures_words(
    server: AoaiServer, deployment: str, version: str, fields: dict[str, Any], code: str | None, words: str
) -> None:
    status, told = post(
        server,
        {"messages": MESSAGES, "model": deployment, **fields},
        f"/openai/deployments/{deployment}/chat/completions?api-version={version}",
        **{"api-key": str(server.key)},
    )
    assert status == 400
    assert told["error"]["code"] == code
    assert words in told["error"]["message"]


def test_a_lenient_server_takes_any_field() -> None:
    with AoaiServer({"dep": "o4-mini"}, strict=False) as server:
        assert ask(server, temperature=0, extra_body={"colour": 1}).choices


@pytest.mark.parametrize(
    "model", ["gpt-4-32k", "gpt-4o", "o1", "o4-mini", "gpt-5", "gpt-5-chat", "Mistral-small", "Phi-4"]
)
@pytest.mark.parametrize(
    "version", ["2023-05-15", "2024-02-01", "2024-06-01", "2024-10-21", "2025-04-01-preview", "v1"]
)
def test_every_refusal_is_understood_and_leads_to_an_accepted_body(model: str, version: str) -> None:
    wanted: dict[str, Any] = {
        "messages": MESSAGES,
        "temperature": 0,
        "top_p": 0.5,
        "seed": 1,
        "stop": ["\n"],
        "logprobs": True,
        "top_logprobs": 20,
        "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": FORMAT,
        "max_completion_tokens": 9,
        "presence_penalty": 1,
        "reasoning_effort": "low",
    }
    known = Capabilities(
        model=model,
        api_version=version,
        seed=True,
        logprobs=True,
        max_top_logprobs=20,
        stream_options=True,
        json_object=True,
        structured_outputs=True,
        token_limit="max_completion_tokens",
        reasoning_effort=("none", "minimal", "low", "medium", "high", "xhigh"),
    )
    path = f"/openai/deployments/dep/chat/completions?api-version={version}"
    with AoaiServer({"dep": model}) as server:
        for _ in range(20):
            body, _dropped = apply(known, wanted)
            connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
            connection.request("POST", path, json.dumps(body), {"api-key": str(server.key)})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if answer.status == 200:
                break
            found = correction(known, answer.status, json.loads(content)["error"])
            assert found is not None, content
            known = found.capabilities
        assert answer.status == 200
        assert rejected_fields(settle(model, version), body) == []


# Faults


def test_rate_limits_and_failures_carry_what_azure_sends() -> None:
    with replying(rate_limited(1500)) as server, pytest.raises(openai.RateLimitError) as caught:
        ask(server)
    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.response.headers["retry-after-ms"] == "1500"
    for status in (500, 503):
        with replying(Reply(status=status)) as server, pytest.raises(openai.InternalServerError) as failed:
            ask(server)
        assert failed.value.status_code == status


def test_a_filtered_prompt_is_a_400_with_its_categories() -> None:
    with replying(filtered_prompt("hate", "high")) as server, pytest.raises(openai.BadRequestError) as caught:
        ask(server)
    assert caught.value.code == "content_filter"
    body: Any = caught.value.body
    assert body["innererror"]["content_filter_result"]["hate"] == {"filtered": True, "severity": "high"}
    assert correction(settle("gpt-4o", "v1"), 400, body) is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "reply",
    [
        Reply("ab", finish_reason="length"),
        Reply("ab", finish_reason="content_filter", filtered={"violence": "medium"}),
        Reply(finish_reason="tool_calls"),
        Reply(refusal="No."),
        Reply(None),
        Reply("b", served_model="gpt-4o-2024-11-20", fingerprint="fp_other"),
        Reply("", empty_choices=True),
    ],
)
def test_a_reply_ends_as_the_test_says(reply: Reply, stream: bool) -> None:
    with replying(reply) as server:
        given = ask(server, stream=stream)
    parts = given if stream else [given]
    choices = [choice for part in parts for choice in part.choices]
    if reply.empty_choices:
        assert choices == []
        return
    assert choices[-1].finish_reason == reply.finish_reason
    said = [choice.delta if stream else choice.message for choice in choices]
    assert "".join(one.content or "" for one in said) == (reply.content or "")
    assert "".join(one.refusal or "" for one in said) == (reply.refusal or "")
    assert any(one.tool_calls for one in said) == (reply.finish_reason == "tool_calls")
    assert parts[-1].model == (reply.served_model or "gpt-4o")
    assert parts[-1].system_fingerprint == reply.fingerprint
    if reply.filtered:
        assert choices[-1].model_extra["content_filter_results"]["violence"]["filtered"] is True


def test_given_logprobs_are_sent_as_they_are() -> None:
    token = {
        "token": "yes",
        "bytes": None,
        "logprob": -0.5,
        "top_logprobs": [{"token": "no", "bytes": None, "logprob": -1}],
    }
    with replying(Reply("yes", logprobs=[token])) as server:
        assert ask(server, logprobs=True).choices[0].logprobs.content[0].top_logprobs[0].token == "no"
        streamed = ask(server, logprobs=True, stream=True)
    assert [
        chunk.choices[0].logprobs.content[0].token for chunk in streamed if chunk.choices and chunk.choices[0].logprobs
    ] == ["yes"]


def test_an_asynchronous_annotation_has_no_delta() -> None:
    with replying(Reply("abcd", async_filter=True)) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
        path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
        connection.request(
            "POST", path, json.dumps({"messages": MESSAGES, "stream": True}), {"api-key": str(server.key)}
        )
        lines = connection.getresponse().read().decode().split("\n\n")
        connection.close()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    odd = [event for event in events for choice in event["choices"] if "delta" not in choice]
    assert len(odd) == 1
    assert odd[0]["choices"][0]["content_filter_offsets"]
    assert lines[-2] == "data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reset", ["before", "middle"])
def test_a_reset_reaches_the_client_as_a_broken_connection(reset: Any, stream: bool) -> None:
    with replying(Reply("abcdefgh", reset=reset)) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
        path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
        body = json.dumps({"messages": MESSAGES, "stream": stream})
        connection.request("POST", path, body, {"api-key": str(server.key)})
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            connection.getresponse().read()
        connection.close()


def test_a_truncated_answer_is_whole_http_and_half_json() -> None:
    with replying(Reply("abcdefgh", truncated=True)) as server:
        with pytest.raises(json.JSONDecodeError):
            ask(server)
        finishes = [choice.finish_reason for chunk in ask(server, stream=True) for choice in chunk.choices]
    assert finishes
    assert not any(finishes)


def test_a_page_of_another_content_type_is_sent_as_it_is() -> None:
    page = b"<html>a proxy</html>"
    with replying(Reply(raw=page, content_type="text/html")) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
        path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
        connection.request("POST", path, json.dumps({"messages": MESSAGES}), {"api-key": str(server.key)})
        answer = connection.getresponse()
        assert (answer.headers["Content-Type"], answer.read()) == ("text/html", page)
        connection.close()


def test_a_hanging_answer_ends_with_the_clients_patience_and_does_not_hold_up_the_server() -> None:
    with replying(Reply("a", hang=60)) as server, pytest.raises(openai.APITimeoutError):
        ask(server, timeout=0.3)


def test_a_failing_answer_function_fails_the_test() -> None:
    def broken(body: Any, count: int) -> str:
        raise KeyError("mistake in a test")

    server = AoaiServer(answer=broken).__enter__()
    with pytest.raises(openai.APIConnectionError):
        ask(server)
    with pytest.raises(AssertionError, match="loopback server failed"):
        server.__exit__(None, None, None)
