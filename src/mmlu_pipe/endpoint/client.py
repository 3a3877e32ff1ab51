"""The one client of a process: the openai SDK's authentication, URLs and error mapping over one connection pool."""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from mmlu_pipe.endpoint.address import base_url, is_v1
from mmlu_pipe.endpoint.credentials import Credential
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import Endpoint, JsonObject

__all__ = ["Post", "build_transport", "open_client"]

Post = Callable[[JsonObject], httpx2.Response]
"""Send one chat completions body; raises the SDK's errors for any status from 300 on."""

TIMEOUT = httpx2.Timeout(300.0, connect=15.0, pool=None)


def build_transport(endpoint: Endpoint, connections: int) -> httpx2.HTTPTransport:
    """A transport with at most `connections` connections, kept open, through the environment's proxy if it names one.

    A client that is given a transport ignores HTTPS_PROXY and NO_PROXY, so the one route to the one host is settled
    here. Trust is the system's store, or SSL_CERT_FILE / SSL_CERT_DIR.

    Raises:
        ConfigError: the environment names a file of certificates or a proxy that cannot be used.
    """
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60.0)
    try:
        trust = httpx2.create_ssl_context(trust_env=True)
    except (OSError, ssl.SSLError) as error:
        name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "the trust store")
        raise ConfigError(f"{name}: {os.environ.get(name, '')} cannot be read as certificates ({error})") from error
    try:
        return httpx2.HTTPTransport(verify=trust, limits=limits, proxy=_proxy(endpoint.endpoint))
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        # The error may show the address, and the address a password.
        reason = "SOCKS needs the package socksio" if isinstance(error, ImportError) else "it is no proxy's URL"
        raise ConfigError(
            f"the proxy that the environment names for {urlsplit(endpoint.endpoint).scheme} cannot be used ({reason}); "
            "it looks like http://name:port"
        ) from None


def open_client(
    endpoint: Endpoint, credential: Credential, transport: httpx2.BaseTransport
) -> tuple[Post, Callable[[], None]]:
    """A function that posts a body to the deployment, and one that closes the client.

    The SDK's own retries are off (endpoint/retry.py), and its response models are not built: they cost more than
    everything else in a call.
    """
    common: dict[str, Any] = {"http_client": httpx2.Client(transport=transport, timeout=TIMEOUT), "max_retries": 0}
    client: openai.OpenAI
    if is_v1(endpoint.api_version):
        headers = {"api-key": credential.key} if credential.key else {}
        query = {} if endpoint.api_version == "v1" else {"api-version": endpoint.api_version}
        client = openai.OpenAI(
            base_url=base_url(endpoint),
            api_key=credential.key or credential.token_provider,
            default_headers=headers,
            default_query=query,
            **common,
        )
    else:
        client = openai.AzureOpenAI(
            base_url=base_url(endpoint),
            api_version=endpoint.api_version,
            api_key=credential.key,
            azure_ad_token_provider=credential.token_provider,
            **common,
        )
    client.organization = client.project = None  # of an OpenAI account, from the environment; no business of Azure

    def post(body: JsonObject) -> httpx2.Response:
        return client.post("/chat/completions", cast_to=httpx2.Response, body=body)

    return post, client.close


def _proxy(url: str) -> str | None:
    """The environment's proxy for a URL; NO_PROXY may name the host, its domain, or host:port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(host) or (parts.port and urllib.request.proxy_bypass(f"{host}:{parts.port}")):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
