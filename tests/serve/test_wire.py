"""What is sent and what is taken: the API's shapes, its refusals, and no claim that anything was filtered."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from mmlu_pipe.endpoint.wire import error_object, read_completion
from mmlu_pipe.serve import wire
from mmlu_pipe.serve.chat import ChatRequest, Ending, Piece
from mmlu_pipe.serve.grammar import Grammar
from mmlu_pipe.serve.request import DEFAULT_MAX_TOKENS, read_request

MESSAGES = [{"role": "user", "content": "Pick one, as JSON"}]
ENDING = Ending("stop", 7, 2)


def token(text: str, logprob: float | None = -0.5, **others: float) -> dict[str, Any]:
    top = [{"id": 1, "token": name, "bytes": list(name.encode()), "logprob": value} for name, value in others.items()]
    return {"id": 1, "token": text, "bytes": list(text.encode()), "logprob": logprob, "top_logprobs": top}


PIECES = [Piece("a", (token("a", a=-0.5, b=-1.5, c=-3.0),)), Piece("é\u2028", (token("é\u2028", -0.25),))]


def reply(**fields: Any) -> wire.Reply:
    return wire.Reply(id="chatcmpl-1", created=1, model="M", system_fingerprint="gguf-0", **fields)


def stream(answer: wire.Reply) -> bytes:
    bodies = [*answer.opening(), *map(answer.chunk, PIECES), *answer.closing(ENDING)]
    return b"".join(map(wire.event, bodies)) + wire.DONE


def ask(**fields: Any) -> ChatRequest:
    return read_request({"messages": MESSAGES} | fields)


# Answers


def test_a_stream_and_a_whole_body_say_the_same() -> None:
    answer = reply(top_logprobs=2, include_usage=True)
    whole = read_completion(wire.encode(answer.completion(PIECES, ENDING)), "application/json")
    streamed = read_completion(stream(answer), "text/event-stream; charset=utf-8")
    assert whole == streamed
    assert (whole.text, whole.finish_reason, whole.served_model) == ("aé\u2028", "stop", "M")
    assert whole.usage is not None
    assert whole.usage["total_tokens"] == 9


def test_the_bodies_are_those_that_the_sdk_knows() -> None:
    answer = reply(top_logprobs=2, include_usage=True)
    ChatCompletion.model_validate(answer.completion(PIECES, ENDING), strict=True)
    for body in [answer.opening()[1], *map(answer.chunk, PIECES), *answer.closing(ENDING)]:
        ChatCompletionChunk.model_validate(body, strict=True)


def test_no_answer_says_that_a_filter_looked_at_it() -> None:
    answer = reply()
    for body in [answer.completion(PIECES, ENDING), *answer.opening(), *map(answer.chunk, PIECES)]:
        assert "safe" not in json.dumps(body)
        for part in [*body["choices"], *body.get("prompt_filter_results", [])]:
            assert part["content_filter_results"] == {}


def test_logprobs_are_told_only_where_asked_for_and_only_as_many() -> None:
    assert reply().completion(PIECES, ENDING)["choices"][0]["logprobs"] is None
    for asked in (0, 1, 2):
        content = reply(top_logprobs=asked).completion(PIECES, ENDING)["choices"][0]["logprobs"]["content"]
        assert [len(each["top_logprobs"]) for each in content] == [asked, 0]
        assert all(set(each) == {"token", "bytes", "logprob", "top_logprobs"} for each in content)


@pytest.mark.parametrize("impossible", [None, math.nan, -math.inf, -3.4e38])
def test_a_probability_of_nothing_is_the_number_that_the_api_writes(impossible: float | None) -> None:
    answer = reply(top_logprobs=0)
    body = answer.completion([Piece("a", (token("a", impossible),))], ENDING)
    assert body["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0
    wire.encode(body)


def test_the_usage_of_a_stream_comes_only_where_asked_for() -> None:
    assert b"usage" not in stream(reply())
    assert stream(reply(include_usage=True)).count(b'"usage":null') == 4


def test_a_stream_that_breaks_off_does_not_look_complete() -> None:
    from mmlu_pipe.errors import EndpointUnavailable

    content = b"".join(map(wire.event, reply().opening())) + wire.broken_off(wire.stopping())
    with pytest.raises(EndpointUnavailable, match="The server is stopping"):
        read_completion(content, "text/event-stream")


def test_the_fingerprint_tells_weights_apart() -> None:
    assert wire.fingerprint("cc324af070c2" + 52 * "0") == "gguf-cc324af070c2"


def test_a_body_that_repeats_half_a_surrogate_pair_is_still_json() -> None:
    assert json.loads(wire.encode({"text": "a\ud800"})) == {"text": "a\ud800"}
    assert wire.encode({"text": "é"}) == '{"text":"é"}'.encode()


def test_every_refusal_is_an_error_object_with_a_message() -> None:
    refusals = [
        wire.unauthorised(),
        wire.not_found(),
        wire.deployment_not_found(),
        wire.bad_request("m"),
        wire.invalid("m"),
        wire.too_large(1),
        wire.too_long(9, 8),
        wire.server_error("m"),
        wire.stopping(),
    ]
    assert [refusal.status for refusal in refusals] == [401, 404, 404, 400, 400, 413, 400, 500, 503]
    assert all(error_object(wire.encode(refusal.body))["message"] for refusal in refusals)
    assert wire.too_long(9, 8).error["code"] == "context_length_exceeded"


# Requests


def test_what_is_not_said_is_the_api_s_default() -> None:
    assert ask() == ChatRequest(messages=tuple(MESSAGES), max_tokens=DEFAULT_MAX_TOKENS)


def test_null_is_as_if_it_was_not_said() -> None:
    names = ("temperature", "stop", "tools", "response_format", "stream_options", "top_logprobs", "seed", "n", "stream")
    assert ask(**dict.fromkeys(names)) == ask()


def test_everything_that_is_served_arrives() -> None:
    schema = {"type": "object"}
    found = ask(
        model="dep",
        n=1,
        user="somebody",
        max_completion_tokens=5,
        temperature=0,
        top_p=0.5,
        presence_penalty=-1,
        frequency_penalty=2,
        seed=-(2**63),
        stop=["x", "y"],
        logprobs=True,
        top_logprobs=3,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}},
        stream=True,
        stream_options={"include_usage": True},
    )
    expected = ChatRequest(
        tuple(MESSAGES), 5, 0.0, 0.5, -1.0, 2.0, -(2**63), ("x", "y"), 3, schema, stream=True, include_usage=True
    )
    assert found == expected


def test_logprobs_without_a_number_tell_the_tokens_alone() -> None:
    assert ask(logprobs=True).top_logprobs == 0
    assert ask(logprobs=False).top_logprobs is None


def test_messages_become_role_and_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "d"}, {"role": "assistant", "content": parts, "refusal": None}]
    assert ask(messages=messages).messages == (
        {"role": "system", "content": "d"},
        {"role": "assistant", "content": "ab"},
    )


def test_json_mode_is_an_object_and_needs_the_word() -> None:
    json_mode = {"type": "json_object"}
    assert ask(response_format=json_mode).schema == {"type": "object"}
    with pytest.raises(wire.Refusal, match="must contain the word 'json'"):
        ask(messages=[{"role": "user", "content": "hi"}], response_format=json_mode)


@pytest.mark.parametrize(
    ("fields", "param", "code", "told"),
    [
        ({"n": 2}, "n", "unsupported_value", "'n' does not support 2"),
        ({"tools": []}, "tools", "unsupported_parameter", "'tools' is not supported"),
        ({"functions": [{}]}, "functions", "unsupported_parameter", "'functions' is not supported"),
        ({"logit_bias": {}}, "logit_bias", "unsupported_parameter", "'logit_bias' is not supported"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter", "is not supported"),
        ({"wisdom": 1}, None, None, "Unrecognized request argument supplied: wisdom"),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value", "Expected a value <= 2"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value", "Expected a value >= 0"),
        ({"temperature": "0"}, "temperature", "invalid_type", "expected a decimal, but got a string"),
        ({"temperature": True}, "temperature", "invalid_type", "expected a decimal, but got a boolean"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", ">= 1"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type", "expected an integer, but got a decimal"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_parameter_combination", "same time"),
        ({"seed": 2**63}, "seed", "integer_above_max_value", "<="),
        ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean"),
        ({"stream_options": {}}, "stream_options", None, "only allowed when 'stream'"),
        ({"top_logprobs": 2}, "top_logprobs", None, "only allowed when 'logprobs'"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value", "<= 20"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value", "at most 4"),
        ({"stop": [""]}, "stop", "invalid_value", "an empty text"),
        ({"stop": 3}, "stop", "invalid_value", "a text or an array"),
        ({"messages": None}, None, None, "'messages' is a required property"),
        ({"messages": []}, "messages", None, "too short"),
        ({"messages": "hi"}, "messages", "invalid_type", "expected an array"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type", "expected an object"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "messages[0].role", "invalid_value", "'wizard'"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages[0].role", "invalid_value", "'tool'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type", "got null"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", None, "half a surrogate"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]", None, "text"),
        ({"messages": [{"role": "user", "content": "", "tool_calls": []}]}, "messages[0]", None, "tool_calls"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value", "'xml'"),
        ({"response_format": "json"}, "response_format", "invalid_type", "expected an object"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", None, "Missing required"),
    ],
)
def test_what_is_not_served_is_refused_as_the_api_does(
    fields: dict[str, Any], param: str | None, code: str | None, told: str
) -> None:
    with pytest.raises(wire.Refusal) as raised:
        ask(**fields)
    error = raised.value.error
    assert (raised.value.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert code is None or error["code"] == code
    assert told in error["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    (
        *(
            "messages",
            "n",
            "stop",
            "seed",
            "stream",
            "stream_options",
            "temperature",
            "top_p",
            "max_tokens",
            "logprobs",
        ),
        *("top_logprobs", "response_format", "max_completion_tokens", "user", "tools"),
    )
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=5), st.booleans())
def test_any_json_is_a_request_or_a_refusal(fields: dict[str, Any], with_messages: bool) -> None:
    body = ({"messages": MESSAGES} if with_messages else {}) | fields
    try:
        found: ChatRequest | wire.Refusal = read_request(body)
    except wire.Refusal as refusal:
        found = refusal
    if isinstance(found, wire.Refusal):
        assert found.status == 400
        wire.encode(found.body)
    else:
        assert found.messages
        assert 0 <= found.temperature <= 2


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_a_body_that_is_no_object_is_a_bad_request(body: Any) -> None:
    with pytest.raises(wire.Refusal, match="no JSON object"):
        read_request(body)


# Schemas


def choice_of(*options: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": list(options)}},
        "required": ["choice"],
        "additionalProperties": False,
    }


def test_an_answer_is_followed_to_its_end_without_blanks() -> None:
    grammar = Grammar(choice_of("0", "é"))
    assert grammar.follow('{"choice"')
    assert not grammar.complete
    assert grammar.follow(':"é"}')
    assert grammar.complete
    assert not Grammar(choice_of("0")).follow('{ "choice"')


def test_an_answer_that_leaves_the_schema_is_noticed() -> None:
    grammar = Grammar(choice_of("0", "1"))
    assert grammar.follow('{"choice":"')
    assert not grammar.follow("2")


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "nonsense"}, "Invalid type: nonsense"),
        ({"not": {"type": "string"}}, "Unimplemented keys"),
        ({"type": "string", "pattern": "(?=x)"}, "regex parse error"),
        ({"$ref": "#/nowhere"}, "does not exist"),
        ({"enum": ["\ud800"]}, ""),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(schema: dict[str, Any], told: str) -> None:
    with pytest.raises(wire.Refusal, match="Invalid schema for response_format") as raised:
        Grammar(schema)
    assert told in str(raised.value)
    assert raised.value.error["param"] == "response_format"
