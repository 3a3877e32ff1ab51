"""A server on loopback that says byte by byte what a test tells it to, whatever HTTP says about it.

    with RawServer([OK, OK], [b"HTTP/1.1 200 OK\\r\\n"]) as server:

Each list is for one connection: its texts answer the requests that come, one each, and then the connection is closed.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

__all__ = ["OK", "RawServer"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawServer:
    """The server, as a context manager.

    Attributes:
        requests: the bytes of every request, in order.
        connections: how many have been accepted.
        closed: for each connection, set once the server has closed it.
    """

    def __init__(self, *answers: Sequence[bytes]) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = [threading.Event() for _ in answers]
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        for answers, closed in zip(self._answers, self.closed, strict=True):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, suppress(ConnectionError):
                for answer in answers:
                    if request := _request(connection):
                        self.requests.append(request)
                        connection.sendall(answer)
            closed.set()


def _request(connection: socket.socket) -> bytes:
    """One whole request, or nothing where the client has gone."""
    request = b""
    while b"\r\n\r\n" not in request or len(request.partition(b"\r\n\r\n")[2]) < _length(request):
        more = connection.recv(65536)
        if not more:
            return b""
        request += more
    return request


def _length(request: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", request)
    return int(found[1]) if found else 0
