"""The endpoint: a socket on loopback, a thread for every connection, and an orderly end.

The engine decides how many answers are made at once; what a connection says is handler.py's business.
"""

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
from types import TracebackType
from typing import Any, Self

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.serve.chat import Engine
from mmlu_pipe.serve.handler import Handler

__all__ = ["HOST", "Endpoint", "Listener", "Served"]

HOST = "127.0.0.1"
GRACE_S = 10.0
"""How long answers that are being sent may take to end once the server stops."""

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


class Endpoint:
    """The listening socket and its threads.

    The port is taken at once, so that nobody waits for a model to load only to learn that the port is not free;
    connections are accepted after `start`.

    Raises:
        ConfigError: the port cannot be had.
    """

    def __init__(self, port: int = 0) -> None:
        try:
            self._listener = Listener(port)
        except OSError as error:
            raise ConfigError(
                f"--port {port}: cannot be listened on ({error.strerror}); stop what uses it, or choose another: 0 "
                "takes a free one",
                key="port",
            ) from error
        self.port = int(self._listener.server_address[1])
        self.url = f"http://{HOST}:{self.port}"
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, engine: Engine, served: Served, key: str) -> None:
        """Accept connections and answer them by the engine."""
        self._listener.serve(engine, served, key)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.1,), name="serve", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, cancel those under way, and wait for their threads."""
        self._listener.stopping.set()
        if self._thread is not None:
            self._listener.shutdown()
            self._thread.join()
            self._thread = None
        self._listener.hang_up(socket.SHUT_RD)  # wakes connections that wait; the others still send their last words
        last_resort = threading.Timer(GRACE_S, self._listener.hang_up, (socket.SHUT_RDWR,))
        last_resort.daemon = True
        last_resort.start()
        self._listener.server_close()
        last_resort.cancel()


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

    def __init__(self, port: int) -> None:
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((HOST, port), Handler, bind_and_activate=False)
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
