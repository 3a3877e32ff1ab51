"""What of an exchange may be kept: an allow-list, not a list of things to remove."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from mmlu_pipe.errors import SecretInCassette
from mmlu_pipe.records import JsonObject

__all__ = ["refuse_secrets", "scrub_request_body", "scrub_response_body", "scrub_uri"]

PLACEHOLDER_HOST = "aoai.invalid"
PLACEHOLDER_DEPLOYMENT = "DEPLOYMENT"

# An unescaped "id" key cannot stand inside a JSON string, so a model's text is never touched.
_RESPONSE_ID = re.compile(r'("id"\s*:\s*")chatcmpl-[^"]*(")')
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}")
_DEPLOYMENT = re.compile(r"(/openai/deployments/)[^/]+")
_DROPPED_FIELDS = ("user", "metadata", "safety_identifier")


def scrub_uri(uri: str) -> str:
    """The URI without host, gateway path and deployment name; the API version stays."""
    parts = urlsplit(uri)
    start = parts.path.find("/openai/")
    path = _DEPLOYMENT.sub(rf"\g<1>{PLACEHOLDER_DEPLOYMENT}", parts.path[max(start, 0) :])
    query = "&".join(item for item in parts.query.split("&") if item.startswith("api-version="))
    return urlunsplit(("https", PLACEHOLDER_HOST, path, query, ""))


def scrub_request_body(body: JsonObject, model: str) -> str:
    """The body as JSON text: the declared model in place of a deployment's name, no field that names a person."""
    kept = {key: value for key, value in body.items() if key not in _DROPPED_FIELDS}
    return json.dumps(kept | {"model": model}, ensure_ascii=False)


def scrub_response_body(text: str) -> str:
    """The body without its request id."""
    return _RESPONSE_ID.sub(r"\g<1>chatcmpl-0\g<2>", text)


def refuse_secrets(text: str, secrets: Iterable[str], where: str) -> None:
    """Refuse a text that holds a credential in use, or a token.

    Raises:
        SecretInCassette: naming the place, never the secret.
    """
    if any(secret and secret in text for secret in secrets) or _JWT.search(text):
        raise SecretInCassette(
            f"{where}: holds a credential and is not recorded; remove it from the dataset or the program", where=where
        )
