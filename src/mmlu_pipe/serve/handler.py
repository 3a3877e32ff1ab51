"""One connection: Azure OpenAI's two chat completions URLs over HTTP/1.1.

    POST /openai/deployments/{deployment}/chat/completions?api-version=…
    POST /openai/v1/chat/completions                                        (the deployment is the body's `model`)

A request whose client has hung up is dropped, while it waits as well as while it is answered.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

from mmlu_pipe.serve import wire
from mmlu_pipe.serve.chat import Cancelled, ChatRequest, Ending, Json, Piece
from mmlu_pipe.serve.listener import Listener
from mmlu_pipe.serve.request import read_request

__all__ = ["MAX_BODY", "Handler"]

MAX_BODY = 4 * 1024 * 1024

_IDLE_S = 300.0
_DATED_PATH = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_V1_PATH = "/openai/v1/chat/completions"
_DATED_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?", re.ASCII)
_V1_VERSIONS = ("", "v1", "preview", "latest")

_log = logging.getLogger("mmlu_pipe.serve")


class Handler(BaseHTTPRequestHandler):
    """Reads requests, asks the engine, writes answers or errors."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mmlu-pipe", ""
    disable_nagle_algorithm = True
    timeout = _IDLE_S
    wbufsize = -1
    server: Listener

    def do_POST(self) -> None:
        """Answer a chat completions request."""
        started = time.monotonic()
        try:
            told = self._serve()
        except wire.Refusal as refusal:
            self._send_json(refusal.status, refusal.body)
            told = f"{refusal.status} {refusal.error['code'] or refusal.error.get('type')}"
        except (Cancelled, OSError):
            self.close_connection = True
            told = "the client hung up"
        _log.info("%s, %.1f s", told, time.monotonic() - started)

    def do_GET(self) -> None:
        """There is nothing else to be had."""
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what follows is a body that nobody reads
        refusal = wire.not_found() if self._has_key() else wire.unauthorised()
        self._send_json(refusal.status, refusal.body)

    def _serve(self) -> str:
        """Answer one request; returns what the log tells of it."""
        content = self._read_body()
        if not self._has_key():
            raise wire.unauthorised()
        body = self._addressed(content)
        request = read_request(body)
        served = self.server.served
        reply = wire.Reply(
            id=f"chatcmpl-{secrets.token_hex(15)[:29]}",
            created=int(time.time()),
            model=served.model,
            system_fingerprint=served.system_fingerprint,
            top_logprobs=request.top_logprobs,
            include_usage=request.include_usage,
        )
        if request.stream:
            ending = self._stream(request, reply)
        else:
            pieces: list[Piece] = []
            ending = self._answer(request, pieces.append)
            self._send_json(200, reply.completion(pieces, ending))
        reused = f", {ending.reused} reused" if ending.reused else ""
        return f"200 {ending.finish_reason}, {ending.prompt_tokens}+{ending.completion_tokens} tokens{reused}"

    # What came in

    def _read_body(self) -> bytes:
        announced = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"[0-9]{1,18}", announced):
            self.close_connection = True  # where the body ends is unknown
            raise wire.bad_request("A Content-Length is needed.")
        if int(announced) > MAX_BODY:
            self.close_connection = True
            raise wire.too_large(MAX_BODY)
        content = self.rfile.read(int(announced))
        if len(content) < int(announced):
            raise ConnectionResetError
        return content

    def _has_key(self) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        given = self.headers.get("api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        return self.server.lets_in(given)

    def _addressed(self, content: bytes) -> Any:
        """The body, if URL and body name the served deployment."""
        url = urlsplit(self.path)
        version = parse_qs(url.query).get("api-version", [""])[0].lower()
        dated = _DATED_PATH.fullmatch(url.path)
        if not dated and url.path != _V1_PATH:
            raise wire.not_found()
        if dated and not _DATED_VERSION.fullmatch(version):
            raise wire.not_found()
        if not dated and version not in _V1_VERSIONS:
            raise wire.bad_request("API version not supported")
        try:
            body = json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise wire.bad_request("The request body is not valid JSON.") from None
        name = unquote(dated[1]) if dated else body.get("model") if isinstance(body, dict) else None
        if not dated and not name:
            raise wire.invalid("you must provide a model parameter")
        if name != self.server.served.deployment:
            raise wire.deployment_not_found()
        return body

    # What goes out

    def _answer(self, request: ChatRequest, emit: Callable[[Piece], None]) -> Ending:
        try:
            ending = self.server.engine.chat(request, emit, self._nobody_waits)
        except (wire.Refusal, Cancelled, OSError):
            if self.server.stopping.is_set():
                raise wire.stopping() from None
            raise
        except Exception:  # noqa: BLE001 - whatever an engine raises, the server goes on, and logs it
            _log.exception("the engine failed; the server goes on")
            raise wire.server_error("The engine failed; the server's log says how.") from None
        return ending

    def _nobody_waits(self) -> bool:
        if self.server.stopping.is_set():
            return True
        try:
            self.connection.setblocking(False)
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            with suppress(OSError):
                self.connection.settimeout(_IDLE_S)

    def _stream(self, request: ChatRequest, reply: wire.Reply) -> Ending:
        """Send chunks as they come; an error before the first is an ordinary response."""
        begun = False

        def open_stream() -> None:
            nonlocal begun
            if not begun:
                begun = True
                self.close_connection |= self.request_version == "HTTP/1.0"  # its streams end with the connection
                self._send_head(200, "text/event-stream; charset=utf-8", None)
                self._send_events(reply.opening())

        def emit(piece: Piece) -> None:
            open_stream()
            self._send_events([reply.chunk(piece)])

        try:
            ending = self._answer(request, emit)
        except wire.Refusal as refusal:
            if not begun:
                raise
            self._send_chunk(wire.broken_off(refusal))
            self._send_chunk(b"")
            self.close_connection = True
            raise Cancelled from None
        open_stream()
        self._send_events(reply.closing(ending))
        self._send_chunk(wire.DONE)
        self._send_chunk(b"")
        return ending

    def _send_events(self, bodies: Sequence[Json]) -> None:
        self._send_chunk(b"".join(map(wire.event, bodies)))

    def _send_chunk(self, content: bytes) -> None:
        """A part of a stream; an empty one ends it."""
        chunked = self.request_version != "HTTP/1.0"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content) if chunked else content)
        self.wfile.flush()

    def _send_json(self, status: int, body: Json) -> None:
        content = wire.encode(body)
        with suppress(OSError):  # the client has gone
            self._send_head(status, "application/json", len(content))
            if self.command != "HEAD":
                self.wfile.write(content)
            self.wfile.flush()

    def _send_head(self, status: int, content_type: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("apim-request-id", str(uuid.uuid4()))
        self.send_header("x-ms-region", "loopback")
        self.send_header("x-ms-rai-invoked", "false")  # no content filter ran
        if length is not None:
            self.send_header("Content-Length", str(length))
        elif self.request_version != "HTTP/1.0":
            self.send_header("Transfer-Encoding", "chunked")
        if self.close_connection or self.server.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP that is understood here."""
        self.close_connection = True
        self._send_json(code, {"error": {"code": str(int(code)), "message": HTTPStatus(code).phrase}})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line may hold a key. What is worth telling, do_POST tells."""

    def finish(self) -> None:
        """Flush, and close."""
        with suppress(OSError, ValueError):  # the client was faster
            super().finish()


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
