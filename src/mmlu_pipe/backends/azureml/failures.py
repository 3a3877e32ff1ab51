"""What the SDK raises, as our errors: what was being done, what the service says, what to do, what is done already."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from mmlu_pipe.errors import AuthenticationFailed, MmluPipeError, WorkspaceRejected, WorkspaceUnavailable

__all__ = ["NETWORK_ADVICE", "already", "failure", "scrubbed", "translated"]

_LIBRARIES = ("azure", "msrest", "requests", "urllib3")
"""Whose exceptions are expected ones; any other is a bug of ours."""

_LOGIN_DOWN = re.compile(
    r"HTTPS?Connection|Max retries exceeded|[Pp]roxy|[Cc]onnection (refused|aborted)|Failed to resolve|getaddrinfo"
    r"|[Nn]ame resolution|Name or service not known|Remote end closed|HTTP Error: 5|TooManyRequests"
)
"""How the chain of credentials words a login service that cannot be reached, or is busy."""

_TRIED = re.compile(r"^\s*\w+Credential: (?=.*(?:Authentication failed|AADSTS))(.*)", re.MULTILINE)
"""What the one of the chain says that got as far as asking."""

_CONFIG_KEYS = {
    "SubscriptionNotFound": "subscription_id",
    "InvalidSubscriptionId": "subscription_id",
    "ResourceGroupNotFound": "resource_group",
    "ResourceNotFound": "workspace_name",
}
"""Error codes of Azure Resource Manager, and the key of `config.json` that is wrong then."""

_SECRETS = (
    (re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?"), "[token]"),
    (re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+"), r"\1"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "[id]"),
)
"""Tokens, signatures in addresses, and the ids of tenant, subscription and request."""


NETWORK_ADVICE = "check the network, HTTPS_PROXY, SSL_CERT_FILE and the firewall, and run the command again"
_LOGIN = "run `az login`, or set the AZURE_* variables of a service principal"


@contextmanager
def translated(doing: str, registered: Sequence[str] = ()) -> Iterator[None]:
    """Within it, what the SDK raises becomes one of our errors.

    Args:
        doing: what is being done, to be read after `cannot`.
        registered: references of what was registered before; read when it fails.

    Raises:
        AuthenticationFailed: no login, or a token that is refused.
        WorkspaceRejected: what was asked for is wrong, missing, or not allowed.
        WorkspaceUnavailable: no connection, or the service is busy or has a fault.
    """
    try:
        yield
    except MmluPipeError:
        raise
    except Exception as error:
        wrapped = type(error) is Exception and _root(error) is not error  # some of the SDK's own are nothing more
        if type(error).__module__.partition(".")[0] not in _LIBRARIES and not wrapped:
            raise
        raise failure(error, doing, registered) from error


def failure(error: Exception, doing: str, registered: Sequence[str] = ()) -> MmluPipeError:
    """Our error for one of the SDK's, or of the libraries below it."""
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

    root = _root(error)
    status = getattr(root, "status_code", None)
    no_token = isinstance(root, ClientAuthenticationError) and status is None

    def told(words: str, advice: str) -> str:
        return f"cannot {doing}: {words}\n  {advice}{already(registered)}"

    if no_token and _LOGIN_DOWN.search(str(root)):
        return WorkspaceUnavailable(told("the login service cannot be reached", NETWORK_ADVICE), registered=registered)
    if no_token:
        tried = _TRIED.search(str(root))
        words = scrubbed(tried[1]).rstrip(".") if tried else "nobody is logged in"
        return AuthenticationFailed(told(words, _LOGIN))
    if isinstance(root, ServiceRequestError | ServiceResponseError) or not _is_azure(root):
        return WorkspaceUnavailable(told(f"no connection ({_reason(root)})", NETWORK_ADVICE), registered=registered)
    words = _words(root) + (f" (HTTP {status})" if status else "")
    if status == 401:
        return AuthenticationFailed(told(words, _LOGIN))
    if status is not None and (status in (408, 429) or status >= 500):
        advice = "the service is busy or has a fault: wait some minutes, and run the command again"
        return WorkspaceUnavailable(told(words, advice), registered=registered)
    return WorkspaceRejected(told(words, _advice(root, status)), status=status, registered=registered)


def already(registered: Sequence[str]) -> str:
    """The line of a message that tells what was registered before; empty where nothing was."""
    return f"\n  already registered, and found by the next attempt: {', '.join(registered)}" if registered else ""


def scrubbed(text: str) -> str:
    """A text of the service without tokens, signatures and ids."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _root(error: BaseException) -> BaseException:
    """The first of the chain that tells of an exchange with the service; the SDK wraps some in words of its own."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            break
        if isinstance(link, HttpResponseError | ServiceRequestError | ServiceResponseError):
            return link
        link = link.__cause__ or link.__context__
    return error


def _is_azure(error: BaseException) -> bool:
    return type(error).__module__.startswith("azure.")


def _words(error: BaseException) -> str:
    """The service's own message in one line."""
    own: Any = getattr(getattr(error, "error", None), "message", None) or getattr(error, "message", None) or error
    line = next((line.strip() for line in str(own).splitlines() if line.strip()), type(error).__name__)
    return scrubbed(re.sub(r"^\(\w+\) ", "", line)).rstrip(".")


def _reason(error: BaseException) -> str:
    """The innermost words of an exception of the network, which wraps others in its text."""
    found = re.findall(r"[A-Za-z][\w ,-]{8,}", scrubbed(str(error)))
    return str(found[-1]) if found else type(error).__name__


def _advice(error: BaseException, status: int | None) -> str:
    response: Any = getattr(error, "response", None)
    request = getattr(response, "request", None)
    url = urlsplit(str(getattr(request, "url", "")))
    key = _CONFIG_KEYS.get(str(getattr(getattr(error, "error", None), "code", None)))
    if key is not None:
        return f"check {key!r} in the file that --workspace-config names, and that your login is for its tenant"
    if status == 403:
        if ".blob." in (url.hostname or ""):
            role, where = "Storage Blob Data Contributor", "the workspace's storage account (and check its firewall)"
        elif "/registries/" in url.path:
            role, where = "AzureML Registry User", "the registry"
        else:
            role, where = "AzureML Data Scientist", "the workspace"
        return f"ask for the role {role!r} on {where}"
    if status == 404:
        return "check the name and the version"
    if status == 409:
        return "something else is changing it: wait a little, and run the command again"
    return "mend what the message names"
