"""What goes over the wire, as the parts of the twin see it: one request, one reply, and what is kept of both."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Json", "Recorded", "Recorder", "Refusal", "Reply", "Request", "route_of"]

Json = dict[str, Any]

_WORKSPACE = re.compile(
    r"(?i)/subscriptions/[^/]+/(?:resourceGroups/[^/]+/)?(?:providers/[^/]+/)?(?:workspaces/[^/]+/?)?"
)
_REGISTRY_OR_LOCATION = re.compile(r"(?i)(/(?:registries|locations)/)[^/]+")
_NAMED = re.compile(
    r"(?i)\b(codes|components|computes|data|datastores|environments|experiments|jobs|mfeOperationResults|models|runs"
    r"|tempdatarefs|versions)/[^/]+"
)
_MLFLOW = "api/2.0/mlflow/"
"""Below it, `runs/get` is a call, and no run that is called `get`."""
_NOT_KEPT = 1_000_000
"""Bodies above this many bytes are counted and not kept."""


def route_of(host: str, path: str) -> str:
    """A path without what differs between two workspaces or two runs: `components/*/versions/*`.

    Paths outside a workspace keep their parts; a blob is `blob/*/*`, a container `blob/*`.
    """
    if ".blob." in host:
        container, _, name = path.strip("/").partition("/")
        return "blob/*/*" if name else f"blob/{'*' if container else ''}"
    cut = _REGISTRY_OR_LOCATION.sub(r"\1*", _WORKSPACE.sub("/workspace/", path))
    prefix, found, rest = cut.partition("/workspace/")
    if not found:
        return cut.strip("/")
    if not rest.startswith(_MLFLOW):
        rest = _NAMED.sub(r"\1/*", rest)
    return "/".join(part for part in (prefix.strip("/"), rest.strip("/")) if part) or "workspace"


@dataclass(frozen=True)
class Request:
    """One request, read whole.

    Attributes:
        method: such as `GET`.
        host: lower case, without port.
        path: decoded, without query.
        target: as sent, with query.
        query: the last value of every parameter.
        headers: by name in lower case.
        body: all of it.
    """

    method: str
    host: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def route(self) -> str:
        """The path without names; see `route_of`."""
        return route_of(self.host, self.path)

    def json(self) -> Json:
        """The body as a JSON object.

        Raises:
            Refusal: it is none.
        """
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Refusal(400, "BadRequest", "The request body is no JSON object.")
        return value


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        status: of HTTP.
        body: JSON, or bytes with a content type among the headers; None for no body at all.
        headers: beside those that every answer has.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """The body as sent."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, ensure_ascii=False).encode()


class Refusal(Exception):
    """An error answer in the shape of Azure Resource Manager and AzureML.

    Attributes:
        reply: the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        error: Json = {"code": code, "message": message, "target": None, "details": [], "additionalInfo": []}
        self.reply = Reply(status, {"error": error}, headers or {})


@dataclass(frozen=True)
class Recorded:
    """What is kept of a request and its answer. Headers are not, so no credential is.

    Attributes:
        method: such as `PUT`.
        host: whom it was for.
        path: whole, decoded, without query.
        route: the path without names.
        body: JSON as sent, where it was JSON; None for anything else.
        size: bytes of the body.
        status: of the answer; 0 where the connection was cut.
    """

    method: str
    host: str
    path: str
    route: str
    body: Any
    size: int
    status: int


class Recorder:
    """Every request in the order in which it was answered; safe to read while requests arrive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Recorded] = []

    def add(self, request: Request, status: int) -> None:
        """Keep one exchange. Bodies of token requests are left out: they hold secrets."""
        body: Any = None
        is_json = "json" in request.headers.get("content-type", "")
        if is_json and len(request.body) <= _NOT_KEPT:
            try:
                body = json.loads(request.body)
            except ValueError:
                body = None
        kept = Recorded(request.method, request.host, request.path, request.route, body, len(request.body), status)
        with self._lock:
            self._kept.append(kept)

    def __iter__(self) -> Iterator[Recorded]:
        with self._lock:
            return iter(list(self._kept))

    def __len__(self) -> int:
        return len(self._kept)
