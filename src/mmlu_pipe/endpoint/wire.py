"""Chat completions as the wire carries them: one JSON body or server-sent events, read into one shape, judged.

Shapes: Azure OpenAI REST reference, "Chat completions - Create", and the content filter's annotations
(`prompt_filter_results`, `content_filter_results`; asynchronous filtering sends chunks without a `delta`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.errors import ContentFiltered, EndpointError, EndpointUnavailable, Refused, Truncated
from mmlu_pipe.records import JsonObject

__all__ = ["Completion", "error_object", "filtered_categories", "judge", "read_completion"]


@dataclass(frozen=True)
class Completion:
    """The first choice of a chat completion.

    Attributes:
        text: the message's content, None where there is none.
        finish_reason: as given; None for a stream that ended without one.
        refusal: the model's refusal, if it refused.
        tokens: the answer's tokens with `logprob` and `top_logprobs`, empty where not given.
        filtered: category → severity of what the content filter blocked.
        usage: token counts as given.
        served_model: the model that the endpoint names.
        system_fingerprint: the backend configuration that the endpoint names.
    """

    text: str | None
    finish_reason: str | None
    refusal: str | None
    tokens: Sequence[JsonObject]
    filtered: Mapping[str, str]
    usage: JsonObject | None
    served_model: str | None
    system_fingerprint: str | None


def read_completion(content: bytes, content_type: str) -> Completion:
    """Read a 200 response.

    Raises:
        EndpointUnavailable: the body is cut, is no chat completion, or reports an error in mid-stream.
    """
    try:
        text = content.decode("utf-8")
        if "text/event-stream" in content_type:
            return _fold(_events(text))
        value = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        shown = content_type or "no content type"
        raise EndpointUnavailable(
            f"the answer is no JSON ({shown}, {len(content)} bytes): cut or not the API"
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("choices"), list) or not value["choices"]:
        raise EndpointUnavailable("the answer holds no choices")
    return _completion(value, value["choices"][0], value["choices"][0].get("message") or {})


def judge(completion: Completion, *, length_is_fine: bool = False) -> str:
    """The text of a good answer; anything else is the error that it is.

    Raises:
        ContentFiltered, Refused, Truncated, EndpointError: the answer is none.
    """
    reason = completion.finish_reason
    if reason == "content_filter" or completion.filtered:
        names = ", ".join(completion.filtered) or "category not given"
        raise ContentFiltered(f"the content filter cut the answer ({names})", categories=completion.filtered)
    if completion.refusal is not None:
        raise Refused(f"the model refused: {completion.refusal[:200]}")
    if reason == "length" and not length_is_fine:
        raise Truncated("the token limit cut the answer; raise max_tokens in the program")
    if reason not in ("stop", "length"):
        raise EndpointError(f"the answer ended with finish_reason {reason!r}, not 'stop'")
    if completion.text is None:
        raise EndpointError("the answer holds no text")
    return completion.text


def error_object(content: bytes) -> JsonObject:
    """The `error` object of an error response, or an empty one."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    error = value.get("error", value) if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {"message": str(error or value)}


def filtered_categories(results: Any) -> dict[str, str]:
    """Category → severity (or `detected`) of the filtered entries of a `content_filter_result(s)` object."""
    if not isinstance(results, dict):
        return {}
    return {
        name: str(result.get("severity", "detected"))
        for name, result in results.items()
        if isinstance(result, dict) and result.get("filtered") is True
    }


def _completion(value: JsonObject, choice: JsonObject, message: JsonObject) -> Completion:
    return Completion(
        text=message.get("content"),
        finish_reason=choice.get("finish_reason"),
        refusal=message.get("refusal"),
        tokens=(choice.get("logprobs") or {}).get("content") or (),
        filtered=filtered_categories(choice.get("content_filter_results")),
        usage=value.get("usage"),
        served_model=value.get("model") or None,
        system_fingerprint=value.get("system_fingerprint") or None,
    )


def _events(text: str) -> Iterator[JsonObject]:
    """The JSON of each `data:` event up to `[DONE]`.

    Raises:
        EndpointUnavailable: the stream ends without `[DONE]`.
    """
    for line in text.splitlines():
        if line.startswith("data:"):
            data = line[5:].strip()
            if data == "[DONE]":
                return
            yield json.loads(data)
    raise EndpointUnavailable("the stream was cut before its end")


def _fold(events: Iterable[JsonObject]) -> Completion:
    """All chunks of a stream as one completion."""
    whole: JsonObject = {}
    choice: JsonObject = {}
    message: JsonObject = {}
    tokens: list[JsonObject] = []
    filters: JsonObject = {}
    for event in events:
        if "error" in event:
            raise EndpointUnavailable(
                f"the stream broke off: {error_object(json.dumps(event).encode()).get('message')}"
            )
        whole |= {key: event[key] for key in ("model", "system_fingerprint", "usage") if event.get(key)}
        for part in event.get("choices") or ():
            delta = part.get("delta") or {}  # an annotation chunk of the asynchronous filter has none
            for key in ("content", "refusal"):
                if isinstance(delta.get(key), str):
                    message[key] = (message.get(key) or "") + delta[key]
            tokens += (part.get("logprobs") or {}).get("content") or ()
            choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
            found = part.get("content_filter_results") or {}
            filters |= {name: result for name, result in found.items() if filtered_categories({name: result})}
    if choice.get("finish_reason") is None:
        raise EndpointUnavailable("the stream ended without a finish reason")
    return _completion(whole, choice | {"logprobs": {"content": tokens}, "content_filter_results": filters}, message)
