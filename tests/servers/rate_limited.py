"""Servers that admit so many requests a second and answer 429 beyond: the rules alone, and one of them over real HTTP.

    with RateLimitedServer(TokenBucket(50), latency=0.05) as server:
        ...  # server.endpoint, server.admitted, server.refused, server.peak

A rule is told the time, so that the same rules serve tests in virtual time (tests/endpoint/test_limiter.py).
"""

from __future__ import annotations

import json
import math
import socket
import socketserver
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

__all__ = ["FixedWindow", "RateLimitedServer", "Rule", "SlidingWindow", "TokenBucket", "Told"]


class Rule(Protocol):
    """Attributes: rate: requests a second; it may be changed at any time."""

    rate: float

    def admit(self, now: float) -> float:
        """0 lets a request in; else the seconds until one would be."""

    def remaining(self) -> int:
        """How many would be let in now."""


class TokenBucket:
    def __init__(self, rate: float, seconds: float = 1.0) -> None:
        self.rate, self.seconds = rate, seconds
        self._tokens, self._at = rate * seconds, -math.inf

    def admit(self, now: float) -> float:
        burst = max(2.0, self.rate * self.seconds)
        self._tokens = min(burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1 - 1e-9:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate

    def remaining(self) -> int:
        return int(self._tokens)


class FixedWindow:
    def __init__(self, rate: float, seconds: float = 1.0) -> None:
        self.rate, self.seconds = rate, seconds
        self._window, self._count = -1, 0

    def admit(self, now: float) -> float:
        window = math.floor(now / self.seconds)
        if window != self._window:
            self._window, self._count = window, 0
        if self._count < self.rate * self.seconds:
            self._count += 1
            return 0.0
        return (window + 1) * self.seconds - now

    def remaining(self) -> int:
        return max(0, int(self.rate * self.seconds) - self._count)


class SlidingWindow:
    def __init__(self, rate: float, seconds: float = 1.0) -> None:
        self.rate, self.seconds = rate, seconds
        self._let_in: deque[float] = deque()

    def admit(self, now: float) -> float:
        while self._let_in and self._let_in[0] <= now - self.seconds:
            self._let_in.popleft()
        if len(self._let_in) < self.rate * self.seconds:
            self._let_in.append(now)
            return 0.0
        return self._let_in[0] + self.seconds - now

    def remaining(self) -> int:
        return max(0, int(self.rate * self.seconds) - len(self._let_in))


Told = Callable[[float], dict[str, str]]
"""The headers of a 429, by the seconds until the next request would be let in."""


def whole_seconds(wait: float) -> dict[str, str]:
    return {"retry-after": str(math.ceil(wait))}


COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
}
REFUSAL = {"error": {"code": "429", "message": "Requests are over the rate limit. Retry later."}}


class RateLimitedServer:
    """The server, as a context manager.

    Args:
        rule: who is let in.
        latency: seconds that an answer takes; a refusal takes none.
        told: the headers of a refusal.
        tell_remaining: send `x-ratelimit-remaining-requests` with every answer.
        text: of each answer, by the request's body.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        latency: float = 0.0,
        told: Told = whole_seconds,
        tell_remaining: bool = False,
        text: Callable[[Any], str] = lambda _body: "2",
    ) -> None:
        self.rule, self.latency, self.told, self.tell_remaining, self.text = rule, latency, told, tell_remaining, text
        self.admitted: list[float] = []  # seconds since the start
        self.refused: list[float] = []
        self.in_flight = self.peak = 0
        self.lock = threading.Lock()
        self.started = time.monotonic()
        self._tcp = _Tcp(self)
        self.endpoint = f"http://127.0.0.1:{self._tcp.server_address[1]}"
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> RateLimitedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tcp.shutdown()
        self._thread.join()
        self._tcp.hang_up()
        self._tcp.server_close()

    def reply(self, body: bytes) -> bytes:
        """The answer to a request that has just come in; it blocks for the latency."""
        with self.lock:
            now = time.monotonic() - self.started
            wait = self.rule.admit(now)
            (self.refused if wait else self.admitted).append(now)
            headers = {"x-ratelimit-remaining-requests": str(self.rule.remaining())} if self.tell_remaining else {}
            if not wait:
                self.in_flight += 1
                self.peak = max(self.peak, self.in_flight)
        if wait:
            return _response("429 Too Many Requests", REFUSAL, headers | self.told(wait))
        time.sleep(self.latency)
        with self.lock:
            self.in_flight -= 1
        message = {"role": "assistant", "content": self.text(json.loads(body))}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return _response("200 OK", COMPLETION | {"choices": choices}, headers)


def _response(status: str, value: Any, headers: dict[str, str]) -> bytes:
    content = json.dumps(value).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = False
    request_queue_size = 512

    def __init__(self, owner: RateLimitedServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Tcp

    def handle(self) -> None:
        with suppress(OSError):
            while self.rfile.readline():
                length = 0
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                self.wfile.write(self.server.owner.reply(self.rfile.read(length)))
