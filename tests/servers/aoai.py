"""An Azure-OpenAI-shaped chat endpoint on loopback: the real wire format, real refusals, and faults on request.

    with AoaiServer({"dep": "gpt-4o"}, answer=lambda body, count: Reply("2")) as server:
        AzureOpenAI(azure_endpoint=server.endpoint, api_key=server.key, api_version="2024-10-21", ...)

Served are /openai/deployments/{deployment}/chat/completions?api-version=… and /openai/v1/chat/completions.
A strict server answers every field that the deployment's model or API version does not take with the HTTP 400
that Azure sends for it. Only the standard library is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import socket
import ssl
import struct
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

from mmlu_pipe.endpoint.capabilities import Capabilities, family, rejected_fields, settle

__all__ = ["AoaiServer", "Recorded", "Reply", "filtered_prompt", "rate_limited"]

Json = dict[str, Any]
SAFE: Json = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
NOT_DETECTED: Json = {"detected": False, "filtered": False}
PROMPT_FILTER: Json = {"prompt_index": 0, "content_filter_results": {**SAFE, "jailbreak": NOT_DETECTED}}
FIELDS = frozenset(
    (
        *("messages", "model", "temperature", "top_p", "n", "stream", "stream_options", "stop", "max_tokens"),
        *("max_completion_tokens", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("user", "seed", "response_format", "tools", "tool_choice", "functions", "function_call", "data_sources"),
        *("parallel_tool_calls", "reasoning_effort", "verbosity", "store", "metadata", "prediction"),
    )
)
ALTERNATIVES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REASONING_TOKENS = 64
MESSAGES = {
    429: "Requests to the ChatCompletions_Create operation are over the token rate limit. Retry after 1 second.",
    500: "The server had an error while processing the request.",
    503: "The service is temporarily unable to process the request.",
}


@dataclass(frozen=True)
class Reply:
    """One answer, or one way to fail."""

    content: str | None = ""
    finish_reason: str = "stop"
    refusal: str | None = None
    logprobs: Sequence[Json] | None = None  # the tokens with their top_logprobs, instead of one per character
    filtered: Mapping[str, str] = field(default_factory=dict)  # category -> severity, of the answer
    served_model: str | None = None
    fingerprint: str | None = "fp_loopback"
    empty_choices: bool = False
    status: int = 200
    error: Json | None = None  # the `error` object of any other status
    headers: Mapping[str, str] = field(default_factory=dict)
    async_filter: bool = False  # in mid-stream a chunk that annotates and has no `delta`
    truncated: bool = False  # the JSON, or the stream, ends in the middle
    content_type: str | None = None
    raw: bytes | None = None  # this body instead of a completion
    reset: Literal["before", "middle"] | None = None
    hang: float = 0.0  # seconds before anything is sent


def rate_limited(milliseconds: int) -> Reply:
    """A 429 that asks to come back after so long."""
    seconds = str(math.ceil(milliseconds / 1000))
    return Reply(status=429, headers={"retry-after": seconds, "retry-after-ms": str(milliseconds)})


def filtered_prompt(category: str = "violence", severity: str = "medium") -> Reply:
    """The 400 for a prompt that the content filter blocks."""
    results = {**SAFE, "jailbreak": NOT_DETECTED, category: {"filtered": True, "severity": severity}}
    error = {
        "message": "The prompt triggered the content management policy. Change it and try again.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": results},
    }
    return Reply(status=400, error=error)


@dataclass(frozen=True)
class Recorded:
    """A request as it came in; header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: Any


Answer = Callable[[Json, int], "str | Reply"]
Bearer = str | Callable[[str], bool | int] | None


def _choice(options: Sequence[Any], seed: object) -> Any:
    digest = hashlib.sha256(json.dumps(seed, sort_keys=True).encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def _instance(schema: Mapping[str, Any], seed: object) -> Any:
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return _choice(schema["enum"], seed)
    if schema.get("anyOf"):
        return _instance(schema["anyOf"][0], seed)
    if schema.get("type") == "object":
        return {name: _instance(part, seed) for name, part in schema.get("properties", {}).items()}
    return {"array": [], "boolean": False, "integer": 0, "number": 0, "null": None}.get(str(schema.get("type")), "text")


def default_answer(body: Json, count: int) -> str:
    """An option of the schema's enum, or a digit from 0 to 3: the same one for the same messages."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(_instance(wanted["json_schema"]["schema"], body["messages"]), separators=(",", ":"))
    return json.dumps({"answer": 0}) if wanted.get("type") == "json_object" else _choice("0123", body["messages"])


class AoaiServer:
    """The server, as a context manager; `requests`, `connections` and `in_flight_peak` tell what reached it."""

    def __init__(
        self,
        deployments: Mapping[str, str] | None = None,
        key: str | None = "test-key",
        bearer: Bearer = None,
        strict: bool = True,
        tls: tuple[str | Path, str | Path] | None = None,
        answer: Answer = default_answer,
    ) -> None:
        self.deployments = dict({"dep": "gpt-4o"} if deployments is None else deployments)
        self.key, self.bearer, self.strict, self.answer = key, bearer, strict, answer
        self.requests: list[Recorded] = []
        self.errors: list[BaseException] = []
        self.connections = self.answered = self.in_flight = self.in_flight_peak = 0
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.changed = threading.Condition(self.lock)  # told of every request
        self._http = _Http(self)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            # The handshake happens in the connection's own thread, at its first read.
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> AoaiServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()
        if self.errors and error is None:
            raise AssertionError("the loopback server failed") from self.errors[0]

    @property
    def bodies(self) -> list[Json]:
        """The bodies received, in order."""
        return [request.body for request in self.requests]


class _Http(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 512

    def __init__(self, owner: AoaiServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        with self.owner.lock:
            self.owner.connections += 1
            self._open.add(request)
        return request, address

    def close_request(self, request: Any) -> None:
        with self.owner.lock:
            self._open.discard(request)
        super().close_request(request)

    def hang_up(self) -> None:
        with self.owner.lock:
            left = list(self._open)
        for connection in left:
            # Below TLS, so that no thread waits for the other side's goodbye; it may be gone already.
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | ssl.SSLError | TimeoutError) and error is not None:
            self.owner.errors.append(error)


class _Answered(Exception):
    """The request has been dealt with."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def finish(self) -> None:
        with suppress(OSError, ValueError):  # the client, or a reset, was faster
            super().finish()

    def do_GET(self) -> None:
        with suppress(_Answered):
            self._fail(404, "404", "Resource not found")

    def do_POST(self) -> None:
        owner = self.server.owner
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        headers = {name.lower(): value for name, value in self.headers.items()}
        with owner.lock:
            owner.requests.append(Recorded(self.path, headers, body))
            owner.in_flight += 1
            owner.in_flight_peak = max(owner.in_flight_peak, owner.in_flight)
            owner.changed.notify_all()
        try:
            with suppress(_Answered):
                self._serve(body, headers)
        finally:
            with owner.lock:
                owner.in_flight -= 1

    def _serve(self, body: Any, headers: Mapping[str, str]) -> None:
        owner, url = self.server.owner, urlsplit(self.path)
        dated = re.fullmatch(r"/openai/deployments/([^/]+)/chat/completions", url.path)
        version = parse_qs(url.query).get("api-version", [""])[0]
        self._authorize(headers, on_v1=not dated)
        if (not dated and url.path != "/openai/v1/chat/completions") or (dated and not version):
            self._fail(404, "404", "Resource not found")
        if not isinstance(body, dict):
            self._fail(400, "BadRequest", "The request body is no JSON object.")
        name = unquote(dated[1]) if dated else str(body.get("model") or "")
        if not name:
            self._refuse("A model parameter is needed.", None, None)
        if name not in owner.deployments:
            self._fail(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
        try:
            known = settle(owner.deployments[name], version)
        except ValueError:
            self._fail(404, "404", "Resource not found")
        if not dated and re.match(r"\d", version):
            self._fail(400, "BadRequest", "API version not supported")
        if not known.chat:
            told = f"The chatCompletion operation does not work with the specified model, {known.model}."
            self._fail(400, "OperationNotSupported", f"{told} Choose a different one and try again.")
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            self._refuse("'messages' is a required property", None, None)
        if owner.strict:
            self._check_fields(known, body)
        with owner.lock:
            count, owner.answered = owner.answered, owner.answered + 1
        given = owner.answer(body, count)
        self._reply(Reply(given) if isinstance(given, str) else given, body, known)

    # Refusals

    def _authorize(self, headers: Mapping[str, str], on_v1: bool) -> None:
        owner, token = self.server.owner, headers.get("authorization", "").removeprefix("Bearer ")
        given = headers.get("api-key") or (token if on_v1 and token == owner.key else None)
        if given is not None:
            if owner.key is None:
                self._fail(403, "AuthenticationTypeDisabled", "Key based authentication is disabled for this resource.")
            if given != owner.key:
                self._fail(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
            return
        accepted = owner.bearer(token) if callable(owner.bearer) else bool(token) and token == owner.bearer
        if accepted == 403:
            self._fail(403, "403", "Access denied due to Virtual Network/Firewall rules.")
        if accepted is not True:
            self._fail(401, "Unauthorized", "The access token is missing, invalid, for another audience or expired.")

    def _check_fields(self, known: Capabilities, body: Json) -> None:
        unknown = {name for name in body if name not in FIELDS}
        # What even a model without limits does not get under this API version is unknown to the API itself.
        too_new = {name for name, _ in rejected_fields(settle("any", known.api_version), body)} - {"reasoning_effort"}
        for name, reason in [*((name, "") for name in unknown), *rejected_fields(known, body)]:
            if not (name in {"temperature", "top_p"} and body[name] == 1):  # the default
                self._refuse_field(known, name, body[name], reason, name in unknown | too_new)

    def _refuse_field(self, known: Capabilities, name: str, value: Any, reason: str, unknown: bool) -> NoReturn:
        kind = value.get("type") if isinstance(value, dict) else None
        effort = [repr(level) for level in known.reasoning_effort]
        if re.match("mistral|ministral|codestral", family(known.model)):
            detail = {
                "detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}]
            }
            self._fail(422, "Invalid input", json.dumps(detail), status=422)
        elif " needs " in reason:
            needed = "logprobs" if name == "top_logprobs" else "stream"
            self._refuse(f"The '{name}' parameter is only allowed when '{needed}' is enabled.", name, None)
        elif " exclude each other" in reason:
            told = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            self._refuse(told, "max_tokens", "invalid_parameter_combination")
        elif name == "top_logprobs" and known.logprobs:
            told = f"Invalid value for 'top_logprobs': must be less than or equal to {known.max_top_logprobs}."
            self._refuse(told, name, None)
        elif name == "response_format" and unknown and kind == "json_schema":
            told = "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later"
            self._fail(400, "BadRequest", told)
        elif name == "response_format" and not unknown:
            told = f"Invalid parameter: 'response_format' of type '{kind}' is not supported with this model."
            self._refuse(told, name, None)
        elif (unknown and known.api_version < "2024-08") or (name == "reasoning_effort" and not effort):
            self._refuse(f"Unrecognized request argument supplied: {name}", None, None)
        elif unknown:
            self._refuse(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        elif name in {"temperature", "top_p", "stream"}:
            default = "false" if name == "stream" else "1"
            told = f"Unsupported value: '{name}' does not support {json.dumps(value)} with this model. "
            self._refuse(f"{told}Only the default ({default}) value is supported.", name, "unsupported_value")
        elif name == "reasoning_effort":
            told = f"Unsupported value: '{name}' does not support '{value}' with this model. "
            self._refuse(f"{told}Supported values are: {', '.join(effort)}.", name, "unsupported_value")
        else:
            told = f"Unsupported parameter: '{name}' is not supported with this model."
            instead = f" Use '{known.token_limit}' instead." if name.startswith("max_") else ""
            self._refuse(told + instead, name, "unsupported_parameter")

    def _refuse(self, message: str, param: str | None, code: str | None) -> NoReturn:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        self._send(400, "application/json", json.dumps({"error": error}).encode())
        raise _Answered

    def _fail(self, status: int, code: str, message: str, /, **more: Any) -> NoReturn:
        error = {"code": code, "message": message, **more}
        self._send(status, "application/json", json.dumps({"error": error}).encode())
        raise _Answered

    # Answers

    def _reply(self, reply: Reply, body: Json, known: Capabilities) -> None:
        if reply.hang:
            self.server.owner.stopping.wait(reply.hang)
        if reply.reset == "before":
            self._reset()
        if reply.status != 200 or reply.raw is not None:
            error = reply.error or {"code": str(reply.status), "message": MESSAGES.get(reply.status, "Failed.")}
            content = json.dumps({"error": error}).encode() if reply.raw is None else reply.raw
            self._send(reply.status, reply.content_type or "application/json", content, reply.headers)
            return
        base = {
            "created": 1_700_000_000,
            "id": f"chatcmpl-{uuid.uuid4().hex[:29]}",
            "model": reply.served_model or known.model,
            "system_fingerprint": reply.fingerprint,
        }
        tokens = None if not body.get("logprobs") else _tokens(reply, int(body.get("top_logprobs") or 0))
        if body.get("stream"):
            self._stream(reply, body, base, tokens, _usage(reply, body, known))
            return
        message: Json = {"annotations": [], "content": reply.content, "refusal": reply.refusal, "role": "assistant"}
        if reply.refusal is not None:
            message["content"] = None
        if reply.finish_reason == "tool_calls":
            message |= {"content": None, "tool_calls": TOOL_CALLS}
        choice = {
            "content_filter_results": _answer_filter(reply),
            "finish_reason": reply.finish_reason,
            "index": 0,
            "logprobs": tokens and {"content": tokens, "refusal": None},
            "message": message,
        }
        completion = {
            **base,
            "object": "chat.completion",
            "choices": [] if reply.empty_choices else [choice],
            "prompt_filter_results": [PROMPT_FILTER],
            "usage": _usage(reply, body, known),
        }
        content = json.dumps(completion).encode()
        half = content[: len(content) // 2]
        headers = dict(reply.headers)
        if reply.reset == "middle":
            self._send(200, reply.content_type or "application/json", half, headers, announced=len(content))
            self._reset()
        self._send(200, reply.content_type or "application/json", half if reply.truncated else content, headers)

    def _stream(self, reply: Reply, body: Json, base: Json, tokens: list[Json] | None, usage: Json) -> None:
        events = list(_events(reply, base, tokens, usage if _with_usage(body) else None))
        texts = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events]
        if reply.reset == "middle" or reply.truncated:
            texts = texts[: max(2, len(texts) // 2)]
            texts[-1] = texts[-1][: len(texts[-1]) // 2]
        self._head(200, reply.content_type or "text/event-stream; charset=utf-8", reply.headers)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in texts:
            content = text.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            self.wfile.flush()
        if reply.reset == "middle":
            self._reset()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        ours = {
            "Content-Type": content_type,
            "apim-request-id": str(uuid.uuid4()),
            "x-ms-region": "Loopback",
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "99",
            "x-ratelimit-limit-tokens": "100000",
            "x-ratelimit-remaining-tokens": "99000",
        }
        for name, value in {**ours, **headers}.items():
            self.send_header(name, value)

    def _send(
        self,
        status: int,
        content_type: str,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        announced: int | None = None,
    ) -> None:
        self._head(status, content_type, headers or {})
        self.send_header("Content-Length", str(len(content) if announced is None else announced))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _reset(self) -> NoReturn:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True
        raise _Answered


TOOL_CALLS: list[Json] = [{"id": "call_1", "type": "function", "function": {"name": "answer", "arguments": "{}"}}]


def _with_usage(body: Json) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _answer_filter(reply: Reply) -> Json:
    blocked = {name: {"filtered": True, "severity": severity} for name, severity in reply.filtered.items()}
    return {**SAFE, "protected_material_code": NOT_DETECTED, "protected_material_text": NOT_DETECTED, **blocked}


def _token(text: str, logprob: float) -> Json:
    return {"token": text, "bytes": list(text.encode()), "logprob": logprob}


def _tokens(reply: Reply, alternatives: int) -> list[Json]:
    if reply.logprobs is not None:
        return [dict(token) for token in reply.logprobs]
    found = []
    for character in reply.content or "":
        others = [name for name in ALTERNATIVES if name != character][: max(0, alternatives - 1)]
        shares = [0.7, *(0.3 * 0.5**place for place in range(1, len(others) + 1))]
        top = [_token(name, math.log(share)) for name, share in zip([character, *others], shares, strict=True)]
        found.append({**_token(character, math.log(0.7)), "top_logprobs": top if alternatives else []})
    return found


def _usage(reply: Reply, body: Json, known: Capabilities) -> Json:
    prompt = len(json.dumps(body["messages"])) // 4
    reasoning = 0 if known.temperature else REASONING_TOKENS
    completion = len(reply.content or reply.refusal or "") + reasoning
    details = {"accepted_prediction_tokens": 0, "audio_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "completion_tokens": completion,
        "completion_tokens_details": {**details, "reasoning_tokens": reasoning},
        "prompt_tokens": prompt,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
        "total_tokens": prompt + completion,
    }


def _events(reply: Reply, base: Json, tokens: list[Json] | None, usage: Json | None) -> Iterable[Json | str]:
    blank: Json = {"created": 0, "id": "", "model": "", "object": ""}
    null_usage: Json = {} if usage is None else {"usage": None}

    def chunk(delta: Json, finish: str | None = None, token: Json | None = None, checked: bool = False) -> Json:
        choice = {
            "content_filter_results": _answer_filter(reply) if checked else {},
            "delta": delta,
            "finish_reason": finish,
            "index": 0,
            "logprobs": token and {"content": [token], "refusal": None},
        }
        return {**base, "object": "chat.completion.chunk", "choices": [choice], **null_usage}

    yield {**blank, "choices": [], "prompt_filter_results": [PROMPT_FILTER]}
    if not reply.empty_choices:
        yield chunk({"content": "", "refusal": None, "role": "assistant"})
        if reply.refusal is not None:
            yield chunk({"refusal": reply.refusal}, checked=True)
        elif reply.finish_reason == "tool_calls":
            yield chunk({"tool_calls": [{"index": 0, **TOOL_CALLS[0]}]}, checked=True)
        else:
            texts = list(reply.content or "")
            if tokens is not None and reply.logprobs is not None:
                texts = [token["token"] for token in tokens]
            for place, text in enumerate(texts):
                yield chunk({"content": text}, token=tokens[place] if tokens else None, checked=True)
                if reply.async_filter and place == len(texts) // 2:
                    offsets = {"check_offset": place, "start_offset": 0, "end_offset": place}
                    noted = {"content_filter_offsets": offsets, "content_filter_results": _answer_filter(reply)}
                    yield {**blank, "choices": [{**noted, "finish_reason": None, "index": 0}]}
        yield chunk({}, finish=reply.finish_reason, checked=bool(reply.filtered))
    if usage is not None:
        yield {**base, "object": "chat.completion.chunk", "choices": [], "usage": usage}
    yield "[DONE]"
