"""The endpoint: a socket on loopback, a thread for every connection, and an orderly end.

The engine decides how many answers are made at once; what a connection says is handler.py's business.
"""

from __future__ import annotations

import logging
import socket
import threading
from types import TracebackType
from typing import Self

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.serve.chat import Engine
from mmlu_pipe.serve.handler import Handler
from mmlu_pipe.serve.listener import HOST, Listener, Served

__all__ = ["Endpoint"]

GRACE_S = 10.0
"""How long answers that are being sent may take to end once the server stops."""

_log = logging.getLogger("mmlu_pipe.serve")


class Endpoint:
    """The listening socket and its threads.

    The port is taken at once, so that nobody waits for a model to load only to learn that the port is not free;
    connections are accepted after `start`.

    Raises:
        ConfigError: the port cannot be had.
    """

    def __init__(self, port: int = 0) -> None:
        try:
            self._listener = Listener(port, Handler)
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
