"""Drills of the control plane and of the network: what the twin answers instead of its own answer, and how often."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mmlu_pipe.rehearsal.exchange import Refusal, Reply, Request

__all__ = ["Cut", "Fault", "Faults", "conflict", "cut", "expired_token", "server_error", "too_many_requests"]


@dataclass(frozen=True)
class Cut:
    """The connection is closed without an answer, after about half of the request's body."""


@dataclass(frozen=True)
class Fault:
    """What happens to the requests that match.

    Attributes:
        method: of HTTP, or `*`.
        route: a pattern of `fnmatch` for `Request.route`, such as `components/?/versions/?` or `jobs/*`.
        answer: what is answered, or `Cut`.
        times: how many requests it happens to; None for all.
        after: how many matching requests are answered as always before it begins.
    """

    method: str
    route: str
    answer: Reply | Cut
    times: int | None = 1
    after: int = 0


@dataclass
class Faults:
    """The faults of one twin; may be changed while it runs."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _set: list[tuple[Fault, list[int]]] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Let it happen from the next matching request on."""
        with self._lock:
            self._set.append((fault, [0]))

    def clear(self) -> None:
        """Let nothing happen any more."""
        with self._lock:
            self._set.clear()

    def take(self, request: Request) -> Reply | Cut | None:
        """What happens to this request; counts it."""
        with self._lock:
            for fault, seen in self._set:
                if fault.method not in ("*", request.method) or not fnmatchcase(request.route, fault.route):
                    continue
                seen[0] += 1
                if seen[0] > fault.after and (fault.times is None or seen[0] <= fault.after + fault.times):
                    return fault.answer
        return None


def _refuse(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Refusal(status, code, message, headers).reply


def expired_token(method: str, route: str, times: int | None = 1) -> Fault:
    """401, as for a token past its time."""
    message = "The access token expiry UTC time is earlier than current UTC time."
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="The access token has expired."'}
    return Fault(method, route, _refuse(401, "ExpiredAuthenticationToken", message, challenge), times)


def conflict(method: str, route: str, times: int | None = 1) -> Fault:
    """409, as for a resource that something else is changing."""
    return Fault(method, route, _refuse(409, "Conflict", "Another operation is in progress on this resource."), times)


def too_many_requests(method: str, route: str, times: int | None = 1, retry_after_s: int = 1) -> Fault:
    """429 with `Retry-After`."""
    headers = {"Retry-After": str(retry_after_s)}
    return Fault(method, route, _refuse(429, "TooManyRequests", "The request was throttled.", headers), times)


def server_error(method: str, route: str, times: int | None = 1, status: int = 500) -> Fault:
    """An error of the service itself."""
    return Fault(method, route, _refuse(status, "ServiceError", "InternalServerError"), times)


def cut(method: str, route: str, times: int | None = 1, after: int = 0) -> Fault:
    """The connection breaks in mid-request: an upload is cut, or a stream is lost."""
    return Fault(method, route, Cut(), times, after)
