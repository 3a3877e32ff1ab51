"""What an error response means, and what to change. Codes: Azure OpenAI error reference and observed bodies."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from mmlu_pipe.endpoint.credentials import JOB_PRINCIPALS
from mmlu_pipe.endpoint.wire import filtered_categories
from mmlu_pipe.errors import (
    AuthenticationFailed,
    ComeBackLater,
    ContentFiltered,
    EndpointError,
    EndpointRejected,
    EndpointUnavailable,
    RateLimited,
)
from mmlu_pipe.records import Endpoint, JsonObject

__all__ = ["come_back_later", "rejection", "unanswered", "unreachable", "without_names"]

_NO_DEPLOYMENT = ("DeploymentNotFound", "unknown_model", "model_not_found")


def unanswered(status: int, error: JsonObject, headers: Mapping[str, str]) -> EndpointError:
    """The typed error of a response that promises an answer later; a wait that is asked for is named."""
    text = f"HTTP {status}: {_said(error)}"
    if asked := headers.get("retry-after"):
        text += f" (retry-after: {asked[:40]})"
    return RateLimited(text) if status == 429 else EndpointUnavailable(text)


def come_back_later(failed: EndpointError, seconds: float, max_wait: float) -> ComeBackLater:
    """The typed error of a response that asks to wait longer than `max_wait`; it names the local time to return at."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds + 1))
    return ComeBackLater(
        f"the endpoint asks to come back in {_duration(seconds)}, at {at} local time: {failed}\n"
        f"  that is more than --max-wait {max_wait:g} s; run the same command then, and it continues this run",
        seconds=seconds,
    )


def without_names(text: str, endpoint: Endpoint) -> str:
    """A message without host and deployment name: it is kept in files that people share."""
    host = urlsplit(endpoint.endpoint).hostname or ""
    for name, shown in ((host, "[host]"), (endpoint.deployment, "[deployment]")):
        if name and name != endpoint.model:
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", shown, text, flags=re.IGNORECASE)
    return text


def unreachable(cause: BaseException, endpoint: Endpoint) -> EndpointUnavailable:
    """The typed error of a connection that failed; a certificate that is not trusted will not be so a second later."""
    text = without_names(str(cause) or "no details given", endpoint)
    failed = EndpointUnavailable(
        f"no answer ({type(cause).__name__}: {text}); check aoai_endpoint, your network and HTTPS_PROXY"
    )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        failed = EndpointUnavailable(
            f"the endpoint's certificate is not trusted ({text})\n"
            "  set SSL_CERT_FILE to the PEM file of your network's certificate authority, or check aoai_endpoint"
        )
        failed.stops_run = True
    elif isinstance(cause, httpx2.ProxyError):
        failed = EndpointUnavailable(f"the proxy gives no way to the endpoint ({text}); check HTTPS_PROXY and NO_PROXY")
    return failed


def rejection(
    status: int, error: JsonObject, headers: Mapping[str, str], endpoint: Endpoint, auth_shown: str
) -> EndpointError:
    """The typed error of a response that another attempt would not change."""
    if status in (408, 409, 429) or status >= 500:  # its own word is that another attempt is no use
        return unanswered(status, error, headers)
    code = str(error.get("code") or "") or None
    said = _said(error)
    if status in (401, 403):
        return AuthenticationFailed(
            f"the endpoint refused the {auth_shown} (HTTP {status}): {said}\n  {_advice(status, auth_shown)}"
        )
    if status == 400 and (code == "content_filter" or _inner(error).get("code") == "ResponsibleAIPolicyViolation"):
        inner = _inner(error)
        found = filtered_categories(inner.get("content_filter_result") or inner.get("content_filter_results"))
        names = ", ".join(found) or "category not given"
        return ContentFiltered(f"the content filter blocked the prompt ({names})", categories=found)
    if status == 404:
        what = (
            "there is no deployment of the name in aoai_deployment; check it (a new one needs a few minutes)"
            if code in _NO_DEPLOYMENT
            else "there is no chat API at this address; check aoai_endpoint and aoai_api_version"
        )
        return EndpointRejected(f"{what} (HTTP 404): {said}", status=status, code=code, stops_run=True)
    if code == "OperationNotSupported":
        text = f"the deployment of {endpoint.model} has no chat completions; name one of a chat model: {said}"
        return EndpointRejected(text, status=status, code=code, stops_run=True)
    return EndpointRejected(f"HTTP {status}{f' {code}' if code else ''}: {said}", status=status, code=code)


def _duration(seconds: float) -> str:
    """The two largest units, such as `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{value} {unit}" for value, unit in parts if value][:2]
    return " ".join(shown) or "1 s"


def _said(error: JsonObject) -> str:
    """The message, or else whatever the error object holds."""
    return str(error.get("message") or error or "no message")[:500]


def _inner(error: JsonObject) -> JsonObject:
    inner = error.get("innererror")
    return inner if isinstance(inner, dict) else {}


def _advice(status: int, auth_shown: str) -> str:
    if auth_shown.startswith(JOB_PRINCIPALS):
        return (
            f"give the {auth_shown} the role 'Cognitive Services OpenAI User' on the resource (it takes some minutes "
            "to hold), and let the compute through its network rules"
        )
    if "key" in auth_shown.lower():
        if status == 403:
            return "the resource may forbid keys or your network: try --auth entra, or check its network rules"
        return "check that AZURE_OPENAI_API_KEY belongs to the resource in aoai_endpoint, or use --auth entra"
    if status == 403:
        return "give yourself the role 'Cognitive Services OpenAI User' on the resource, or check its network rules"
    return "run `az login` in the tenant of the resource, or use a key (AZURE_OPENAI_API_KEY and --auth key)"
