"""The one client of a process: the openai SDK's authentication, URLs and errors over one pool of connections."""

from __future__ import annotations

import json
import os
import ssl
import urllib.request
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

import httpx2
import openai

from mmlu_pipe.endpoint.address import base_url, is_v1
from mmlu_pipe.endpoint.credentials import Credential
from mmlu_pipe.endpoint.transport import DirectTransport
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import Endpoint, JsonObject

__all__ = ["Post", "build_transport", "open_client"]

Post = Callable[[JsonObject], httpx2.Response]
"""Send one chat completions body; raises the SDK's errors for any status from 300 on."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)  # as the SDK writes bodies

_CONNECT_S = 15.0


def build_transport(endpoint: Endpoint, connections: int) -> httpx2.BaseTransport:
    """A transport with at most `connections` connections, kept open, through the environment's proxy if it names one.

    A client that is given a transport ignores HTTPS_PROXY and NO_PROXY, so the one route to the one host is settled
    here. Trust is the system's store, or SSL_CERT_FILE / SSL_CERT_DIR.

    Raises:
        ConfigError: the environment names a file of certificates or a proxy that cannot be used.
    """
    try:
        trust = httpx2.create_ssl_context(trust_env=True)
    except (OSError, ssl.SSLError) as error:
        name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "the trust store")
        raise ConfigError(f"{name}: {os.environ.get(name, '')} cannot be read as certificates ({error})") from error
    proxy = _proxy(endpoint.endpoint)
    if proxy is None:
        return DirectTransport(trust, connections)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60.0)
    try:
        return httpx2.HTTPTransport(verify=trust, limits=limits, proxy=proxy)
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        # The error may show the address, and the address a password.
        reason = "SOCKS needs the package socksio" if isinstance(error, ImportError) else "it is no proxy's URL"
        raise ConfigError(
            f"the proxy that the environment names for {urlsplit(endpoint.endpoint).scheme} cannot be used ({reason}); "
            "it looks like http://name:port"
        ) from None


def open_client(
    endpoint: Endpoint, credential: Credential, transport: httpx2.BaseTransport, *, timeout: float = 300.0
) -> tuple[Post, Callable[[], None]]:
    """A function that posts a body to the deployment, and one that closes the transport.

    An answer that stays silent for `timeout` seconds is given up.

    The SDK prepares one request, and all others are like it but for their body and a fresh token: to have it prepare,
    send and read each of them costs more than everything else in a call.
    """
    sdk = _sdk(endpoint, credential.key, httpx2.Timeout(timeout, connect=min(_CONNECT_S, timeout), pool=None))
    pattern = sdk.post("/chat/completions", cast_to=httpx2.Response, body={}).request

    def post(body: JsonObject) -> httpx2.Response:
        content = _ENCODER.encode(body).encode()
        headers = httpx2.Headers(pattern.headers)
        headers["Content-Length"] = str(len(content))
        if credential.token_provider is not None:
            headers["Authorization"] = f"Bearer {credential.token_provider()}"
        request = httpx2.Request(
            "POST", pattern.url, headers=headers, stream=httpx2.ByteStream(content), extensions=pattern.extensions
        )
        try:
            response = transport.handle_request(request)
            with closing(response):
                response.request = request
                response.read()
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except (httpx2.RequestError, ssl.SSLError) as error:  # a proxy's tunnel may end in the latter
            raise openai.APIConnectionError(request=request) from error
        if not response.is_success:
            raise sdk._make_status_error_from_response(response)
        return response

    return post, transport.close


def _sdk(endpoint: Endpoint, key: str | None, timeout: httpx2.Timeout) -> openai.OpenAI:
    """The SDK's client for the endpoint's style; what it sends goes nowhere, and without a key its token is none."""
    nowhere = httpx2.MockTransport(lambda _request: httpx2.Response(200))
    http_client = httpx2.Client(transport=nowhere, timeout=timeout)
    client: openai.OpenAI
    if is_v1(endpoint.api_version):
        client = openai.OpenAI(
            base_url=base_url(endpoint),
            api_key=key or "token",
            default_headers={"api-key": key} if key else {},
            default_query={} if endpoint.api_version == "v1" else {"api-version": endpoint.api_version},
            http_client=http_client,
        )
    else:
        client = openai.AzureOpenAI(
            base_url=base_url(endpoint),
            api_version=endpoint.api_version,
            api_key=key,
            azure_ad_token=None if key else "token",
            http_client=http_client,
        )
    client.organization = client.project = None  # of an OpenAI account, from the environment; no business of Azure
    return client


def _proxy(url: str) -> str | None:
    """The environment's proxy for a URL; NO_PROXY may name the host, its domain, or host:port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(host) or (parts.port and urllib.request.proxy_bypass(f"{host}:{parts.port}")):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
