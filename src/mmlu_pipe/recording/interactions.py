"""One interaction of a cassette in vcrpy's format: written by us, or read from whoever recorded it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from mmlu_pipe.recording.identity import request_hash
from mmlu_pipe.records import JsonObject

__all__ = ["UNREADABLE", "Exchange", "read_interaction"]

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""What read_interaction raises."""


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its response, already scrubbed."""

    uri: str
    request_body: str
    status: int
    reason: str
    content_type: str
    response_body: str

    @property
    def identity(self) -> str:
        """Hash of what the request means."""
        body = json.loads(self.request_body)
        return request_hash(body, str(body.get("model")))

    def to_item(self, occurrence: int | None = None) -> JsonObject:
        """The exchange as an interaction of vcrpy's format."""
        item: JsonObject = {
            "request": {"body": self.request_body, "headers": {}, "method": "POST", "uri": self.uri},
            "response": {
                "body": {"string": self.response_body},
                "headers": {"Content-Type": [self.content_type]},
                "status": {"code": self.status, "message": self.reason},
            },
        }
        return item if occurrence is None else {"occurrence": occurrence} | item


def read_interaction(item: Any) -> tuple[Exchange, int | None] | None:
    """Read a chat completion, and its occurrence where it says one; None for a whole interaction of anything else.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, RecursionError: the item is no interaction of vcrpy's format.
    """
    occurrence = item.get("occurrence")
    if occurrence is not None and (type(occurrence) is not int or occurrence < 0):
        raise TypeError("occurrence is no number")
    request, response = item["request"], _response(item["response"])
    method, uri, sent = _text(request["method"]), _text(request["uri"]), request["body"]
    code, reason = int(response["status"]["code"]), _text(response["status"].get("message") or "")
    if method.upper() != "POST" or not urlsplit(uri).path.rstrip("/").endswith("/chat/completions"):
        return None
    body = _body(sent, request["headers"])
    if not isinstance(json.loads(body)["messages"], list):
        raise TypeError("no messages")
    content_type = _header(response["headers"], "content-type") or "application/json"
    answer = _body(response["body"]["string"], response["headers"])
    return Exchange(uri, body, code, reason, content_type, answer), occurrence


def _response(value: Any) -> Any:
    """A response; vcrpy before 6 had a form of its own for httpx."""
    if "status_code" not in value:
        return value
    return {"status": {"code": value["status_code"]}, "headers": value["headers"], "body": {"string": value["content"]}}


def _header(headers: Mapping[str, Any], name: str) -> str:
    """The first value of a header, which may stand alone or in a list; empty where there is none."""
    found = {key.lower(): value for key, value in headers.items()}.get(name) or ""
    return _text(found[0] if isinstance(found, list) else found)


def _body(value: Any, headers: Mapping[str, Any]) -> str:
    """A body as text; bytes are decompressed unless they were before they were recorded, as vcrpy may be told to do."""
    if isinstance(value, BytesIO):
        value = value.getvalue()
    elif isinstance(value, Iterator):  # a body that was sent piece by piece
        value = b"".join(value)
    if isinstance(value, bytes) and (encoding := _header(headers, "content-encoding")):
        import httpx2

        with suppress(httpx2.DecodingError):
            value = httpx2.Response(200, headers={"content-encoding": encoding}, content=value).content
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
