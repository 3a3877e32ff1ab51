"""Chat completions as the wire carries them: one JSON body or server-sent events, read into one shape, judged.

Shapes: Azure OpenAI REST reference, "Chat completions - Create", and the content filter's annotations
(`prompt_filter_results`, `content_filter_results`; asynchronous filtering sends chunks without a `delta`).
"""

from __future__ import annotations

import json
import re
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
        EndpointUnavailable: the body is cut, is no chat completion, or reports an error.
    """
    try:
        text = content.decode("utf-8-sig")
        return _fold(_events(text)) if "text/event-stream" in content_type.lower() else _read(json.loads(text))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested beyond all measure
        shown = content_type or "no content type"
        raise EndpointUnavailable(
            f"the answer is no JSON ({shown}, {len(content)} bytes): cut or not the API"
        ) from error


def judge(completion: Completion, *, length_is_fine: bool = False) -> str:
    """The text of a good answer; anything else is the error that it is.

    Raises:
        ContentFiltered, Refused, Truncated, EndpointError: the answer is none.
    """
    reason = completion.finish_reason
    if reason == "content_filter" or completion.filtered:
        names = ", ".join(completion.filtered) or "category not given"
        raise ContentFiltered(f"the content filter cut the answer ({names})", categories=completion.filtered)
    if completion.refusal:
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
    except (ValueError, RecursionError):
        return {}
    error = value.get("error") or value if isinstance(value, dict) else value
    return error if isinstance(error, dict) else {"message": str(error)}


def filtered_categories(results: Any) -> dict[str, str]:
    """Category → severity (or `detected`) of the filtered entries of a `content_filter_result(s)` object."""
    if not isinstance(results, dict):
        return {}
    return {
        name: str(result.get("severity", "detected"))
        for name, result in results.items()
        if isinstance(result, dict) and result.get("filtered") is True
    }


def _read(body: Any) -> Completion:
    """A JSON body as a completion."""
    value = _object(body)
    if error := value.get("error"):
        raise EndpointUnavailable(f"the answer reports an error: {_message_of(error)}")
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise EndpointUnavailable("the answer holds no choices")
    choice = _object(choices[0])
    filtered = filtered_categories(choice.get("content_filter_results"))
    return _completion(value, choice, _object(choice.get("message")), _tokens(choice), filtered)


def _completion(
    value: JsonObject,
    choice: JsonObject,
    message: JsonObject,
    tokens: Sequence[JsonObject],
    filtered: Mapping[str, str],
) -> Completion:
    return Completion(
        text=_whole(_text(message, "content")),
        finish_reason=_text(choice, "finish_reason"),
        refusal=_whole(_text(message, "refusal")),
        tokens=tokens,
        filtered=filtered,
        usage=_usage(value.get("usage")),
        served_model=_text(value, "model") or None,
        system_fingerprint=_text(value, "system_fingerprint") or None,
    )


def _object(value: Any) -> JsonObject:
    """A JSON object, where null stands for an empty one.

    Raises:
        EndpointUnavailable: it is anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EndpointUnavailable(f"the answer is no chat completion: an object was due, not {str(value)[:40]!r}")
    return value


def _text(value: JsonObject, key: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise EndpointUnavailable(f"the answer is no chat completion: {key!r} is no text, but {str(found)[:40]!r}")
    return found


def _whole(text: str | None) -> str | None:
    """The text with its surrogate pairs joined (a stream may part them) and any half that is left replaced."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _tokens(choice: JsonObject) -> list[JsonObject]:
    """The tokens with their logprobs; none where they are not of the known shape."""
    logprobs = choice.get("logprobs")
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    return found if isinstance(found, list) and all(map(_is_token, found)) else []


def _is_token(value: Any) -> bool:
    top = value.get("top_logprobs") or [] if isinstance(value, dict) else None
    return _has_logprob(value) and isinstance(top, list) and all(map(_has_logprob, top))


def _has_logprob(value: Any) -> bool:
    try:
        return isinstance(value["token"], str) and -1e9 < value["logprob"] < 1e9  # not so are NaN and the infinities
    except (TypeError, KeyError):
        return False


def _usage(value: Any) -> JsonObject | None:
    """The token counts as given, if they are counts."""
    if not isinstance(value, dict):
        return None
    counts = [value.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    return value if all(isinstance(count, int | None) for count in counts) else None


def _message_of(error: Any) -> str:
    return str((error.get("message") if isinstance(error, dict) else None) or error)[:500]


def _events(text: str) -> Iterator[JsonObject]:
    """The JSON of each event up to `[DONE]`, by the rules of server-sent events.

    Lines end in CR, LF or both, and in nothing else that Unicode calls a line end: U+2028 may stand in an answer.

    Raises:
        EndpointUnavailable: the stream ends without `[DONE]`, or in an error.
    """
    data: list[str] = []
    kind = ""
    for line in [*re.split(r"\r\n|\n|\r", text), ""]:
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif name == "event":
            kind = value.strip()
        elif not line and data:
            whole = "\n".join(data)
            if whole.strip() == "[DONE]":
                return
            event = _object(json.loads(whole))
            if event.get("error") or kind == "error":
                raise EndpointUnavailable(f"the stream broke off: {_message_of(event.get('error') or event)}")
            yield event
            data, kind = [], ""
    raise EndpointUnavailable("the stream was cut before its end")


def _fold(events: Iterable[JsonObject]) -> Completion:
    """All chunks of a stream as one completion."""
    whole: JsonObject = {}
    choice: JsonObject = {}
    message: JsonObject = {}
    tokens: list[JsonObject] = []
    filtered: dict[str, str] = {}
    for event in events:
        whole |= {key: event[key] for key in ("model", "system_fingerprint", "usage") if event.get(key)}
        parts = event.get("choices") or []
        for part in map(_object, parts if isinstance(parts, list) else [parts]):
            if part.get("index"):
                continue  # another answer to the same question
            delta = _object(part.get("delta"))  # an annotation chunk of the asynchronous filter has none
            for key in ("content", "refusal"):
                if (text := _text(delta, key)) is not None:
                    message[key] = message.get(key, "") + text
            tokens += _tokens(part)
            choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
            filtered |= filtered_categories(part.get("content_filter_results"))
    if choice.get("finish_reason") is None:
        raise EndpointUnavailable("the stream ended without a finish reason")
    return _completion(whole, choice, message, tokens, filtered)
