"""Connections to one host, kept open: an httpx2 transport for many threads.

httpx2's own looks at all its connections for every request, under one lock; with many threads that costs more than the
rest of a call.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from mmlu_pipe.endpoint.http1 import read_answer

__all__ = ["DirectTransport"]

IDLE_S = 60.0
"""A connection that was idle for longer is not used again: what lies between may have forgotten it silently."""


class DirectTransport(httpx2.BaseTransport):
    """Sends each request over a connection of its own, with no proxy between; safe to share between threads.

    A connection that the server has closed while it was idle is found out before anything is sent, and another one is
    opened. Once a request is on its way it is never sent twice: whether it may be is for the caller to know.

    Args:
        trust: how https is verified.
        connections: connections at once, at most; more threads wait.
    """

    def __init__(self, trust: ssl.SSLContext, connections: int) -> None:
        trust.set_alpn_protocols(["http/1.1"])
        self._trust = trust
        self._free = threading.Semaphore(connections)
        self._idle: deque[_Connection] = deque()
        self._closed = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and read its whole response.

        Raises:
            httpx2.TransportError: there is none; the connection is closed.
        """
        with self._free:
            connection = self._kept() or _Connection(request, self._trust)
            try:
                response = connection.ask(request)
            except BaseException:
                connection.close()
                raise
            if connection.reusable:
                self._idle.append(connection)
            else:
                connection.close()
        if self._closed:
            self.close()
        return response

    def close(self) -> None:
        """Close the idle connections, and each of the others when its answer has come."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> _Connection | None:
        """The connection that was used last and is still good; those that are not are closed."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_good():
                return connection
            connection.close()


class _Connection:
    """One open connection, for one request at a time."""

    def __init__(self, request: httpx2.Request, trust: ssl.SSLContext) -> None:
        timeout = request.extensions.get("timeout", {})
        host, port = request.url.raw_host.decode(), request.url.port
        opened = (
            http.client.HTTPSConnection(host, port or 443, timeout=timeout.get("connect"), context=trust)
            if request.url.scheme == "https"
            else http.client.HTTPConnection(host, port or 80, timeout=timeout.get("connect"))
        )
        with _told_as(httpx2.ConnectTimeout, httpx2.ConnectError, request):
            opened.connect()
        self._socket: socket.socket = opened.sock
        self._socket.settimeout(timeout.get("read"))
        self._used = 0.0
        self.reusable = True

    def ask(self, request: httpx2.Request) -> httpx2.Response:
        headers = request.headers.raw
        head = b"%s %s HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)
        head += b"".join([b"%s: %s\r\n" % header for header in headers])
        if not head.count(b"\r") == head.count(b"\n") == len(headers) + 1:
            raise httpx2.LocalProtocolError("a header holds a line break", request=request)
        unsent: httpx2.WriteError | None = None
        try:
            with _told_as(httpx2.WriteTimeout, httpx2.WriteError, request):
                self._socket.sendall(head + b"\r\n" + request.read())
        except httpx2.WriteError as error:
            unsent = error  # it may have answered, and closed, before it had read all
        try:
            with _told_as(httpx2.ReadTimeout, httpx2.ReadError, request):
                answer = read_answer(self._socket.recv)
        except httpx2.TransportError as error:
            raise unsent or error from error
        self._used = time.monotonic()
        self.reusable = answer.keeps and unsent is None
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=httpx2.ByteStream(answer.content),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason},
        )

    def is_good(self) -> bool:
        """Whether nothing came since the last answer; what comes unasked is the end, or cannot be understood."""
        return time.monotonic() - self._used < IDLE_S and not _readable(self._socket)

    def close(self) -> None:
        self._socket.close()


def _readable(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _told_as(
    timeout: type[httpx2.TransportError], failure: type[httpx2.TransportError], request: httpx2.Request
) -> Iterator[None]:
    """Failures of the standard library as those of httpx2, which the SDK's own are made of."""
    try:
        yield
    except TimeoutError as error:
        raise timeout(str(error), request=request) from error
    except (OSError, UnicodeError, OverflowError) as error:  # UnicodeError: a host with an empty or too long label
        raise failure(str(error), request=request) from error
