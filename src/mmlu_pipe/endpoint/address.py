"""The address of a deployment: any spelling a portal or a colleague gives, made into one, or refused with a mend.

Two styles exist: dated (`/openai/deployments/<deployment>/chat/completions?api-version=<date>`) and v1
(`/openai/v1/chat/completions`, the deployment in the body), which needs no dated version.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Literal
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import Endpoint

__all__ = ["V1_VERSIONS", "base_url", "endpoint_kind", "is_loopback", "is_v1", "normalise"]

V1_VERSIONS = ("v1", "preview", "latest")
"""API versions of the v1 style; `v1` sends no `api-version` at all."""

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_TARGET = re.compile(r"(?P<prefix>.*)/openai/deployments/(?P<deployment>[^/]+)(/chat/completions)?", re.IGNORECASE)
_V1 = re.compile(r"(?P<prefix>.*)/openai/v1(/chat/completions)?", re.IGNORECASE)
_OTHER_API = re.compile(r"(?P<prefix>.*?)/(openai/.+|models(/.*)?|api/projects(/.*)?)", re.IGNORECASE)

_KINDS = {
    "openai.azure.com": "azure_openai",
    "openai.azure.us": "azure_openai_us_government",
    "openai.azure.cn": "azure_openai_china",
    "services.ai.azure.com": "foundry",
    "services.ai.azure.us": "foundry",
    "cognitiveservices.azure.com": "azure_ai_services",
    "cognitiveservices.azure.us": "azure_ai_services_us_government",
    "cognitiveservices.azure.cn": "azure_ai_services_china",
}


def is_v1(api_version: str) -> bool:
    """Whether an API version means the v1 style."""
    return api_version.lower() in V1_VERSIONS


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def normalise(endpoint: Endpoint) -> Endpoint:
    """The endpoint with a base URL that both styles can be built on, and a checked API version.

    Accepts a resource's base URL, a gateway with a path, the v1 base URL, and a pasted Target URI whose deployment
    and version agree with the other keys.

    Raises:
        ConfigError: with the corrected value where there is one.
    """
    parts = _split(endpoint.endpoint)
    query = parse_qs(parts.query)
    path = parts.path.rstrip("/")
    version = endpoint.api_version
    if found := _TARGET.fullmatch(path):
        path = found["prefix"]
        _agree("aoai_deployment", endpoint.deployment, unquote(found["deployment"]))
        for given in query.get("api-version", []):
            _agree("aoai_api_version", version, given)
    elif found := _V1.fullmatch(path):
        path = found["prefix"]
        if not is_v1(version):
            raise ConfigError(
                f"aoai_endpoint ends in /openai/v1, which has no dated versions, but aoai_api_version is {version!r}: "
                f'set aoai_api_version to "v1", or aoai_endpoint to "{_join(parts, path)}"',
                key="aoai_api_version",
            )
    elif query or parts.fragment or _OTHER_API.fullmatch(path):
        other = _OTHER_API.fullmatch(path)
        corrected = _join(parts, other["prefix"] if other else path)
        raise ConfigError(
            f'aoai_endpoint {endpoint.endpoint!r} is the address of another API; set it to "{corrected}"',
            key="aoai_endpoint",
        )
    if not is_v1(version) and not _DATED.fullmatch(version):
        raise ConfigError(
            f"aoai_api_version {version!r} is no API version; use a date such as 2024-10-21, or v1",
            key="aoai_api_version",
        )
    return replace(endpoint, endpoint=_join(parts, path), api_version=version.lower())


def base_url(endpoint: Endpoint) -> str:
    """What `/chat/completions` is appended to, for a normalised endpoint."""
    if is_v1(endpoint.api_version):
        return f"{endpoint.endpoint}/openai/v1"
    return f"{endpoint.endpoint}/openai/deployments/{quote(endpoint.deployment, safe='')}"


def endpoint_kind(endpoint: Endpoint) -> str:
    """Which kind of host serves the endpoint; unlike the host's name, it may be kept in files."""
    host = urlsplit(endpoint.endpoint).hostname or ""
    if is_loopback(host):
        return "loopback"
    return next((kind for suffix, kind in _KINDS.items() if host.endswith("." + suffix)), "gateway")


def _split(text: str) -> SplitResult:
    key: Literal["aoai_endpoint"] = "aoai_endpoint"
    if "://" not in text:
        host = text if "." in text or ":" in text else f"{text}.openai.azure.com"
        raise ConfigError(f'aoai_endpoint {text!r} has no scheme; set it to "https://{host}"', key=key)
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port  # a port that is no number raises here
    except ValueError as error:
        raise ConfigError(f"aoai_endpoint {text!r} is no URL ({error})", key=key) from error
    if not host or any(character.isspace() for character in text):
        raise ConfigError(f"aoai_endpoint {text!r} is no URL; it looks like https://<name>.openai.azure.com", key=key)
    if parts.username or parts.password:
        raise ConfigError("aoai_endpoint holds a user name or password; remove it", key=key)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        corrected = _join(parts._replace(scheme="https"), parts.path.rstrip("/"))
        raise ConfigError(f'aoai_endpoint must be https: set it to "{corrected}"', key=key)
    return parts


def _join(parts: SplitResult, path: str) -> str:
    return f"{parts.scheme}://{parts.netloc.lower()}{path}".rstrip("/")


def _agree(key: str, configured: str, in_address: str) -> None:
    if configured.lower() != in_address.lower():
        raise ConfigError(
            f"aoai_endpoint is the Target URI of {in_address!r}, but {key} is {configured!r}; "
            f'set {key} to "{in_address}", or aoai_endpoint to the address up to the host name',
            key=key,
        )
