"""A CONNECT proxy on loopback: it notes who asked for what, and leads nowhere but to this machine.

    with ConnectProxy(target=("127.0.0.1", 8443)) as proxy:
        os.environ["HTTPS_PROXY"] = proxy.url

With a target, every name leads there, so a test may ask for a host that only the proxy knows.
"""

from __future__ import annotations

import base64
import selectors
import socket
import socketserver
import threading
from contextlib import suppress
from types import TracebackType

__all__ = ["ConnectProxy"]


class ConnectProxy:
    """The proxy, as a context manager.

    Attributes:
        asked: the first line of every request, in order.
        tunnels: the host:port of every tunnel that was opened.
        authorizations: the Proxy-Authorization of every request, None where there was none.
    """

    def __init__(self, target: tuple[str, int] | None = None, credentials: tuple[str, str] | None = None) -> None:
        self.target = target
        self.expected = None
        if credentials:
            self.expected = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
        self.asked: list[str] = []
        self.tunnels: list[str] = []
        self.authorizations: list[str | None] = []
        self.stopping = threading.Event()
        self._server = _Server(self)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> ConnectProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, owner: ConnectProxy) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = 30

    def handle(self) -> None:
        owner = self.server.owner
        first = self.rfile.readline().decode("latin-1").strip()
        if not first:
            return
        headers: dict[str, str] = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        given = headers.get("proxy-authorization")
        owner.asked.append(first)
        owner.authorizations.append(given)
        method, _, rest = first.partition(" ")
        if owner.expected and given != owner.expected:
            self._say("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="loopback"\r\n')
        elif method != "CONNECT":
            self._say("405 Method Not Allowed")
        else:
            self._tunnel(rest.partition(" ")[0])

    def _tunnel(self, authority: str) -> None:
        host, _, port = authority.rpartition(":")
        target = self.server.owner.target or (host.strip("[]"), int(port))
        if target[0] not in ("127.0.0.1", "::1", "localhost"):
            self._say("403 Forbidden")
            return
        try:
            upstream = socket.create_connection(target, timeout=10)
        except OSError:
            self._say("502 Bad Gateway")
            return
        with upstream:
            self.server.owner.tunnels.append(authority)
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with suppress(OSError):
                self._pump(upstream)

    def _pump(self, upstream: socket.socket) -> None:
        """Bytes both ways, until either side ends or the proxy stops."""
        others = {self.connection: upstream, upstream: self.connection}
        with selectors.DefaultSelector() as selector:
            for side in others:
                selector.register(side, selectors.EVENT_READ, side)
            while not self.server.owner.stopping.is_set():
                for key, _ in selector.select(0.05):
                    content = key.data.recv(65536)
                    if not content:
                        return
                    others[key.data].sendall(content)

    def _say(self, status: str, headers: str = "") -> None:
        with suppress(OSError):
            self.wfile.write(f"HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
