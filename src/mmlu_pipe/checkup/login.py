"""Who is logged in, and whether there is a token for everything that will be asked."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import time
from dataclasses import dataclass

from mmlu_pipe.backends.azureml.clouds import current_cloud
from mmlu_pipe.backends.azureml.failures import failure
from mmlu_pipe.checkup.examination import Finding, worded
from mmlu_pipe.endpoint.credentials import default_credential, token_scope
from mmlu_pipe.errors import AuthenticationFailed, WorkspaceUnavailable
from mmlu_pipe.records import Endpoint, JsonObject

__all__ = ["Scope", "cloud_scopes", "endpoint_scope", "log_in", "token"]

_LOGIN = (
    "run `az login` in the tenant of your resources, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET "
    "of a service principal"
)

_STORAGE = "https://storage.azure.com"

_ALIASES = {"https://management.azure.com": "https://management.core.windows.net"}
"""The resource manager's older name, which its tokens may have."""


@dataclass(frozen=True)
class Scope:
    """A resource that tokens are for, and who issues them (`azure.identity.AzureAuthorityHosts`)."""

    resource: str
    authority: str


def cloud_scopes() -> dict[str, Scope]:
    """Name → what a submission asks: the resource manager, AzureML's own services, storage."""
    cloud = current_cloud()
    resources = {"ARM token": cloud.manager, "AzureML token": cloud.service, "storage token": _STORAGE}
    return {name: Scope(resource, cloud.authority) for name, resource in resources.items()}


def endpoint_scope(endpoint: Endpoint) -> Scope:
    """What a deployment is asked with, in its own cloud."""
    scope, authority = token_scope(endpoint)
    return Scope(scope.removesuffix("/.default"), authority)


def log_in(scope: Scope) -> Finding:
    """Which credential of the chain answers, and for which tenant."""
    logger = logging.getLogger("azure")  # the links of the chain tell at length that they are not it
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    given = _ask(scope, _LOGIN)
    if isinstance(given, Finding):
        return given
    credential = default_credential(scope.authority)
    answered = type(getattr(credential, "_successful_credential", None) or credential).__name__
    tenant = str((_claims(given) or {}).get("tid", ""))
    return Finding(f"{answered}, tenant {f'…{tenant[-4:]}' if tenant else 'unknown'}")


def token(scope: Scope) -> Finding:
    """Whether there is a token for a resource; its audience is read, its signature is for the resource to check."""
    advice = f"your login must be let in to {scope.resource}: ask who runs the tenant (consent, conditional access)"
    given = _ask(scope, advice)
    if isinstance(given, Finding):
        return given
    claims = _claims(given) or {}
    if isinstance(end := claims.get("exp"), int | float) and end <= time.time():
        return Finding("the token has expired already", "set the clock of this machine; then log in again", "failed")
    audience = str(claims.get("aud", "")).rstrip("/")
    if audience in (scope.resource, _ALIASES.get(scope.resource)):
        return Finding(f"for {scope.resource}")
    if audience.startswith("https://"):
        advice = "check AZUREML_CURRENT_CLOUD and AZURE_AUTHORITY_HOST, and which cloud the login is for"
        return Finding(f"it is for {audience}, not for {scope.resource}", advice, "failed")
    return Finding(f"for {scope.resource}, as asked; its audience cannot be read", state="warning")


def _ask(scope: Scope, advice: str) -> str | Finding:
    """A token, or why there is none."""
    from azure.core.exceptions import AzureError

    try:
        return default_credential(scope.authority).get_token(f"{scope.resource}/.default").token
    except AuthenticationFailed as error:  # the variables of a service principal cannot be used
        return worded(error, advice)
    except AzureError as error:
        known = failure(error, f"get a token for {scope.resource}")
        return worded(known) if isinstance(known, WorkspaceUnavailable) else Finding(_reason(error), advice, "failed")


def _reason(error: Exception) -> str:
    """What Entra says, or else the credential that was tried in earnest; the others of the chain say nothing of use."""
    text = str(error)
    if found := re.search(r"AADSTS\d+: [^\r\n.]+|\w+Credential: Authentication failed: [^\r\n]+", text):
        return f"no token: {found[0][:300]}"
    return "no token: no credential of this machine answers (az login, service principal, managed identity)"


def _claims(text: str) -> JsonObject | None:
    """What a JWT says, unchecked; None where it is none."""
    part = [*text.split("."), ""][1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error):
        return None
    return claims if isinstance(claims, dict) else None
