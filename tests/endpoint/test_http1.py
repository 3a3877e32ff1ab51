"""Answers of HTTP/1.1, in pieces of any size; the standard library reads them too, and says the same."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable, Iterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.endpoint.http1 import MAX_HEAD, read_answer

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True).map(lambda name: f"X-{name}")
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
BODIES = st.binary(max_size=300)


def pieces(content: bytes, sizes: list[int]) -> Callable[[int], bytes]:
    """What a connection gives: the content in pieces of these sizes, again and again, and then nothing."""

    def cut() -> Iterator[bytes]:
        start = 0
        while start < len(content):
            for size in sizes:
                yield content[start : start + size]
                start += size

    parts = (part for part in cut() if part)
    return lambda _most: next(parts, b"")


def read(content: bytes, sizes: list[int] | None = None):
    return read_answer(pieces(content, sizes or [65_536]))


class Socket:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.content)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=6))
    body = draw(BODIES)
    way = draw(st.sampled_from(("length", "chunked", "end")))
    lines = [f"HTTP/1.1 {draw(st.sampled_from((200, 201, 307, 400, 429, 503)))} Reason", *map(": ".join, headers)]
    if draw(st.booleans()):
        lines.append(f"Connection: {draw(st.sampled_from(('close', 'keep-alive', 'Close')))}")
    if way == "length":
        lines.append(f"Content-Length: {len(body)}")
    if way == "chunked":
        lines.append("Transfer-Encoding: chunked")
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
        chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"
    before = draw(st.sampled_from(("", "HTTP/1.1 100 Continue\r\n\r\n")))
    return (before + "\r\n".join(lines) + "\r\n\r\n").encode() + body


@given(answers(), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_the_standard_library_reads_the_same(content: bytes, sizes: list[int]) -> None:
    found = read(content, sizes)
    with http.client.HTTPResponse(Socket(content), method="POST") as theirs:
        theirs.begin()
        assert found.content == theirs.read()
        assert (found.status, found.reason.decode()) == (theirs.status, theirs.reason)
        assert [(name.decode(), value.decode()) for name, value in found.headers] == theirs.getheaders()
        assert found.keeps is not theirs.will_close


@given(answers().filter(lambda content: b"Content-Length" in content or b"chunked" in content), st.data())
def test_a_cut_answer_is_never_taken_for_a_whole_one(content: bytes, data: st.DataObject) -> None:
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    with pytest.raises(httpx2.RemoteProtocolError, match="the connection was closed"):
        read(cut)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_an_error_of_the_protocol(content: bytes) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        read(b"HTTP/2 " + content + b"\r\n\r\n")
    with pytest.raises(httpx2.RemoteProtocolError):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD,
    ],
)
def test_what_is_no_http_is_said_so(content: bytes) -> None:
    with pytest.raises(httpx2.RemoteProtocolError, match=r"the answer|chunk"):
        read(content)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head(status: int) -> None:
    found = read(b"HTTP/1.1 %d None\r\n\r\n" % status)
    assert (found.status, found.content, found.keeps) == (status, b"", True)


def test_interim_answers_are_passed_over() -> None:
    found = read(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")
    assert (found.status, found.reason, found.headers, found.content) == (200, b"", [(b"Content-Length", b"2")], b"ok")


def test_lines_may_end_in_line_feeds_alone() -> None:
    assert read(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok").content == b"ok"


def test_trailers_are_read_and_dropped() -> None:
    found = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert (found.content, found.keeps, len(found.headers)) == (b"ok", True, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_no_answer(content):
    pieces = iter([content])
    with pytest.raises(httpx2.RemoteProtocolError):
        read_answer(lambda _count: next(pieces, b""))


def test_a_connection_that_says_close_anywhere_is_not_kept():
    content = b"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
    pieces = iter([content])
    assert read_answer(lambda _count: next(pieces, b"")).keeps is False
