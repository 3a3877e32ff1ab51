"""Hosts that another server on loopback stands for: blob storage, or a replayed endpoint."""

from __future__ import annotations

import http.client
from collections.abc import Callable

from mmlu_pipe.rehearsal.exchange import Refusal, Reply, Request

__all__ = ["forward", "loopback"]

_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "date"}

Connect = Callable[[], http.client.HTTPConnection]


def loopback(port: int) -> Connect:
    """New connections to a plain HTTP server on this machine."""
    return lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=300)


def forward(connect: Connect) -> Callable[[Request], Reply]:
    """Answer a host's requests by those of another server; the request is handed on as it came."""

    def answer(request: Request) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        headers["host"] = request.host
        if request.body or request.method in ("PUT", "POST", "PATCH"):
            headers["content-length"] = str(len(request.body))
        connection = connect()
        try:
            connection.request(request.method, request.target, request.body or None, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Refusal(502, "BadGateway", f"The server behind {request.host} did not answer: {error!r}") from None
        finally:
            connection.close()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
        if request.method == "HEAD" and (length := response.getheader("Content-Length")):
            kept["content-length"] = length  # of the body that a GET would have
        return Reply(response.status, content, {"content-type": "application/octet-stream"} | kept)

    return answer
