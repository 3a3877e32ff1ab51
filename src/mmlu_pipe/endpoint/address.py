"""The address of a deployment: any spelling a portal or a colleague gives, made into one, or refused with a mend.

Two styles exist: dated (`/openai/deployments/<deployment>/chat/completions?api-version=<date>`) and v1
(`/openai/v1/chat/completions`, the deployment in the body), which needs no dated version.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import Endpoint

__all__ = ["V1_VERSIONS", "base_url", "endpoint_kind", "is_loopback", "is_v1", "normalise"]

V1_VERSIONS = ("v1", "preview", "latest")
"""API versions of the v1 style; `v1` sends no `api-version` at all."""

_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?")
_TARGET = re.compile(
    r"(?P<prefix>.*)/openai/deployments/(?P<deployment>[^/]+)(/chat(/completions)?)?", re.IGNORECASE | re.DOTALL
)
_V1 = re.compile(r"(?P<prefix>.*)/openai/v1(/chat(/completions)?)?", re.IGNORECASE | re.DOTALL)
# Other APIs of the same hosts; a gateway's own path such as /openai/team-a is none of them.
_UNDER_OPENAI = (
    "v1|deployments|responses|realtime|chat|completions|embeddings|models|images|audio|files|batches|assistants|"
    "threads|vector_stores|fine_tuning|evals|operations"
)
_OTHER_API = re.compile(
    rf"/(openai(/({_UNDER_OPENAI})(/.*)?)?|models(/(chat|embeddings|images|info)(/.*)?)?|(api/projects|anthropic)(/.*)?)$",
    re.IGNORECASE | re.DOTALL,
)
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_EXAMPLE = "it looks like https://<name>.openai.azure.com"

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
    and version agree with the other keys. `/openai` at the end is taken off: both styles begin with it.

    Raises:
        ConfigError: with the corrected value where there is one.
    """
    parts = _split(endpoint.endpoint.strip())
    queries = [(name.lower(), value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    given = [value for name, value in queries if name == "api-version" and value]
    strange = bool(parts.fragment) or any(name != "api-version" for name, _value in queries)
    path = parts.path.rstrip("/")
    version = endpoint.api_version.strip().lower()
    if found := _TARGET.fullmatch(path):
        path = found["prefix"].rstrip("/")
        _agree("aoai_deployment", endpoint.deployment, unquote(found["deployment"]))
    elif found := _V1.fullmatch(path):
        path = found["prefix"].rstrip("/")
        strange = strange or not all(map(is_v1, given))  # no address of either style
        if not is_v1(version) and not strange:
            raise ConfigError(
                f"aoai_endpoint ends in /openai/v1, which has no dated versions, but aoai_api_version is {version!r}: "
                f'set aoai_api_version to "v1", or aoai_endpoint to "{_join(parts, path)}"',
                key="aoai_api_version",
            )
    else:
        strange = strange or bool(given)
        path = re.sub(r"/+openai$", "", path, flags=re.IGNORECASE)
    other = _OTHER_API.search(path)
    if other or strange:
        corrected = _join(parts, path[: other.start()] if other else path)
        shown = _join(parts, parts.path) + ("?…" if parts.query else "")
        raise ConfigError(
            f"aoai_endpoint {shown!r} is more than the address of the resource, or of another API; "
            f'set it to "{corrected}"',
            key="aoai_endpoint",
        )
    for value in given:
        _agree("aoai_api_version", version, value)
    if not is_v1(version) and not _DATED.fullmatch(version):
        raise ConfigError(
            f"aoai_api_version {version!r} is no API version; use a date such as 2024-10-21, or v1",
            key="aoai_api_version",
        )
    return replace(endpoint, endpoint=_join(parts, path), api_version=version)


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
    """The parts of a URL that may be asked. No message repeats a password or the query."""
    if "@" in re.split(r"[/?#]", re.sub(r"^[a-z]*:?//", "", text, flags=re.IGNORECASE))[0]:
        raise _refused("aoai_endpoint holds a user name or password; remove it")
    shown = re.split(r"[?#]", text)[0]
    if "://" not in text:
        rest = re.sub(r"^https?[:/]+", "", shown, flags=re.IGNORECASE)
        host = rest if re.search(r"[.:/]", rest) else f"{rest}.openai.azure.com"
        raise _refused(f'aoai_endpoint {shown!r} has no scheme; set it to "https://{host}"')
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port  # a port that is no number raises here
    except ValueError as error:
        raise _refused(f"aoai_endpoint {shown!r} is no URL ({error}); {_EXAMPLE}") from None
    if any(character.isspace() or not character.isprintable() for character in text):
        raise _refused(f"aoai_endpoint {shown!r} holds a blank or an invisible character; {_EXAMPLE}")
    if ":" not in host and not _HOST.fullmatch(host):
        raise _refused(f"aoai_endpoint {shown!r} has no valid host name; {_EXAMPLE}")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        secure = parts._replace(scheme="https", netloc=parts.netloc.removesuffix(":80"))
        raise _refused(f'aoai_endpoint must be https: set it to "{_join(secure, parts.path)}"')
    return parts


def _refused(message: str) -> ConfigError:
    return ConfigError(message, key="aoai_endpoint")


def _join(parts: SplitResult, path: str) -> str:
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(':')}{path}".rstrip("/")


def _agree(key: str, configured: str, in_address: str) -> None:
    if configured.lower() != in_address.lower():
        raise ConfigError(
            f"aoai_endpoint is the Target URI of {in_address!r}, but {key} is {configured!r}; "
            f'set {key} to "{in_address}", or aoai_endpoint to the address up to the host name',
            key=key,
        )
