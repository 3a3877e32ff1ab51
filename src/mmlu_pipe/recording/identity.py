"""What a request means, apart from where and how it is sent.

Two requests are the same when messages, sampling, response format and declared model are: not host, deployment,
API version or transport flags. So recordings survive another deployment, the v1 style and a change of streaming.
"""

from __future__ import annotations

from typing import Any

from mmlu_pipe.hashing import sha256_json
from mmlu_pipe.records import JsonObject

__all__ = ["PERSONAL_FIELDS", "request_hash", "request_meaning"]

PERSONAL_FIELDS = ("user", "metadata", "safety_identifier")
"""Fields that name a person or a purpose: never recorded, so never part of the meaning."""

_NOT_MEANT = {"stream", "stream_options", "model", *PERSONAL_FIELDS}


def request_meaning(body: JsonObject, model: str) -> JsonObject:
    """The part of a chat completions body that decides the answer; `model` is the declared one.

    `max_tokens` and `max_completion_tokens` are one limit under two names, a text and a list of text parts are one
    content, 0 and 0.0 are one number, and a field or a message's key that is null is absent.
    """
    meaning = {key: value for key, value in body.items() if key not in _NOT_MEANT and value is not None}
    if "max_tokens" in meaning and "max_completion_tokens" not in meaning:
        meaning["max_completion_tokens"] = meaning.pop("max_tokens")
    if isinstance(messages := meaning.get("messages"), list):
        meaning["messages"] = [_message(message) for message in messages]
    found: JsonObject = _numbers(meaning | {"model": model})
    return found


def request_hash(body: JsonObject, model: str) -> str:
    """Hex SHA-256 of the meaning."""
    return sha256_json(request_meaning(body, model))


def _message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    content = message.get("content")
    if isinstance(content, list) and content and all(_is_plain_text(part) for part in content):
        content = "".join(part["text"] for part in content)
    return {key: value for key, value in message.items() if value is not None} | {"content": content}


def _is_plain_text(part: Any) -> bool:
    return (
        isinstance(part, dict) and part == {"type": "text", "text": part.get("text")} and isinstance(part["text"], str)
    )


def _numbers(value: Any) -> Any:
    """Whole floats as integers, so that equal numbers have one spelling."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _numbers(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_numbers(member) for member in value]
    return value
