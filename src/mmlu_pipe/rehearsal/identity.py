"""Tokens: Microsoft Entra for a service principal, and the endpoints that jobs and virtual machines ask on loopback.

Which client asks where (azure-identity 1.27 with MSAL 1.39, azure-ai-ml 1.35):

    ClientSecretCredential      POST https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token
    ManagedIdentityCredential   GET  /metadata/identity/oauth2/token   a virtual machine (IMDS)
                                GET  /msi/appservice                   IDENTITY_ENDPOINT, X-IDENTITY-HEADER
                                GET  /msi/azureml                      MSI_ENDPOINT, header `secret`: a job of AzureML
    AzureMLOnBehalfOfCredential GET  /obo/{secret}                     OBO_ENDPOINT: a job with the submitter's identity
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Sequence
from urllib.parse import parse_qs

from mmlu_pipe.rehearsal.exchange import Json, Refusal, Reply, Request
from mmlu_pipe.rehearsal.workspace import TENANT

__all__ = ["LOGIN_HOST", "Identity"]

LOGIN_HOST = "login.microsoftonline.com"

_LIFETIME_S = 3600
_RESOURCE_MANAGER = ("https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com")
_RUNS = "azureml"


class Identity:
    """Issues tokens of this twin, and knows them again.

    Args:
        client_ids: the user-assigned managed identities of the compute clusters; the first is the default.
    """

    def __init__(self, client_ids: Sequence[str] = ()) -> None:
        self.client_id, self.client_secret = str(uuid.uuid4()), secrets.token_urlsafe(32)
        self.client_ids = tuple(client_ids)
        self.local_secret = secrets.token_urlsafe(32)
        self.lifetime_s: float = _LIFETIME_S
        self._key = secrets.token_bytes(32)

    # Tokens

    def issue(self, resource: str, who: str, **claims: str) -> str:
        """A token for a resource, as a JWT: readable by anyone, valid at this twin alone."""
        issued = int(time.time()) - 60
        body = {
            "aud": resource.removesuffix("/.default").rstrip("/"),
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": issued,
            "nbf": issued,
            "exp": int(time.time() + self.lifetime_s),
            "oid": str(uuid.uuid5(uuid.UUID(TENANT), who)),
            "tid": TENANT,
            "ver": "1.0",
        }
        signed = ".".join(
            _encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, body | claims)
        )
        return f"{signed}.{self._signature(signed)}"

    def _signature(self, signed: str) -> str:
        return _encode(hmac.new(self._key, signed.encode(), hashlib.sha256).digest())

    def run_token(self, run_id: str) -> str:
        """The token that a job finds in its environment: for what it logs, and for nothing of the resource manager."""
        return self.issue(_RUNS, run_id, run_id=run_id)

    def require(self, request: Request, *, of_runs: bool = False) -> Json:
        """The claims of the request's token.

        Args:
            request: any one.
            of_runs: whether the token of a run will do.

        Raises:
            Refusal: 401, with the challenge that makes clients ask for a new token.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        signed, _, signature = token.rpartition(".")
        if scheme.lower() != "bearer" or not hmac.compare_digest(self._signature(signed), signature):
            raise _unauthorised("InvalidAuthenticationToken", "The access token is missing or invalid.")
        part = signed.partition(".")[2]
        claims: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        if claims["exp"] <= time.time():
            raise _unauthorised("ExpiredAuthenticationToken", "The access token expired; ask for a new one.")
        if claims["aud"] not in _RESOURCE_MANAGER and not (of_runs and claims["aud"] == _RUNS):
            raise _unauthorised(
                "InvalidAuthenticationTokenAudience", f"The access token is for {claims['aud']}, not for AzureML."
            )
        return claims

    # Microsoft Entra

    def entra(self, request: Request) -> Reply:
        """Answer as login.microsoftonline.com."""
        base = f"https://{LOGIN_HOST}"
        if request.path.endswith("/openid-configuration"):
            tenant = request.path.split("/")[1]
            paths = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
            urls = {name: f"{base}/{tenant}/oauth2/v2.0/{path}" for name, path in paths.items()}
            return Reply(body={"issuer": f"{base}/{tenant}/v2.0", **urls})
        if request.path.endswith("/discovery/instance"):
            known = {"preferred_network": LOGIN_HOST, "preferred_cache": "login.windows.net", "aliases": [LOGIN_HOST]}
            found = f"{base}/{TENANT}/v2.0/.well-known/openid-configuration"
            return Reply(body={"tenant_discovery_endpoint": found, "metadata": [known]})
        if request.method != "POST" or not request.path.endswith("/oauth2/v2.0/token"):
            raise Refusal(404, "NotFound", f"There is no {request.path} here.")
        form = {name: values[-1] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return _entra_error(400, "unsupported_grant_type", "AADSTS70003: The twin issues client credentials only.")
        given = f"{form.get('client_id')}:{form.get('client_secret')}"
        if not hmac.compare_digest(given, f"{self.client_id}:{self.client_secret}"):
            return _entra_error(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
        token = self.issue(form.get("scope", "").split(" ")[0], "service principal", appid=self.client_id)
        lasts = int(self.lifetime_s)
        granted = {"token_type": "Bearer", "expires_in": lasts, "ext_expires_in": lasts, "access_token": token}
        return Reply(body=granted)

    # The local network of a job or a virtual machine

    def local(self, request: Request) -> Reply:
        """Answer as the identity endpoints that are not on the internet."""
        resource = request.query.get("resource", "")
        if not resource:
            raise Refusal(400, "invalid_request", "The parameter `resource` is missing.")
        if request.path == "/metadata/identity/oauth2/token":
            self._let_in(request.headers.get("metadata"), "true")
        elif request.path == "/msi/appservice":
            self._let_in(request.headers.get("x-identity-header"), self.local_secret)
        elif request.path == "/msi/azureml":
            self._let_in(request.headers.get("secret"), self.local_secret)
        elif request.path.startswith("/obo/"):
            self._let_in(request.path.removeprefix("/obo/"), self.local_secret)
            return self._granted(resource, "submitting user", idtyp="user")
        else:
            raise Refusal(404, "NotFound", f"There is no {request.path} here.")
        asked = request.query.get("client_id") or request.query.get("clientid")
        if asked and asked not in self.client_ids:
            return Reply(400, {"error": "invalid_request", "error_description": "Identity not found"})
        client_id = asked or next(iter(self.client_ids), str(uuid.UUID(int=1)))
        return self._granted(resource, client_id, idtyp="app", appid=client_id)

    def _let_in(self, given: str | None, expected: str) -> None:
        if not hmac.compare_digest((given or "").encode(), expected.encode()):
            raise Refusal(401, "Unauthorized", "The identity endpoint was not addressed as this environment demands.")

    def _granted(self, resource: str, who: str, **claims: str) -> Reply:
        lasts = int(self.lifetime_s)
        times = {"expires_in": str(lasts), "expires_on": str(int(time.time()) + lasts)}
        token = self.issue(resource, who, **claims)
        return Reply(body={"access_token": token, **times, "resource": resource, "token_type": "Bearer"})

    def job_environment(self, port: int, *, on_behalf_of: bool) -> dict[str, str]:
        """What a job finds in its environment: the managed identity's endpoint, and with consent the submitter's."""
        found = {"MSI_ENDPOINT": f"http://127.0.0.1:{port}/msi/azureml", "MSI_SECRET": self.local_secret}
        if self.client_ids:
            found["DEFAULT_IDENTITY_CLIENT_ID"] = self.client_ids[0]
        if on_behalf_of:
            found["OBO_ENDPOINT"] = f"http://127.0.0.1:{port}/obo/{self.local_secret}"
        return found


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _unauthorised(code: str, message: str) -> Refusal:
    challenge = f'Bearer authorization_uri="https://{LOGIN_HOST}/{TENANT}", error="invalid_token"'
    return Refusal(401, code, message, {"WWW-Authenticate": challenge})


def _entra_error(status: int, error: str, description: str) -> Reply:
    return Reply(status, {"error": error, "error_description": description, "error_codes": []})
