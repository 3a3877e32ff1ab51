"""What of an exchange may be kept: an allow-list of its parts, and the ids and names taken out of what is left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from mmlu_pipe.errors import SecretInCassette
from mmlu_pipe.recording.identity import PERSONAL_FIELDS
from mmlu_pipe.records import JsonObject

__all__ = [
    "PLACEHOLDER_DEPLOYMENT",
    "deployment_of",
    "refuse_secrets",
    "scrub_request_body",
    "scrub_response_body",
    "scrub_uri",
]

PLACEHOLDER_HOST = "aoai.invalid"
PLACEHOLDER_DEPLOYMENT = "DEPLOYMENT"

# An unescaped key cannot stand inside a JSON string, so a model's text is never touched. Ids of tool calls stay:
# messages refer to them.
_RESPONSE_ID = re.compile(r'("(?:id|request_id)"\s*:\s*")(?!call_)(?:[^"\\]|\\.)+(")')
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}")
_CHAT = re.compile(r"/openai/(?:(?P<v1>v1)|deployments/[^/]+)/chat/completions")
_API_VERSION = re.compile(r"api-version=[A-Za-z0-9-]+")


def scrub_uri(uri: str) -> str:
    """The URI without host, gateway path and deployment name; the style and the API version stay."""
    parts = urlsplit(uri)
    found = list(_CHAT.finditer(parts.path))
    style = "" if not found else "/openai/v1" if found[-1]["v1"] else f"/openai/deployments/{PLACEHOLDER_DEPLOYMENT}"
    query = "&".join(item for item in parts.query.split("&") if _API_VERSION.fullmatch(item))
    return f"https://{PLACEHOLDER_HOST}{style}/chat/completions" + (f"?{query}" if query else "")


def scrub_request_body(body: JsonObject, model: str) -> str:
    """The body as JSON text: the declared model in place of a deployment's name, no field that names a person."""
    kept = {key: value for key, value in body.items() if key not in PERSONAL_FIELDS} | {"model": model}
    text = json.dumps(kept, ensure_ascii=False)
    return text if _is_unicode(text) else json.dumps(kept)


def scrub_response_body(text: str, deployment: str | None = None) -> str:
    """The body without its request ids, nor the deployment's name where a gateway gives it as the served model."""
    text = _RESPONSE_ID.sub(r"\g<1>chatcmpl-0\g<2>", text)
    if deployment is None:
        return text
    spelt = "|".join(re.escape(json.dumps(deployment, ensure_ascii=escaped)) for escaped in (False, True))
    return re.sub(rf'("model"\s*:\s*)(?:{spelt})', rf'\g<1>"{PLACEHOLDER_DEPLOYMENT}"', text)


def deployment_of(uri: str, body: JsonObject, model: str) -> str | None:
    """The name of the deployment that a request goes to, None where it is the declared model's own."""
    found = re.search(r"/openai/deployments/([^/]+)/", urlsplit(uri).path)
    name = unquote(found[1]) if found else str(body.get("model") or "")
    return name if name and name != model else None


def refuse_secrets(text: str, secrets: Iterable[str], where: str) -> None:
    """Refuse a JSON text that holds a credential in use, or a token.

    Raises:
        SecretInCassette: naming the place, never the secret.
    """
    spelt = [form for secret in secrets if secret for form in (secret, json.dumps(secret)[1:-1])]
    if any(form in text for form in spelt) or _JWT.search(text):
        raise SecretInCassette(
            f"{where}: holds a credential and is not recorded; remove it from the dataset or the program", where=where
        )


def _is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
