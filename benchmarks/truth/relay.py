"""Between clients and the server: what each run asked, byte for byte, and what it was answered.

A request that a run sent before it was broken off is answered from its file, and the server is not asked again.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 3600


class Relay(ThreadingHTTPServer):
    """Listens on loopback, hands requests on to `upstream`, and keeps them in `file`."""

    daemon_threads = True

    def __init__(self, port: int, upstream: str, file: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.upstream = urlsplit(upstream).netloc
        self.file = file
        self.known = {each["body"]: each["reply"] for each in exchanges(file)}
        self.lock = threading.Lock()

    def keep(self, body: str, reply: str) -> None:
        with self.lock, self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"body": body, "reply": reply}) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, reply = 200, self.server.known.get(body.decode(), "").encode()
        if not reply:
            status, reply = self._asked(body)
            if status == 200:
                self.server.keep(body.decode(), reply.decode())
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def _asked(self, body: bytes) -> tuple[int, bytes]:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=PATIENCE_S)
        headers = {name: value for name, value in self.headers.items() if name.lower() in ("api-key", "authorization")}
        try:
            upstream.request("POST", self.path, body, headers | {"Content-Type": "application/json"})
            found = upstream.getresponse()
            return found.status, found.read()
        finally:
            upstream.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def relay(port: int, upstream: str, file: Path) -> Iterator[str]:
    """The address of a relay at `port` (0: a free one)."""
    with Relay(port, upstream, file) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def exchanges(file: Path) -> list[dict[str, str]]:
    """What a relay kept: `body` and `reply` of each request, in their order."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
