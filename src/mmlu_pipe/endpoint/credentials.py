"""Who asks: an API key from the environment, or Entra ID; one credential a process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from mmlu_pipe.errors import AuthenticationFailed, ConfigError, EndpointUnavailable
from mmlu_pipe.records import Endpoint

__all__ = ["KEY_VARIABLE", "Credential", "choose_credential", "token_scope"]

KEY_VARIABLE = "AZURE_OPENAI_API_KEY"

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


def choose_credential(endpoint: Endpoint, auth: str) -> Credential:
    """The credential for `--auth key|entra|auto`.

    Raises:
        AuthenticationFailed: `key` is asked for and the variable is not set, or holds what no key holds.
        ConfigError: there is no such way.
    """
    if auth not in ("key", "entra", "auto"):
        raise ConfigError(f"--auth {auth!r}: use one of key, entra, auto", key="auth")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if auth == "key" and not key:
        raise AuthenticationFailed(
            f"--auth key: the environment variable {KEY_VARIABLE} is not set; set it, or use --auth entra"
        )
    if auth == "key" or (auth == "auto" and key):
        if not (key.isascii() and key.isprintable() and " " not in key):  # HTTP would refuse it, and print it
            raise AuthenticationFailed(f"{KEY_VARIABLE} holds a blank or a letter that no key has; copy it again")
        return Credential(f"API key ({KEY_VARIABLE})", key=key)
    scope, authority = token_scope(endpoint)
    return Credential("Entra ID (azure-identity)", token_provider=_provider(scope, authority))


def token_scope(endpoint: Endpoint) -> tuple[str, str]:
    """Token scope and name of the authority in `azure.identity.AzureAuthorityHosts` for the endpoint's cloud."""
    host = urlsplit(endpoint.endpoint).hostname or ""
    for suffix, (domain, authority) in _CLOUDS.items():
        if host.endswith(suffix):
            return f"https://cognitiveservices.{domain}/.default", authority
    return "https://cognitiveservices.azure.com/.default", "AZURE_PUBLIC_CLOUD"


@cache
def _provider(scope: str, authority: str) -> Callable[[], str]:
    """One `DefaultAzureCredential` a process: many earn 429s from the token endpoint."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from azure.identity import AzureAuthorityHosts, DefaultAzureCredential, get_bearer_token_provider

    host = os.environ.get("AZURE_AUTHORITY_HOST") or getattr(AzureAuthorityHosts, authority)
    provider = get_bearer_token_provider(DefaultAzureCredential(authority=host), scope)

    def token() -> str:
        try:
            return provider()
        except ClientAuthenticationError as error:
            raise AuthenticationFailed(
                f"no Entra ID token: run `az login`, or set {KEY_VARIABLE} and use --auth key\n  {_first_line(error)}"
            ) from error
        except AzureError as error:  # the token service cannot be reached, or is busy
            raise EndpointUnavailable(f"no Entra ID token ({type(error).__name__}: {_first_line(error)})") from error

    return token


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details given"])[0]
