"""Who asks: an API key from the environment, Entra ID, or the identity of a job; one credential a process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mmlu_pipe.config import AUTH_MODES, IDENTITIES
from mmlu_pipe.errors import AuthenticationFailed, ConfigError, EndpointUnavailable
from mmlu_pipe.records import Endpoint

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

__all__ = ["JOB_PRINCIPALS", "KEY_VARIABLE", "Credential", "choose_credential", "default_credential", "token_scope"]

KEY_VARIABLE = "AZURE_OPENAI_API_KEY"

_MANAGED, _USER = JOB_PRINCIPALS = ("managed identity", "submitting user")
"""As whom a job asks; what `Credential.shown` begins with then."""

# Where a job finds the client id of the user-assigned identity of its compute; without one it is the system-assigned.
# Source: Azure Machine Learning, "Set up authentication", and azure-identity, "Environment variables".
_CLIENT_ID_VARIABLES = ("DEFAULT_IDENTITY_CLIENT_ID", "AZURE_CLIENT_ID")

# Source: Azure OpenAI, "Authentication", and the sovereign clouds' endpoint lists of Azure AI services.
_CLOUDS = {".azure.us": ("azure.us", "AZURE_GOVERNMENT"), ".azure.cn": ("azure.cn", "AZURE_CHINA")}


@dataclass(frozen=True)
class Credential:
    """How requests are authorised: exactly one of `key` and `token_provider`.

    Attributes:
        shown: what a person is told was used; holds no secret.
    """

    shown: str
    key: str | None = None
    token_provider: Callable[[], str] | None = None

    def __repr__(self) -> str:
        return f"Credential({self.shown!r})"


def choose_credential(endpoint: Endpoint, auth: str, identity_client_id: str | None = None) -> Credential:
    """The credential for `--auth key|entra|auto`, or for the identity of a job: `managed` or `user`.

    Args:
        endpoint: decides cloud and scope.
        auth: the way.
        identity_client_id: a user-assigned managed identity; None leaves it to the environment of the job.

    Raises:
        AuthenticationFailed: `key` is asked for and the variable is not set, or holds what no key holds; or the
            identity of a job gets no token.
        EndpointUnavailable: the token service of a job cannot be reached.
        ConfigError: there is no such way.
    """
    scope, authority = token_scope(endpoint)
    if auth in IDENTITIES:
        return _of_job(auth, identity_client_id, scope)
    if auth not in AUTH_MODES:
        raise ConfigError(f"--auth {auth!r}: use one of {', '.join(AUTH_MODES)}", key="auth")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if auth == "key" and not key:
        raise AuthenticationFailed(
            f"--auth key: the environment variable {KEY_VARIABLE} is not set; set it, or use --auth entra"
        )
    if auth == "key" or (auth == "auto" and key):
        if not (key.isascii() and key.isprintable() and " " not in key):  # HTTP would refuse it, and print it
            raise AuthenticationFailed(f"{KEY_VARIABLE} holds a blank or a letter that no key has; copy it again")
        return Credential(f"API key ({KEY_VARIABLE})", key=key)
    return Credential("Entra ID (azure-identity)", token_provider=_provider(scope, authority))


def token_scope(endpoint: Endpoint) -> tuple[str, str]:
    """Token scope and name of the authority in `azure.identity.AzureAuthorityHosts` for the endpoint's cloud."""
    host = urlsplit(endpoint.endpoint).hostname or ""
    for suffix, (domain, authority) in _CLOUDS.items():
        if host.endswith(suffix):
            return f"https://cognitiveservices.{domain}/.default", authority
    return "https://cognitiveservices.azure.com/.default", "AZURE_PUBLIC_CLOUD"


@cache
def default_credential(authority: str) -> DefaultAzureCredential:
    """One credential a process for endpoint and workspace: many earn 429s from the token endpoint.

    Args:
        authority: name in `azure.identity.AzureAuthorityHosts`; `AZURE_AUTHORITY_HOST` overrides it.

    Raises:
        AuthenticationFailed: an `AZURE_*` variable holds what cannot be used.
    """
    from azure.identity import AzureAuthorityHosts, DefaultAzureCredential

    try:
        return DefaultAzureCredential(
            authority=os.environ.get("AZURE_AUTHORITY_HOST") or getattr(AzureAuthorityHosts, authority),
            connection_timeout=10,  # seconds; its own 300 are for nobody who waits
        )
    except ValueError as error:  # azure-identity looks at the variables at once
        raise AuthenticationFailed(f"the AZURE_* variables of the environment cannot be used: {error}") from error


@cache
def _provider(scope: str, authority: str) -> Callable[[], str]:
    failed = f"no Entra ID token: run `az login`, or set {KEY_VARIABLE} and use --auth key"
    return _tokens(default_credential(authority), scope, failed)


@cache
def _of_job(auth: str, client_id: str | None, scope: str) -> Credential:
    """The identity that a job was given, and no other; it proves at once that it gets a token."""
    credential: Any
    if auth == "user":
        try:
            from azure.ai.ml.identity import AzureMLOnBehalfOfCredential
        except ImportError as error:
            raise AuthenticationFailed(
                f"the {_USER} needs the package azure-ai-ml, which this environment lacks; use one that has it"
            ) from error
        shown, credential = _USER, AzureMLOnBehalfOfCredential()
        advice = "submit with --identity user, or use the compute's own identity (--identity managed)"
    else:
        from azure.identity import ManagedIdentityCredential

        name = client_id or next(filter(None, map(os.environ.get, _CLIENT_ID_VARIABLES)), None)
        shown, credential = f"{_MANAGED} …{name[-4:]}" if name else _MANAGED, ManagedIdentityCredential(client_id=name)
        advice = (
            "assign it to the compute, name the client id of one that is assigned (--identity), or submit with "
            "--identity user"
        )
    provider = _tokens(credential, scope, f"no token for the {shown}: {advice}")
    provider()
    return Credential(shown, token_provider=provider)


def _tokens(credential: Any, scope: str, failed: str) -> Callable[[], str]:
    """Tokens of a credential, as long as they last; `failed` says what to do where there is none."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from azure.identity import get_bearer_token_provider

    provider = get_bearer_token_provider(credential, scope)

    def token() -> str:
        try:
            return provider()
        except ClientAuthenticationError as error:
            raise AuthenticationFailed(f"{failed}\n  {_first_line(error)}") from error
        except AzureError as error:  # the token service cannot be reached, or is busy
            raise EndpointUnavailable(f"no Entra ID token ({type(error).__name__}: {_first_line(error)})") from error

    return token


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details given"])[0]
