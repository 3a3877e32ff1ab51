"""The front door: the one port a client needs.

It is an HTTP proxy on loopback. A `CONNECT` is answered by the twin itself, which ends TLS with a certificate of its
own authority; what comes through is routed by the host that was asked for. Requests that are addressed to the port
itself reach the identity endpoints that jobs and virtual machines have on the local network. Hosts that the twin does
not stand for are refused: nothing leaves the machine.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mmlu_pipe.rehearsal.exchange import Recorder, Refusal, Reply, Request
from mmlu_pipe.rehearsal.faults import Cut, Faults

__all__ = ["FrontDoor"]

LOCAL = "localhost"
"""The host of requests that are addressed to the port itself."""

_MAX_BODY = 512 * 1024 * 1024
_TIMEOUT_S = 300.0

_log = logging.getLogger("mmlu_pipe.rehearsal")

Answer = Callable[[Request], Reply]


class FrontDoor(ThreadingHTTPServer):
    """The listening port and its threads.

    Args:
        context: TLS under the names of all hosts.
        answers: host → who answers; `*.name` stands for every host below a name, `localhost` for the port itself.
        recorder: keeps every exchange.
        faults: are asked first.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext, answers: Mapping[str, Answer], recorder: Recorder, faults: Faults):
        self.context, self.answers, self.recorder, self.faults = context, dict(answers), recorder, faults
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Door)
        self.port = int(self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="twin-front-door", daemon=True)

    def start(self) -> None:
        """Accept connections."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more connections, and end those that are open."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def who_answers(self, host: str) -> Answer | None:
        """Who stands for a host, or None."""
        return self.answers.get(host) or self.answers.get("*." + host.partition(".")[2])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and know it from then on."""
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection, and close it."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks concerns no other; anything else is logged."""
        if not isinstance(sys.exc_info()[1], OSError):  # ssl.SSLError is one
            _log.exception("the twin could not answer a connection")


class _Speaker(BaseHTTPRequestHandler):
    """Reads requests, asks who answers, writes the answers."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mmlu-pipe-twin", ""
    disable_nagle_algorithm = True
    timeout = _TIMEOUT_S
    wbufsize = -1
    server: FrontDoor
    host = LOCAL

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the recorder has it all."""

    def answer(self) -> None:
        """Answer one request, whatever its method."""
        request = self._read_head()
        answer = self.server.who_answers(self.host)
        happens = self.server.faults.take(request)
        length = self.headers.get("Content-Length") or "0"
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"\d{1,10}", length) or int(length) > _MAX_BODY:
            self.close_connection = True
            return self._send(request, Refusal(411, "LengthRequired", "A Content-Length is needed.").reply)
        if isinstance(happens, Cut):
            self.rfile.read(int(length) // 2)
            self.server.recorder.add(request, 0)
            return self._hang_up()
        request = replace(request, body=self.rfile.read(int(length)))
        if len(request.body) < int(length):
            return self._hang_up()
        if answer is None:
            reply = Refusal(502, "HostUnknown", f"The twin does not stand for {self.host}.").reply
        elif happens is not None:
            reply = happens
        else:
            try:
                reply = answer(request)
            except Refusal as refusal:
                reply = refusal.reply
            except Exception as error:  # noqa: BLE001 - whatever it is, the server goes on
                _log.exception("the twin failed at %s %s", request.method, request.path)
                reply = Refusal(500, "TwinFailed", f"The twin itself failed: {error!r}").reply
        self._send(request, reply)
        return None

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

    def _read_head(self) -> Request:
        url = urlsplit(self.path)
        if url.hostname:  # a plain HTTP request through the proxy
            self.host = url.hostname
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        return Request(self.command, self.host, unquote(url.path), self.path, query, headers)

    def _send(self, request: Request, reply: Reply) -> None:
        self.server.recorder.add(request, reply.status)
        content = reply.content()
        own = {"content-length": str(len(content)), "x-ms-request-id": str(uuid.uuid4())}
        if reply.body is not None:
            own["content-type"] = "application/json; charset=utf-8"
        own |= {name.lower(): value for name, value in reply.headers.items()}
        self.send_response_only(reply.status)
        self.send_header("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
        for name, value in own.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Inside(_Speaker):
    """What is said inside a tunnel to one host."""

    def __init__(self, connection: ssl.SSLSocket, address: Any, server: FrontDoor, host: str) -> None:
        self.host = host
        super().__init__(connection, address, server)


class _Door(_Speaker):
    """What is said to the port itself: `CONNECT`, or a request to an identity endpoint."""

    def do_CONNECT(self) -> None:
        """Be the host that was asked for, if the twin stands for it."""
        host = self.path.rpartition(":")[0].lower()
        self.close_connection = True
        if self.server.who_answers(host) is None or host == LOCAL:
            self.server.recorder.add(Request("CONNECT", host, "", self.path, {}, {}), 502)
            self.send_error(502, f"The twin does not stand for {host}")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        with self.server.context.wrap_socket(self.connection, server_side=True) as inside:
            _Inside(inside, self.client_address, self.server, host)
