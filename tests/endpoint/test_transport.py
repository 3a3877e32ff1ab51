"""The transport: when a connection is used again, when it is not, and what is never sent twice."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import pytest

from mmlu_pipe.endpoint import transport as module
from mmlu_pipe.endpoint.transport import DirectTransport
from tests.servers.raw import OK, RawServer


@pytest.fixture
def transport() -> Iterator[DirectTransport]:
    made = DirectTransport(ssl.create_default_context(), 4)
    yield made
    made.close()


def ask(transport: DirectTransport, url: str, content: bytes = b"?", read: float = 30.0) -> httpx2.Response:
    timeout = {"connect": 5.0, "read": read}
    request = httpx2.Request("POST", f"{url}/a?b=c", content=content, extensions={"timeout": timeout})
    response = transport.handle_request(request)
    response.read()
    return response


def test_a_request_is_sent_as_it_is_and_the_answer_given_back(transport: DirectTransport) -> None:
    answer = b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\nX-One: 1\r\nX-One: 2\r\n\r\ntea"
    with RawServer([answer]) as server:
        response = ask(transport, server.url, b"water")
        host = server.url.removeprefix("http://").encode()
        assert server.requests == [b"POST /a?b=c HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 5\r\n\r\nwater"]
    assert (response.status_code, response.reason_phrase, response.content) == (418, "I'm a teapot", b"tea")
    assert response.headers.multi_items() == [("content-length", "3"), ("x-one", "1"), ("x-one", "2")]


def test_one_connection_serves_one_request_after_the_other(transport: DirectTransport) -> None:
    with RawServer([OK] * 3) as server:
        assert [ask(transport, server.url).content for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 1


def test_a_connection_that_the_server_closed_while_it_was_idle_is_replaced_before_anything_is_sent(
    transport: DirectTransport,
) -> None:
    with RawServer([OK], [OK]) as server:
        ask(transport, server.url)
        assert server.closed[0].wait(10)
        assert ask(transport, server.url).content == b"ok"
        assert (server.connections, len(server.requests)) == (2, 2)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_a_request_that_was_sent_is_never_sent_again(answer: bytes, transport: DirectTransport) -> None:
    with RawServer([OK, answer], [OK]) as server:
        ask(transport, server.url)
        with pytest.raises(httpx2.RemoteProtocolError, match="the connection was closed"):
            ask(transport, server.url)
        assert len(server.requests) == 2
        assert ask(transport, server.url).content == b"ok"
        assert server.connections == 2


def test_a_connection_reset_after_the_request_is_a_failure_and_not_a_second_request(transport: DirectTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            connection, _ = listener.accept()
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        with pytest.raises(httpx2.NetworkError):
            ask(transport, f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(10)


def test_a_connection_that_was_idle_for_too_long_is_not_used_again(
    transport: DirectTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer([OK, OK], [OK]) as server:
        ask(transport, server.url)
        monkeypatch.setattr(module, "IDLE_S", 0.0)
        ask(transport, server.url)
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", id="close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", id="HTTP/1.0"),
        pytest.param(OK + b"HTTP/1.1 200 OK\r\n", id="more than was asked for"),
    ],
)
def test_a_connection_whose_answer_does_not_allow_another_request_is_closed(
    answer: bytes, transport: DirectTransport
) -> None:
    with RawServer([answer, OK], [OK]) as server:
        assert ask(transport, server.url).content == b"ok"
        assert ask(transport, server.url).content == b"ok"
        assert server.connections == 2


def test_no_more_connections_are_open_than_were_allowed(transport: DirectTransport) -> None:
    with RawServer(*[[OK] * 40] * 40) as server, ThreadPoolExecutor(16) as pool:
        one_at_a_time = DirectTransport(ssl.create_default_context(), 1)
        answers = list(pool.map(lambda _: ask(one_at_a_time, server.url).content, range(40)))
        one_at_a_time.close()
        assert answers == [b"ok"] * 40
        assert server.connections == 1


def test_a_compressed_answer_is_unpacked(transport: DirectTransport) -> None:
    packed = gzip.compress(b"answer")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with RawServer([head + packed]) as server:
        assert ask(transport, server.url).content == b"answer"


def test_an_answer_that_does_not_come_is_a_timeout(transport: DirectTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(httpx2.ReadTimeout):
        ask(transport, f"http://127.0.0.1:{silent.getsockname()[1]}", read=0.05)


def test_a_server_that_is_not_there_is_a_connect_error(transport: DirectTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(httpx2.ConnectError, match="refused"):
        ask(transport, f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
def test_a_header_with_a_line_break_is_never_sent(value: str, transport: DirectTransport) -> None:
    with RawServer([OK]) as server:
        request = httpx2.Request("POST", server.url, headers={"authorization": value}, content=b"?")
        with pytest.raises(httpx2.LocalProtocolError):
            transport.handle_request(request)
        assert server.requests == []


def test_a_closed_transport_keeps_no_connection(transport: DirectTransport) -> None:
    with RawServer([OK, OK], [OK, OK]) as server:
        ask(transport, server.url)
        transport.close()
        assert server.closed[0].wait(10)
        assert ask(transport, server.url).content == b"ok"  # an answer under way still comes
        assert server.closed[1].wait(10)


def test_an_answer_that_comes_before_the_request_was_read_is_the_answer(transport: DirectTransport) -> None:
    """A gateway that takes no large bodies says so, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                connection.shutdown(socket.SHUT_WR)
                with suppress(OSError):
                    while connection.recv(1 << 20):
                        pass

        server = threading.Thread(target=serve)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert ask(transport, url, b"x" * 8_000_000).status_code == 413
        transport.close()
        server.join()


def test_a_host_that_is_no_name_is_a_connect_error(transport: DirectTransport) -> None:
    for host in ("my..azure.com", "a" * 70 + ".azure.com"):
        with pytest.raises(httpx2.ConnectError):
            ask(transport, f"http://{host}/")
