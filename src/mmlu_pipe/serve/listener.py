"""The socket on loopback as its connections see it: what answers, what it is called, and who is let in."""

from __future__ import annotations

import hmac
import logging
import os
import socket
import socketserver
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mmlu_pipe.serve.chat import Engine

__all__ = ["HOST", "Listener", "Served"]

HOST = "127.0.0.1"

_log = logging.getLogger("mmlu_pipe.serve")


@dataclass(frozen=True)
class Served:
    """What clients see of the model.

    Attributes:
        model: its name.
        deployment: the name it is asked under.
        system_fingerprint: of its weights.
    """

    model: str
    deployment: str
    system_fingerprint: str


class Listener(socketserver.ThreadingTCPServer):
    """The server as its connections see it.

    Attributes:
        engine: what answers.
        served: what it is called.
        stopping: set once no answer is wanted any more.
    """

    allow_reuse_address = os.name == "posix"  # elsewhere it would share the port with another server
    request_queue_size = 128
    daemon_threads = False

    engine: Engine
    served: Served
    _key: bytes

    def __init__(self, port: int, handler: type[socketserver.BaseRequestHandler]) -> None:
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((HOST, port), handler, bind_and_activate=False)
        try:
            self.server_bind()
        except OSError:
            self.server_close()
            raise

    def serve(self, engine: Engine, served: Served, key: str) -> None:
        """Begin to accept connections."""
        self.engine, self.served, self._key = engine, served, key.encode()
        self.server_activate()

    def lets_in(self, given: str) -> bool:
        """Whether a client has the key."""
        return hmac.compare_digest(given.encode(), self._key)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and know it from then on."""
        request, address = super().get_request()
        with self._lock:
            self._open.add(request)
        return request, address

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection, and close it."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self, how: int) -> None:
        """Shut down every open connection, one way or both."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # it may be gone already
                    connection.shutdown(how)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks concerns no other; what is no broken connection is logged."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            _log.exception("a connection failed; the server goes on")
