"""The body of a chat completions request, checked as the API checks it (pure).

What this server cannot do is refused with the API's own errors. No field is silently left out, but `user`, which only
names a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmlu_pipe.serve.chat import ChatRequest, Json
from mmlu_pipe.serve.wire import Refusal, bad_request, invalid

__all__ = ["DEFAULT_MAX_TOKENS", "read_request"]

DEFAULT_MAX_TOKENS = 1024
"""Where a request names no limit; a small model may go on without end."""

MAX_TOP_LOGPROBS = 20
MAX_STOPS = 4

_SERVED = (
    *("messages", "model", "n", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "logprobs", "top_logprobs"),
    *("response_format", "user"),
)
_KNOWN_TO_THE_API = (
    *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "logit_bias", "reasoning_effort"),
    *("verbosity", "store", "metadata", "prediction", "modalities", "audio", "data_sources", "service_tier"),
    *("user_security_context", "prompt_cache_key", "safety_identifier", "web_search_options"),
)
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_IGNORED_IN_MESSAGES = ("role", "content", "name", "refusal", "annotations")
_TYPES: dict[type, str] = {str: "a string", bool: "a boolean", int: "an integer", float: "a decimal", list: "an array"}


def read_request(body: Any) -> ChatRequest:
    """The request that a body asks for.

    Raises:
        Refusal: it is none, or asks for what is not served.
    """
    if not isinstance(body, dict):
        raise bad_request("The request body is no JSON object.")
    given = {name: value for name, value in body.items() if value is not None}
    _refuse_the_rest(given)
    top_logprobs = _integer(given, "top_logprobs", 0, MAX_TOP_LOGPROBS)
    wants_logprobs = _flag(given, "logprobs")
    if top_logprobs is not None and not wants_logprobs:
        raise invalid("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs")
    stream = _flag(given, "stream")
    options = _mapping(given, "stream_options")
    if options is not None and not stream:
        raise invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    messages = _messages(given.get("messages"))
    return ChatRequest(
        messages=messages,
        max_tokens=_token_limit(given),
        temperature=_decimal(given, "temperature", 0.0, 2.0, 1.0),
        top_p=_decimal(given, "top_p", 0.0, 1.0, 1.0),
        presence_penalty=_decimal(given, "presence_penalty", -2.0, 2.0, 0.0),
        frequency_penalty=_decimal(given, "frequency_penalty", -2.0, 2.0, 0.0),
        seed=_integer(given, "seed", -(2**63), 2**63 - 1),
        stop=_stops(given.get("stop")),
        top_logprobs=(top_logprobs or 0) if wants_logprobs else None,
        schema=_schema(_mapping(given, "response_format"), messages),
        stream=stream,
        include_usage=_flag(options or {}, "include_usage"),
    )


def _refuse_the_rest(given: Json) -> None:
    for name in given:
        if name in _KNOWN_TO_THE_API:
            raise invalid(
                f"Unsupported parameter: '{name}' is not supported with this model.", name, "unsupported_parameter"
            )
        if name not in _SERVED:
            raise invalid(f"Unrecognized request argument supplied: {name}")
    if _integer(given, "n", 1, 128) not in (None, 1):
        raise invalid(
            f"Unsupported value: 'n' does not support {given['n']} with this model. Only the default (1) value is "
            "supported.",
            "n",
            "unsupported_value",
        )


def _messages(value: Any) -> tuple[Json, ...]:
    if value is None:
        raise invalid("'messages' is a required property")
    if not isinstance(value, list):
        raise _wrong_type("messages", "an array", value)
    if not value:
        raise invalid("[] is too short - 'messages'", "messages")
    return tuple(_message(message, f"messages[{place}]") for place, message in enumerate(value))


def _message(value: Any, place: str) -> Json:
    if not isinstance(value, dict):
        raise _wrong_type(place, "an object", value)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(f"'{name}'" for name in _ROLES)
        raise invalid(f"Invalid value: {role!r}. Supported values are: {known}.", f"{place}.role", "invalid_value")
    for name, found in value.items():
        if found is not None and name not in _IGNORED_IN_MESSAGES:
            raise invalid(f"Unsupported parameter: '{place}.{name}' is not supported with this model.", place)
    return {"role": _ROLES[role], "content": _content(value.get("content"), f"{place}.content")}


def _content(value: Any, place: str) -> str:
    if isinstance(value, list) and value:
        return "".join(_part(part, f"{place}[{number}]") for number, part in enumerate(value))
    return _text(value, place)


def _part(value: Any, place: str) -> str:
    if not isinstance(value, dict):
        raise _wrong_type(place, "an object", value)
    if value.get("type") != "text":
        raise invalid(f"Invalid content type {value.get('type')!r}: this model takes text only.", place)
    return _text(value.get("text"), f"{place}.text")


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(place, "a string", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(f"Invalid value for '{place}': half a surrogate pair is no text.", place) from None
    return value


def _token_limit(given: Json) -> int:
    if "max_tokens" in given and "max_completion_tokens" in given:
        raise invalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    old = _integer(given, "max_tokens", 1, 2**31 - 1)
    return old or _integer(given, "max_completion_tokens", 1, 2**31 - 1) or DEFAULT_MAX_TOKENS


def _stops(value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(found, list) or len(found) > MAX_STOPS:
        raise invalid(f"Invalid 'stop': a text or an array of at most {MAX_STOPS} texts.", "stop", "invalid_value")
    if not all(_text(text, "stop") for text in found):
        raise invalid("Invalid 'stop': an empty text would end every answer.", "stop", "invalid_value")
    return tuple(found)


def _schema(value: Json | None, messages: tuple[Json, ...]) -> Json | None:
    kind = "text" if value is None else value.get("type")
    if value is None or kind == "text":
        return None
    if kind == "json_object":
        if not any("json" in message["content"].lower() for message in messages):
            raise invalid(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                "messages",
            )
        return {"type": "object"}
    if kind != "json_schema":
        raise invalid(
            f"Invalid value: {kind!r}. Supported values are: 'json_object', 'json_schema', and 'text'.",
            "response_format.type",
            "invalid_value",
        )
    given = _mapping(value, "json_schema")
    if given is None:
        raise _missing("response_format.json_schema")
    if not isinstance(given.get("name"), str):
        raise _missing("response_format.json_schema.name")
    schema = _mapping(given, "schema")
    return {"type": "object"} if schema is None else schema


def _mapping(given: Mapping[str, Any], name: str) -> Json | None:
    value = given.get(name)
    if value is not None and not isinstance(value, dict):
        raise _wrong_type(name, "an object", value)
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool | None):
        raise _wrong_type(name, "a boolean", value)
    return bool(value)


def _integer(given: Mapping[str, Any], name: str, lowest: int, highest: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(name, "an integer", value)
    _in_range("integer", name, value, lowest, highest)
    return value


def _decimal(given: Mapping[str, Any], name: str, lowest: float, highest: float, default: float) -> float:
    value = given.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(name, "a decimal", value)
    _in_range("decimal", name, value, lowest, highest)
    return float(value)


def _in_range(kind: str, name: str, value: float, lowest: float, highest: float) -> None:
    if value < lowest:
        side, sign, bound = "below minimum", ">=", lowest
    elif value > highest:
        side, sign, bound = "above maximum", "<=", highest
    else:
        return
    code = f"{kind}_{side.replace('imum', '').replace(' ', '_')}_value"
    raise invalid(f"Invalid '{name}': {kind} {side} value. Expected a value {sign} {bound}.", name, code)


def _missing(name: str) -> Refusal:
    return invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")


def _wrong_type(name: str, expected: str, value: Any) -> Refusal:
    got = "null" if value is None else _TYPES.get(type(value), "an object")
    return invalid(f"Invalid type for '{name}': expected {expected}, but got {got} instead.", name, "invalid_type")
