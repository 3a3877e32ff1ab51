"""A cassette behind Azure OpenAI's two chat completions URLs, on loopback: a deployment that only repeats itself.

    POST /openai/deployments/{deployment}/chat/completions?api-version=…
    POST /openai/v1/chat/completions                                        (the deployment is the body's `model`)

It stands for an endpoint that is asked with an Entra token, as a job does; keys are refused.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.cassette import Cassette, Exchange
from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.records import JsonObject
from mmlu_pipe.serve import wire
from mmlu_pipe.serve.listener import Listener

__all__ = ["AUDIENCE", "ReplayServer"]

AUDIENCE = "https://cognitiveservices.azure.com"
"""Whom a token for Azure OpenAI is for, in the public cloud."""

_MAX_BODY = 64 * 1024 * 1024
_DATED = re.compile(r".*/openai/deployments/([^/]+)/chat/completions")
_V1 = re.compile(r".*/openai/v1/chat/completions")

_log = logging.getLogger("mmlu_pipe.recording")


class ReplayServer:
    """Answers a request by the recording of what it means; nothing is invented.

    A request that means the same as another gets the same answer. Where a line asked one thing several times, the
    answers take turns, since HTTP does not tell which line asks: with several such lines at once, whose turn it is
    is not known.

    Args:
        folder: the cassette.
        deployment: the only deployment there is.
        model: the declared model, for requests in the v1 style, whose body names the deployment in its place.
        audience: whom tokens must be for.

    Attributes:
        port: on 127.0.0.1; plain HTTP.
        callers: who asked with a good token, as (`idtyp`, `appid`) of the tokens → requests.

    Raises:
        RecordingError: the folder is no cassette, or is empty.
    """

    def __init__(self, folder: Path, *, deployment: str, model: str, audience: str = AUDIENCE) -> None:
        self._cassette = Cassette(folder)
        if not len(self._cassette):
            raise RecordingError(f"{folder}: holds no recordings; check the folder's name, or record some")
        self._deployment, self._model, self._audience = deployment, model, audience
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()  # identity → how often
        self._counts: Counter[str] = Counter()
        self.callers: Counter[tuple[str, str]] = Counter()
        self._listener = _Listener(self)
        self.port = int(self._listener.server_address[1])
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), name="replay", daemon=True)

    def __enter__(self) -> Self:
        self._listener.server_activate()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.hang_up(socket.SHUT_RDWR)
        self._listener.server_close()

    @property
    def counts(self) -> Counter[str]:
        """Requests so far.

        `asked` are all, `played` were answered by a recording, `missed` have none, `refused` had no good token, named
        another address or deployment, or were no chat completions.
        """
        with self._lock:
            return Counter(self._counts)

    def answer(self, path: str, authorization: str, content: bytes) -> Exchange:
        """The recorded exchange of a request.

        Args:
            path: of the URL, without its query.
            authorization: the header of that name.
            content: the body.

        Raises:
            wire.Refusal: what an endpoint would answer in its place.
        """
        try:
            found = self._found(path, authorization, content)
        except wire.Refusal as refusal:
            missed = refusal.error.get("code") == "RecordingNotFound"
            self._count("missed" if missed else "refused")
            raise
        self._count("played")
        return found

    def _found(self, path: str, authorization: str, content: bytes) -> Exchange:
        caller = self._caller(authorization)
        body = _body(content)
        model = self._model_of(path, body)
        with self._lock:
            self.callers[caller] += 1
            identity = request_hash(body, model)
            recorded = self._next(identity)
        if recorded is None:
            raise wire.Refusal(
                404, {"code": "RecordingNotFound", "message": str(self._cassette.miss(body, model)), "param": None}
            )
        return recorded

    def _next(self, identity: str) -> Exchange | None:
        found = self._cassette.find((identity, self._asked[identity]), line_number=0)
        if found is None and self._asked[identity]:  # the last of its answers was given: from the first again
            self._asked[identity] = 0
            found = self._cassette.find((identity, 0), line_number=0)
        self._asked[identity] += 1
        return found

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts.update(("asked", what))

    def _caller(self, authorization: str) -> tuple[str, str]:
        """Who asks, by the claims of the token; its signature is the front door's to know."""
        scheme, _, token = authorization.partition(" ")
        claims = _claims(token.strip()) if scheme.lower() == "bearer" else {}
        times = claims.get("exp")
        if claims.get("aud") != self._audience or not isinstance(times, int) or times <= time.time():
            raise _unauthorised(self._audience)
        return str(claims.get("idtyp", "")), str(claims.get("appid", ""))

    def _model_of(self, path: str, body: JsonObject) -> str:
        """The declared model of a request to one of the two addresses."""
        named = str(body.get("model"))
        if dated := _DATED.fullmatch(path):
            deployment, model = unquote(dated[1]), named
        elif _V1.fullmatch(path):
            deployment, model = named, self._model
        else:
            raise wire.not_found()
        if deployment != self._deployment:
            raise wire.deployment_not_found()
        return model


class _Listener(Listener):
    def __init__(self, replay: ReplayServer) -> None:
        self.replay = replay
        super().__init__(0, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests, and writes what the server answers."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mmlu-pipe-replay", ""
    disable_nagle_algorithm = True
    timeout = 300.0
    wbufsize = -1
    server: _Listener

    def do_POST(self) -> None:
        """Answer a chat completions request."""
        try:
            path, authorization = urlsplit(self.path).path, self.headers.get("Authorization", "")
            found = self.server.replay.answer(path, authorization, self._read())
        except wire.Refusal as refusal:
            self._refuse(refusal)
        except RecordingError as error:  # the folder was changed meanwhile
            _log.error("%s", error)
            self._refuse(wire.server_error(str(error)))
        else:
            self._send(found.status, found.content_type, found.response_body.encode())

    def do_GET(self) -> None:
        """There is nothing else to be had."""
        self.close_connection = True
        self._refuse(wire.not_found())

    def _read(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > _MAX_BODY:
            self.close_connection = True  # where the body ends is unknown
            raise wire.bad_request("A Content-Length is needed.")
        return self.rfile.read(int(length))

    def _refuse(self, refusal: wire.Refusal) -> None:
        self._send(refusal.status, "application/json", wire.encode(refusal.body))

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        with suppress(OSError):  # the client has gone
            self.send_response_only(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            if status >= 400:
                self.send_header("x-should-retry", "false")  # asked again, a recording says the same
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is counted."""

    def finish(self) -> None:
        """Flush, and close."""
        with suppress(OSError, ValueError):  # the client was faster
            super().finish()


def _body(content: bytes) -> JsonObject:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise wire.bad_request("The request body is no chat completion.")
    return body


def _claims(token: str) -> JsonObject:
    """What a JWT says; nothing, where it is none."""
    with suppress(ValueError, RecursionError):
        _head, part, _signature = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        if isinstance(claims, dict):
            return claims
    return {}


def _unauthorised(audience: str) -> wire.Refusal:
    message = f"Unauthorized. Access token is missing, invalid, audience is incorrect ({audience}), or have expired."
    return wire.Refusal(401, {"code": "401", "message": message})
