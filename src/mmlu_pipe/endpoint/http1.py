"""One answer of HTTP/1.1, read from a connection (pure but for its one way to get bytes).

Source: RFC 9112, sections 4 to 7. The standard library reads the same, but its headers through the email package, which
costs more than sending a request and receiving the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

__all__ = ["Answer", "read_answer"]

MAX_HEAD = 100_000
"""Bytes of a head, of a chunk's size or of trailers; more is no HTTP."""

_RECEIVED = 65_536
_STATUS = re.compile(rb"HTTP/1\.(?P<minor>[01]) (?P<status>[1-9][0-9]{2})(?: (?P<reason>.*))?")
_HEADER = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):(?P<value>[^\0\r\n]*)")
_CHUNK = re.compile(rb"(?P<size>[0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class Answer:
    """An answer with its whole body; `keeps` is whether another request may follow on the connection."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    content: bytes
    keeps: bool


def read_answer(receive: Callable[[int], bytes]) -> Answer:
    """Read the answer to a request whose method is not HEAD or CONNECT; interim answers (1xx) are passed over.

    Args:
        receive: gives the next bytes, so many at most, and none where the connection was closed.

    Raises:
        httpx2.RemoteProtocolError: it is cut, or no HTTP/1.1.
    """
    inflow = _Inflow(receive)
    start, headers = _head(inflow)
    status = int(start["status"])
    known: dict[bytes, bytes] = {}
    for name, value in headers:  # one that comes again adds to the first (RFC 9110, section 5.3)
        known[name.lower()] = known[name.lower()] + b", " + value if name.lower() in known else value
    keeps = start["minor"] == b"1" and b"close" not in known.get(b"connection", b"").lower()
    coding, length = known.get(b"transfer-encoding"), known.get(b"content-length")
    if status in (204, 304):
        content = b""
    elif coding is not None:
        if coding.lower() != b"chunked":
            raise httpx2.RemoteProtocolError(f"the answer has an unknown transfer coding: {coding[:40]!r}")
        content = _chunks(inflow)
    elif length is not None:
        if not (length.isdigit() and len(length) < 19):
            raise httpx2.RemoteProtocolError(f"the answer's length is no number: {length[:40]!r}")
        content = inflow.exactly(int(length))
    else:
        content, keeps = inflow.to_the_end(), False
    return Answer(status, start["reason"] or b"", headers, content, keeps and inflow.is_empty)


class _Inflow:
    """Bytes as they come, cut where the protocol cuts them."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._bytes = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether all that has come was taken."""
        return not self._bytes

    def until(self, mark: re.Pattern[bytes]) -> bytes:
        """The bytes before a mark, which is taken too."""
        while (found := mark.search(self._bytes)) is None:
            if len(self._bytes) > MAX_HEAD:
                raise httpx2.RemoteProtocolError("the answer's head has no end")
            self._more()
        before = bytes(self._bytes[: found.start()])
        end = found.end()
        del found  # it holds the bytes, which cannot shrink as long
        del self._bytes[:end]
        return before

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._bytes) < size:
            self._more()
        found = bytes(self._bytes[:size])
        del self._bytes[:size]
        return found

    def to_the_end(self) -> bytes:
        """All bytes until the connection is closed."""
        while more := self._receive(_RECEIVED):
            self._bytes += more
        return self.exactly(len(self._bytes))

    def _more(self) -> None:
        more = self._receive(_RECEIVED)
        if not more:
            cut = "before the answer's end" if self._bytes else "without an answer"
            raise httpx2.RemoteProtocolError(f"the connection was closed {cut}")
        self._bytes += more


def _head(inflow: _Inflow) -> tuple[re.Match[bytes], list[tuple[bytes, bytes]]]:
    """The status line and the headers of the final answer."""
    while True:
        start, *lines = inflow.until(_HEAD_END).splitlines() or [b""]
        found = _STATUS.fullmatch(start)
        if found is None:
            raise httpx2.RemoteProtocolError(f"the answer is no HTTP/1.1: {start[:40]!r}")
        if not found["status"].startswith(b"1"):
            return found, [_header(line) for line in lines]


def _header(line: bytes) -> tuple[bytes, bytes]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise httpx2.RemoteProtocolError(f"the answer has a line that is no header: {line[:40]!r}")
    return found["name"], found["value"].strip(b" \t")


def _chunks(inflow: _Inflow) -> bytes:
    """A chunked body; what follows it is read and dropped."""
    parts = []
    while size := _chunk_size(inflow):
        parts.append(inflow.exactly(size))
        if inflow.until(_LINE_END):
            raise httpx2.RemoteProtocolError("a chunk of the answer is longer than it says")
    while inflow.until(_LINE_END):
        pass
    return b"".join(parts)


def _chunk_size(inflow: _Inflow) -> int:
    line = inflow.until(_LINE_END)
    found = _CHUNK.fullmatch(line)
    if found is None:
        raise httpx2.RemoteProtocolError(f"the answer has no size of a chunk: {line[:40]!r}")
    return int(found["size"], 16)
