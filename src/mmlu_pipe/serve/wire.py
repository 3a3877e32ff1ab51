"""Bodies in the shapes of Azure OpenAI's chat API: completions, the chunks of a stream, and errors (pure).

This server filters nothing. So its `content_filter_results` are empty objects, as Azure sends them where no filter
ran; they never say that a text was found safe.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.serve.chat import Ending, Json, Piece

__all__ = [
    "DONE",
    "Refusal",
    "Reply",
    "bad_request",
    "broken_off",
    "deployment_not_found",
    "encode",
    "event",
    "fingerprint",
    "invalid",
    "not_found",
    "server_error",
    "stopping",
    "too_large",
    "too_long",
    "unauthorised",
]

DONE = b"data: [DONE]\n\n"
_LOWEST_LOGPROB = -9999.0  # what the API writes for a probability of nothing
_UNFILTERED: list[Json] = [{"prompt_index": 0, "content_filter_results": {}}]
_TOKEN_KEYS = ("token", "bytes", "logprob")


class Refusal(Exception):
    """An error response: its HTTP status and its `error` object."""

    def __init__(self, status: int, error: Json) -> None:
        super().__init__(error["message"])
        self.status = status
        self.error = error

    @property
    def body(self) -> Json:
        """The response's JSON."""
        return {"error": self.error}


def fingerprint(sha256: str) -> str:
    """The `system_fingerprint` of weights: the first twelve digits of their SHA-256 tell them apart."""
    return f"gguf-{sha256[:12]}"


def encode(value: Json) -> bytes:
    """A JSON body; one that repeats half a surrogate pair, which UTF-8 has no bytes for, is escaped."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def event(value: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


@dataclass(frozen=True)
class Reply:
    """The bodies of one answer.

    Attributes:
        id: `chatcmpl-` and something random.
        created: Unix time.
        model: the model that answers.
        system_fingerprint: of its weights.
        top_logprobs: alternatives asked for; None: no logprobs.
        include_usage: whether a stream ends with the token counts.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str
    top_logprobs: int | None = None
    include_usage: bool = False

    def completion(self, pieces: Sequence[Piece], ending: Ending) -> Json:
        """The answer as one body."""
        tokens = [token for piece in pieces for token in piece.tokens]
        choice = {
            "content_filter_results": {},
            "finish_reason": ending.finish_reason,
            "index": 0,
            "logprobs": self._logprobs(tokens),
            "message": {
                "annotations": [],
                "content": "".join(piece.text for piece in pieces),
                "refusal": None,
                "role": "assistant",
            },
        }
        return {
            **self._base("chat.completion"),
            "choices": [choice],
            "prompt_filter_results": _UNFILTERED,
            "usage": _usage(ending),
        }

    def opening(self) -> list[Json]:
        """The first two chunks of a stream: of the prompt's filter, and of the role."""
        blank = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        role = {"content": "", "refusal": None, "role": "assistant"}
        return [{**blank, "prompt_filter_results": _UNFILTERED}, self._chunk(role)]

    def chunk(self, piece: Piece) -> Json:
        """A chunk with a part of the answer."""
        return self._chunk({"content": piece.text}, logprobs=self._logprobs(piece.tokens))

    def closing(self, ending: Ending) -> list[Json]:
        """The last chunks of a stream: the reason, and the token counts where they were asked for."""
        last = self._chunk({}, finish_reason=ending.finish_reason)
        if not self.include_usage:
            return [last]
        return [last, {**self._base("chat.completion.chunk"), "choices": [], "usage": _usage(ending)}]

    def _base(self, kind: str) -> Json:
        return {
            "created": self.created,
            "id": self.id,
            "model": self.model,
            "object": kind,
            "system_fingerprint": self.system_fingerprint,
        }

    def _chunk(self, delta: Json, finish_reason: str | None = None, logprobs: Json | None = None) -> Json:
        choice = {
            "content_filter_results": {},
            "delta": delta,
            "finish_reason": finish_reason,
            "index": 0,
            "logprobs": logprobs,
        }
        found = {**self._base("chat.completion.chunk"), "choices": [choice]}
        return found | {"usage": None} if self.include_usage else found

    def _logprobs(self, tokens: Sequence[Json]) -> Json | None:
        if self.top_logprobs is None:
            return None
        content = [
            {**_token(token), "top_logprobs": [_token(other) for other in token["top_logprobs"][: self.top_logprobs]]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _token(given: Json) -> Json:
    """A token without what the API does not tell, its logprob a number that JSON has."""
    found = {key: given[key] for key in _TOKEN_KEYS}
    logprob = found["logprob"]
    usable = isinstance(logprob, int | float) and logprob > _LOWEST_LOGPROB  # not so are null, NaN and -inf
    return found | {"logprob": min(float(logprob), 0.0) if usable else _LOWEST_LOGPROB}


def _usage(ending: Ending) -> Json:
    details = {"accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0}
    return {
        "completion_tokens": ending.completion_tokens,
        "completion_tokens_details": {**details, "rejected_prediction_tokens": 0},
        "prompt_tokens": ending.prompt_tokens,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
        "total_tokens": ending.prompt_tokens + ending.completion_tokens,
    }


# Errors. Azure's gateway and the model's API behind it word theirs in two shapes: with a code alone, and with the
# type, the parameter and a code.


def _failure(status: int, code: str, message: str) -> Refusal:
    return Refusal(status, {"code": code, "message": message})


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A field that cannot be served."""
    return Refusal(400, {"message": message, "type": "invalid_request_error", "param": param, "code": code})


def bad_request(message: str) -> Refusal:
    """No request at all."""
    return _failure(400, "BadRequest", message)


def unauthorised() -> Refusal:
    """No key, or another one."""
    return _failure(
        401,
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
        "active subscription and use a correct regional API endpoint for your resource.",
    )


def not_found() -> Refusal:
    """A path that is not served, or a dated one without its API version."""
    return _failure(404, "404", "Resource not found")


def deployment_not_found() -> Refusal:
    """Another deployment's name."""
    return _failure(
        404,
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
        "please wait a moment and try again.",
    )


def too_large(limit: int) -> Refusal:
    """More bytes than are read."""
    return _failure(413, "RequestTooLarge", f"The request body is larger than {limit} bytes.")


def too_long(prompt_tokens: Any, limit: Any) -> Refusal:
    """More tokens than the model's context has room for."""
    return invalid(
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {prompt_tokens} "
        "tokens. Please reduce the length of the messages.",
        "messages",
        "context_length_exceeded",
    )


def server_error(message: str) -> Refusal:
    """The fault is on this side."""
    return Refusal(500, {"message": message, "type": "server_error", "param": None, "code": None})


def stopping() -> Refusal:
    """The server is being stopped."""
    return _failure(503, "ServiceUnavailable", "The server is stopping.")


def broken_off(refusal: Refusal) -> bytes:
    """The event that ends a stream without `[DONE]`: a failure after the answer began."""
    return event(refusal.body)
