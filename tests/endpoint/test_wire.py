"""One shape from what the wire carries, JSON or server-sent events; and what is a good answer at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmlu_pipe.endpoint.distribution import json_choice_distribution, text_distribution
from mmlu_pipe.endpoint.wire import Completion, error_object, filtered_categories, judge, read_completion
from mmlu_pipe.errors import ContentFiltered, EndpointError, EndpointUnavailable, Refused, Truncated

JSON = "application/json; charset=utf-8"
SSE = "text/event-stream; charset=utf-8"
SAFE = {"hate": {"filtered": False, "severity": "safe"}, "jailbreak": {"filtered": False, "detected": False}}
PROMPT_CHUNK: dict[str, Any] = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
}
GOOD = Completion("2", "stop", None, [], {}, None, "gpt-4o", "fp")


def token(text: str, logprob: float = -0.1, **top: float) -> dict[str, Any]:
    others = [{"token": name, "logprob": value, "bytes": None} for name, value in top.items()]
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": others}


def chunk(
    text: str | None = None, finish: str | None = None, tokens: Sequence[Any] = (), **more: Any
) -> dict[str, Any]:
    choice = {
        "index": 0,
        "delta": {} if text is None else {"content": text},
        "finish_reason": finish,
        "logprobs": {"content": list(tokens), "refusal": None} if tokens else None,
        "content_filter_results": {},
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_1",
        "choices": [choice | more],
        "obfuscation": "xZ9",
        "usage": None,
    }


def sse(*events: Any, end: str = "\n", done: bool = True) -> bytes:
    texts = [event if isinstance(event, str) else f"data: {json.dumps(event, ensure_ascii=False)}" for event in events]
    return "".join(f"{text}\n\n" for text in [*texts, *(["data: [DONE]"] if done else [])]).replace("\n", end).encode()


def streamed(*events: Any, **options: Any) -> Completion:
    return read_completion(sse(*events, **options), SSE)


def body(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "2", "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, "content_filter_results": SAFE}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_1",
        "choices": [choice | changes],
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
    }


def whole(value: Any) -> Completion:
    return read_completion(json.dumps(value).encode(), JSON)


# One JSON body


def test_a_json_body_is_read() -> None:
    tokens = [token("2", -0.1, **{"2": -0.1, "3": -2.5})]
    assert whole(body(logprobs={"content": tokens, "refusal": None})) == Completion(
        text="2",
        finish_reason="stop",
        refusal=None,
        tokens=tokens,
        filtered={},
        usage={"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
        served_model="gpt-4o-2024-08-06",
        system_fingerprint="fp_1",
    )


def test_a_byte_order_mark_and_a_missing_content_type_do_no_harm() -> None:
    assert read_completion(b"\xef\xbb\xbf" + json.dumps(body()).encode(), "").text == "2"


def test_null_members_are_absent_ones() -> None:
    value = body(logprobs=None, content_filter_results=None, message={"content": None, "refusal": None})
    found = whole(value | {"usage": None, "model": None, "system_fingerprint": None})
    assert (found.text, found.usage, found.served_model, found.system_fingerprint) == (None, None, None, None)
    assert list(found.tokens) == []
    assert whole(body(message=None)).text is None


@pytest.mark.parametrize("spelling", ["", '{"choices": []}', "{}", "null", "[]", "7", '"text"', '{"choices": {}}'])
def test_a_body_without_choices_is_no_answer(spelling: str) -> None:
    with pytest.raises(EndpointUnavailable):
        read_completion(spelling.encode(), JSON)


@pytest.mark.parametrize("choice", [None, [], "x", 7, {"message": "x"}, {"message": []}, {"message": {"content": 7}}])
def test_a_choice_of_another_shape_is_no_answer(choice: Any) -> None:
    with pytest.raises((EndpointUnavailable, EndpointError)):
        judge(whole(body() | {"choices": [choice]}))
    if choice is not None:
        with pytest.raises(EndpointUnavailable):
            whole(body() | {"choices": [choice]})


def test_an_error_in_a_200_is_shown() -> None:
    with pytest.raises(EndpointUnavailable, match="backend is overloaded"):
        whole({"error": {"message": "The backend is overloaded", "code": 503}})
    with pytest.raises(EndpointUnavailable, match="overloaded"):
        whole(body() | {"error": "overloaded"})
    assert whole(body() | {"error": None}).text == "2"


def test_html_is_no_answer_and_is_not_quoted() -> None:
    with pytest.raises(EndpointUnavailable, match=r"text/html, 26 bytes") as caught:
        read_completion(b"<html>Sign in here!</html>", "text/html")
    assert "Sign in" not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 20, 120, -1])
def test_a_cut_json_body_is_no_answer(cut: int) -> None:
    with pytest.raises(EndpointUnavailable, match="cut or not the API"):
        read_completion(json.dumps(body()).encode()[:cut], JSON)


def test_nesting_beyond_measure_and_numbers_beyond_measure_are_no_answer() -> None:
    for content in (b"[" * 200_000, b'{"choices":' * 100_000, b"9" * 10_000, b"\xff\xfe{}"):
        for content_type in (JSON, SSE):
            with pytest.raises(EndpointUnavailable):
                read_completion(b"data: " * (content_type == SSE) + content + b"\n\n", content_type)
        assert isinstance(error_object(content), dict)


# Server-sent events

STREAM = (
    PROMPT_CHUNK,
    chunk("", role="assistant"),
    chunk("The ", tokens=[token("The ")]),
    chunk("answer", tokens=[token("ans"), token("wer")]),
    chunk(finish="stop"),
    {**chunk(), "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_stream_is_folded(end: str) -> None:
    assert streamed(*STREAM, end=end) == Completion(
        text="The answer",
        finish_reason="stop",
        refusal=None,
        tokens=[token("The "), token("ans"), token("wer")],
        filtered={},
        usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        served_model="gpt-4o-2024-08-06",
        system_fingerprint="fp_1",
    )


def test_a_stream_says_what_a_body_says() -> None:
    content = streamed(PROMPT_CHUNK, chunk("2"), chunk(finish="stop"), {"choices": [], "usage": body()["usage"]})
    assert content == whole(body())


@pytest.mark.parametrize(
    "noted",
    [
        {
            "index": 0,
            "finish_reason": None,
            "content_filter_results": SAFE,
            "content_filter_offsets": {"end_offset": 9},
        },
        {"index": 0, "finish_reason": None, "content_filter_results": SAFE, "delta": None},
        {"index": 0, "finish_reason": None, "content_filter_results": None, "delta": None, "logprobs": None},
        {"index": 0, "delta": {"content": None}},
        {},
    ],
)
@pytest.mark.parametrize("place", [1, 3, 5])
def test_an_annotation_chunk_changes_nothing(noted: dict[str, Any], place: int) -> None:
    events = list(STREAM)
    events.insert(place, {"id": "", "model": "", "object": "", "created": 0, "choices": [noted]})
    assert streamed(*events) == streamed(*STREAM)


def test_an_asynchronous_filter_that_blocks_is_seen() -> None:
    blocked = {"violence": {"filtered": True, "severity": "high"}, "hate": {"filtered": False, "severity": "safe"}}
    noted = {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": blocked}]}
    later = {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": SAFE}]}
    found = streamed(chunk("bad"), noted, later, chunk(finish="content_filter"))
    assert found.filtered == {"violence": "high"}
    found = streamed(chunk("bad"), chunk(finish="stop"), noted)
    assert found.filtered == {"violence": "high"}
    with pytest.raises(ContentFiltered):
        judge(found)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_what_only_unicode_calls_a_line_end_stays_in_the_answer(character: str) -> None:
    raw = sse(chunk("left"), chunk(finish="stop")).replace(b"left", f"a{character}b".encode())
    if character < " ":  # JSON wants it escaped
        raw = sse(chunk("left"), chunk(finish="stop")).replace(b"left", f"a\\u{ord(character):04x}b".encode())
    assert read_completion(raw, SSE).text == f"a{character}b"
    assert streamed(": " + character, chunk("x"), chunk(finish="stop")).text == "x"


def test_comments_blank_lines_other_fields_and_data_over_lines_are_understood() -> None:
    pretty = "\n".join(f"data: {line}" for line in json.dumps(chunk("yes"), indent=1).splitlines())
    found = streamed(
        ": keep-alive",
        "",
        "event: message\nid: 7\nretry: 100",
        ":data: {}",
        pretty,
        "data:" + json.dumps(chunk("!")),
        chunk(finish="stop"),
    )
    assert found.text == "yes!"


def test_the_end_needs_no_blank_line_after_it() -> None:
    assert read_completion(sse(*STREAM).rstrip(b"\n"), SSE).text == "The answer"


def test_what_follows_the_end_is_not_read() -> None:
    assert read_completion(sse(*STREAM) + b"data: garbage\n\n", SSE).text == "The answer"


def test_other_choices_of_a_stream_are_not_mixed_in() -> None:
    assert streamed(chunk("a"), chunk("b", index=1), chunk(finish="stop"), chunk(finish="length", index=1)).text == "a"


def test_surrogate_pairs_parted_by_chunks_are_joined() -> None:
    halves = [json.dumps(chunk(half)) for half in ("\ud83d", "\ude00")]
    assert "\\ud83d" in halves[0]
    found = streamed(f"data: {halves[0]}", f"data: {halves[1]}", chunk("!"), chunk(finish="stop"))
    assert found.text == "😀!"
    alone = streamed(f"data: {halves[0]}", chunk("!"), chunk(finish="stop"))
    assert alone.text == "\ufffd!"
    assert whole(body(message={"content": "é\ud83d"})).text == "é\ufffd"


@pytest.mark.parametrize("keep", range(len(STREAM)))
def test_a_cut_stream_is_no_answer(keep: int) -> None:
    with pytest.raises(EndpointUnavailable, match="cut"):
        streamed(*STREAM[:keep], done=False)
    with pytest.raises(EndpointUnavailable):
        read_completion(sse(*STREAM[:keep])[:-20], SSE)


def test_a_stream_cut_within_an_event_is_no_answer() -> None:
    content = sse(*STREAM)
    for length in range(0, len(content) - len("data: [DONE]\n\n"), 7):
        with pytest.raises(EndpointUnavailable):
            read_completion(content[:length], SSE)


def test_a_stream_without_a_finish_reason_is_no_answer() -> None:
    with pytest.raises(EndpointUnavailable, match="finish reason"):
        streamed(PROMPT_CHUNK, chunk("half"))


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "The server had an error", "type": "server_error", "code": None}},
        {"error": "The server had an error"},
        "event: error\ndata: " + json.dumps({"error": {"message": "The server had an error"}}),
        "event: error\ndata: " + json.dumps({"message": "The server had an error"}),
    ],
)
def test_an_error_in_mid_stream_is_no_answer(event: Any) -> None:
    with pytest.raises(EndpointUnavailable, match="broke off: The server had an error"):
        streamed(*STREAM[:3], event, *STREAM[3:])
    assert streamed(*STREAM[:3], {**chunk(), "error": None}, *STREAM[3:]).text == "The answer"


# Logprobs and counts that are none


@pytest.mark.parametrize(
    "content",
    [
        "x",
        [7],
        [{"token": "2"}],
        [{"token": 2, "logprob": -1}],
        [{"token": "2", "logprob": "high"}],
        [{"token": "2", "logprob": float("nan")}],
        [{"token": "2", "logprob": float("-inf")}],
        [{"token": "2", "logprob": -(10**400)}],
        [{"token": "2", "logprob": -1, "top_logprobs": [None]}],
        [{"token": "2", "logprob": -1, "top_logprobs": {"a": 1}}],
    ],
)
def test_tokens_of_another_shape_are_none_and_the_answer_stays(content: Any) -> None:
    found = whole(body(logprobs={"content": content}))
    assert list(found.tokens) == []
    assert judge(found) == "2"
    assert whole(body(logprobs=content)).text == "2"


@pytest.mark.parametrize("usage", [[], "many", {"prompt_tokens": "many"}, {"completion_tokens": [1]}])
def test_counts_of_another_shape_are_none(usage: Any) -> None:
    assert whole(body() | {"usage": usage}).usage is None


# Anything at all

KEYS = ("choices", "message", "delta", "content", "finish_reason", "logprobs", "content_filter_results", "error")
KEYS += ("refusal", "usage", "model", "system_fingerprint", "token", "logprob", "top_logprobs", "index", "filtered")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["stop", ""])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
CHOICES = st.fixed_dictionaries(
    {}, optional={"message": VALUES, "delta": VALUES, "finish_reason": VALUES, "index": VALUES}
)
CHOICES |= st.fixed_dictionaries({}, optional={"logprobs": VALUES, "content_filter_results": VALUES, "message": VALUES})
BODIES = VALUES | st.fixed_dictionaries({"choices": st.lists(CHOICES | VALUES, max_size=2)}, optional={"usage": VALUES})


def use(content: bytes, content_type: str) -> None:
    """Everything that is done with an answer: only the typed errors may come out."""
    try:
        completion = read_completion(content, content_type)
    except EndpointUnavailable:
        return
    assert completion.text is None or completion.text.encode() is not None
    for options in (["0", "1"], ["stop", "go"]):
        text_distribution(completion.tokens, options)
        json_choice_distribution(completion.tokens, options, "choice")
    with contextlib.suppress(EndpointError):
        assert isinstance(judge(completion), str)


@settings(max_examples=700, deadline=None)
@given(BODIES)
@example({"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "logprobs": {"content": [{}]}}]})
def test_any_json_is_an_answer_or_typed(value: Any) -> None:
    use(json.dumps(value).encode(), JSON)


@settings(max_examples=500, deadline=None)
@given(st.lists(BODIES, max_size=4), st.booleans())
def test_any_events_are_an_answer_or_typed(values: list[Any], done: bool) -> None:
    events = [f"data: {json.dumps(value)}" for value in values]
    use(sse(*events, done=done), SSE)
    use(sse(chunk("x"), *events, chunk(finish="stop"), done=done), SSE)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([JSON, SSE, "", "TEXT/EVENT-STREAM"]))
def test_any_bytes_are_an_answer_or_typed(content: bytes, content_type: str) -> None:
    use(content, content_type)
    use(b"data: " + content + b"\n\ndata: [DONE]\n\n", content_type)
    assert isinstance(error_object(content), dict)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_any_json_is_an_error_object_or_empty(value: Any) -> None:
    assert isinstance(error_object(json.dumps(value).encode()), dict)
    assert isinstance(filtered_categories(value), dict)


# What is a good answer


def test_a_text_that_stopped_is_the_answer() -> None:
    assert judge(GOOD) == "2"
    assert judge(replace(GOOD, text="")) == ""
    assert judge(replace(GOOD, refusal="")) == "2"


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        ({"finish_reason": "length"}, Truncated, "max_tokens"),
        ({"finish_reason": "content_filter"}, ContentFiltered, "not given"),
        ({"finish_reason": "content_filter", "filtered": {"hate": "high"}}, ContentFiltered, "hate"),
        ({"filtered": {"hate": "high"}}, ContentFiltered, "hate"),
        ({"finish_reason": "tool_calls", "text": None}, EndpointError, "'tool_calls'"),
        ({"finish_reason": "function_call", "text": None}, EndpointError, "'function_call'"),
        ({"finish_reason": "something new"}, EndpointError, "'something new'"),
        ({"finish_reason": None}, EndpointError, "None"),
        ({"finish_reason": ""}, EndpointError, "''"),
        ({"refusal": "I cannot help with that."}, Refused, "I cannot help"),
        ({"refusal": "No.", "text": None, "finish_reason": "content_filter"}, ContentFiltered, "not given"),
        ({"text": None}, EndpointError, "no text"),
    ],
)
def test_any_other_end_is_a_typed_error(change: dict[str, Any], kind: type[EndpointError], told: str) -> None:
    with pytest.raises(EndpointError, match=told) as caught:
        judge(replace(GOOD, **change))
    assert type(caught.value) is kind
    assert not caught.value.stops_run


def test_the_limit_of_a_one_token_question_is_fine_and_nothing_else_is() -> None:
    assert judge(replace(GOOD, finish_reason="length"), length_is_fine=True) == "2"
    for reason in ("content_filter", "tool_calls", None):
        with pytest.raises(EndpointError):
            judge(replace(GOOD, finish_reason=reason), length_is_fine=True)


# Error bodies


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"error": {"code": "429", "message": "m"}}', {"code": "429", "message": "m"}),
        (b'{"error": "plain"}', {"message": "plain"}),
        (b'{"statusCode": 401, "message": "m"}', {"statusCode": 401, "message": "m"}),
        (b'{"error": null, "message": "m"}', {"error": None, "message": "m"}),
        (b'{"error": [1]}', {"message": "[1]"}),
        (b'"text"', {"message": "text"}),
        (b"<html>", {}),
        (b"", {}),
    ],
)
def test_the_error_object_of_a_response(content: bytes, expected: dict[str, Any]) -> None:
    assert error_object(content) == expected


def test_filtered_categories_are_those_that_were_filtered() -> None:
    results = {
        "hate": {"filtered": True, "severity": "high"},
        "violence": {"filtered": False, "severity": "low"},
        "jailbreak": {"filtered": True, "detected": True},
        "protected_material_code": {"filtered": False, "detected": True},
        "custom_blocklists": {"filtered": True, "details": [{"filtered": True, "id": "ours"}]},
        "error": {"code": "content_filter_error", "message": "The contents are not filtered"},
    }
    assert filtered_categories(results) == {"hate": "high", "jailbreak": "detected", "custom_blocklists": "detected"}
    assert filtered_categories(None) == filtered_categories([]) == filtered_categories({"hate": True}) == {}
