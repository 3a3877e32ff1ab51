"""The one client: its connections, its way through a proxy, whom it trusts, and what its requests look like."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
import trustme

from mmlu_pipe.endpoint.address import base_url
from mmlu_pipe.endpoint.client import build_transport, open_client
from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.credentials import Credential
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import ConfigError, EndpointError, EndpointUnavailable
from mmlu_pipe.records import Call, Endpoint
from tests.servers.aoai import AoaiServer, Json, Reply
from tests.servers.proxy import ConnectProxy
from tests.servers.raw import OK, RawServer

MESSAGES = [{"role": "user", "content": "Which?"}]
FAR_AWAY = "https://my.openai.azure.com"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    monkeypatch.setattr("mmlu_pipe.endpoint.exchange.retry_delay", lambda attempt, headers: 0.001)


def ask(
    address: str,
    count: int = 1,
    workers: int = 1,
    version: str = "2024-10-21",
    deployment: str = "dep",
    **options: bool,
) -> list[Call]:
    """The records of so many calls over so many threads."""
    sessions = [LineSession(number) for number in range(1, count + 1)]
    endpoint = Endpoint(address, deployment, "gpt-4o", version)
    with (
        connect(endpoint, ModelOptions(workers=workers, **options)) as connection,
        ThreadPoolExecutor(workers) as pool,
    ):
        client = connection.client
        assert client is not None
        list(pool.map(lambda session: client.ask(MESSAGES, session), sessions))
    return [call for session in sessions for call in session.calls]


# Connections


def in_step(parties: int) -> Callable[[Json, int], str]:
    """Answers that are given only once so many requests are under way together."""
    barrier = threading.Barrier(parties)

    def answer(body: Json, count: int) -> str:
        barrier.wait(30)
        return "2"

    return answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("version", ["2024-10-21", "v1"])
def test_many_requests_open_no_more_connections_than_there_are_workers(version: str, stream: bool) -> None:
    with AoaiServer(answer=in_step(6)) as server:
        calls = ask(server.endpoint, count=60, workers=6, version=version, stream=stream)
        assert len(calls) == len(server.requests) == 60
        assert server.connections == server.in_flight_peak == 6
        assert all(body.get("stream", False) == stream for body in server.bodies)


@pytest.mark.parametrize("stream", [False, True])
def test_one_worker_keeps_one_connection_through_refusals(stream: bool) -> None:
    replies = [Reply("0"), Reply(status=500), Reply("1"), Reply(status=429), Reply("2"), Reply(refusal="no")]
    with AoaiServer(answer=lambda body, count: replies[count]) as server:
        ask(server.endpoint, count=3, stream=stream)
        assert len(server.requests) == 5
        assert server.connections == 1


def test_a_pool_smaller_than_the_threads_makes_them_wait() -> None:
    with AoaiServer() as server:
        endpoint = Endpoint(server.endpoint, "dep", "gpt-4o", "2024-10-21")
        with (
            connect(endpoint, ModelOptions(workers=2)) as connection,
            ThreadPoolExecutor(12) as pool,
        ):
            client = connection.client
            assert client is not None
            list(pool.map(lambda number: client.ask(MESSAGES, LineSession(number)), range(48)))
        assert len(server.requests) == 48
        assert server.connections <= 2


# What a request looks like


@pytest.mark.parametrize(
    ("version", "deployment", "path", "model"),
    [
        ("2024-10-21", "dep", "/openai/deployments/dep/chat/completions?api-version=2024-10-21", "gpt-4o"),
        (
            "2024-10-21",
            "my dép/1",
            "/openai/deployments/my%20d%C3%A9p%2F1/chat/completions?api-version=2024-10-21",
            None,
        ),
        ("v1", "dep", "/openai/v1/chat/completions", "dep"),
        ("preview", "dep", "/openai/v1/chat/completions?api-version=preview", "dep"),
        ("latest", "dep", "/openai/v1/chat/completions?api-version=latest", "dep"),
    ],
)
def test_url_and_model_are_of_the_style(version: str, deployment: str, path: str, model: str | None) -> None:
    with AoaiServer({deployment: "gpt-4o"}) as server:
        ask(server.endpoint, version=version, deployment=deployment)
        (request,) = server.requests
    assert request.path == path
    assert request.body["model"] == model or model is None
    assert request.body["messages"] == MESSAGES
    assert request.headers["api-key"] == "test-key"
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("version", ["2024-10-21", "v1"])
def test_a_gateways_path_goes_first(version: str) -> None:
    with AoaiServer() as server, pytest.raises(EndpointError, match="no chat API at this address"):
        ask(f"{server.endpoint}/team-a", version=version)
    assert server.requests[0].path.startswith("/team-a/openai/")


def lines_of(request: bytes) -> tuple[bytes, list[bytes], bytes]:
    """The request line, the headers in alphabetical order, and the body."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    named = [header.partition(b":") for header in headers]
    return first, sorted(name.lower() + b":" + value for name, _, value in named), body


@pytest.mark.parametrize("auth", ["key", "entra"])
@pytest.mark.parametrize("version", ["2024-10-21", "v1", "preview"])
def test_a_request_is_byte_for_byte_the_sdks_own(version: str, auth: str) -> None:
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "What is 1 × 1, “exactly”?\n🙂"}],
        "temperature": 0,
    }
    credential = Credential("a key", key="k") if auth == "key" else Credential("a token", token_provider=lambda: "t")
    with RawServer([OK], [OK]) as server:
        where = Endpoint(server.url, "my dep", "gpt-4o", version)
        post, close = open_client(where, credential, build_transport(where, 1))
        post(body)
        close()
        http_client = httpx2.Client(timeout=httpx2.Timeout(300.0, connect=15.0, pool=None))
        if version == "2024-10-21":
            sdk: openai.OpenAI = openai.AzureOpenAI(
                base_url=base_url(where),
                api_version=version,
                api_key=credential.key,
                azure_ad_token_provider=credential.token_provider,
                http_client=http_client,
            )
        else:
            sdk = openai.OpenAI(
                base_url=base_url(where),
                api_key=credential.key or credential.token_provider,
                default_headers={"api-key": credential.key} if credential.key else {},
                default_query={"api-version": version} if version == "preview" else {},
                http_client=http_client,
            )
        with sdk:
            sdk.post("/chat/completions", cast_to=httpx2.Response, body=body)
        ours, theirs = map(lines_of, server.requests)
    assert ours == theirs


@pytest.mark.parametrize("version", ["2024-10-21", "v1"])
def test_every_request_carries_the_token_of_its_moment(version: str) -> None:
    tokens = iter(["first", "second", "third"])
    with RawServer([OK] * 2) as server:
        where = Endpoint(server.url, "dep", "gpt-4o", version)
        credential = Credential("a token", token_provider=lambda: next(tokens))
        post, close = open_client(where, credential, build_transport(where, 1))
        post({})
        post({})
        close()
        found = [line for request in server.requests for line in lines_of(request)[1] if b"authorization" in line]
    assert found == [b"authorization: Bearer first", b"authorization: Bearer second"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
        (307, openai.APIStatusError),
    ],
)
def test_a_refusal_is_the_sdks_own_error(status: int, kind: type[openai.APIStatusError]) -> None:
    answer = b'HTTP/1.1 %d No\r\nRetry-After: 7\r\nContent-Length: 29\r\n\r\n{"error": {"message": "why"}}' % status
    with RawServer([answer]) as server:
        where = Endpoint(server.url, "dep", "gpt-4o", "2024-10-21")
        post, close = open_client(where, Credential("a key", key="k"), build_transport(where, 1))
        with pytest.raises(kind, match="why") as caught:
            post({})
        close()
    assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (status, "7")
    assert caught.value.request.headers["api-key"] == "k"


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with (
        AoaiServer() as other,
        AoaiServer(
            answer=lambda body, count: Reply(status=307, headers={"location": f"{other.endpoint}/openai/v1/x"})
        ) as server,
    ):
        with pytest.raises(EndpointError, match="HTTP 307"):
            ask(server.endpoint)
        assert other.requests == []


# Proxies and trust


@dataclass(frozen=True)
class Secure:
    """A server that speaks TLS with a certificate of a private CA."""

    server: AoaiServer
    authority: Path

    @property
    def target(self) -> tuple[str, int]:
        parts = urlsplit(self.server.endpoint)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("ca")
    authority = trustme.CA()
    found = {name: folder / f"{name}.pem" for name in ("authority", "chain", "key", "other")}
    leaf = authority.issue_cert("127.0.0.1", "my.openai.azure.com")
    authority.cert_pem.write_to_path(str(found["authority"]))
    trustme.CA().cert_pem.write_to_path(str(found["other"]))
    leaf.private_key_pem.write_to_path(str(found["key"]))
    for number, part in enumerate(leaf.cert_chain_pems):
        part.write_to_path(str(found["chain"]), append=number > 0)
    return found


@pytest.fixture
def secure(certificates: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Secure]:
    """The server; its CA is trusted by SSL_CERT_FILE, and nothing is exempt from a proxy."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates["authority"]))
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    with AoaiServer(tls=(certificates["chain"], certificates["key"])) as server:
        yield Secure(server, certificates["authority"])


@pytest.mark.parametrize("version", ["2024-10-21", "v1"])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_https_goes_through_the_environments_proxy(
    variable: str, version: str, secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(secure.target) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        ask(FAR_AWAY, version=version)
        assert proxy.tunnels == ["my.openai.azure.com:443"]
    (request,) = secure.server.requests
    assert request.headers["api-key"] == "test-key"
    assert request.headers["host"] == "my.openai.azure.com"


def test_a_proxy_may_be_named_without_a_scheme(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(secure.target) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        ask(FAR_AWAY)
        assert len(proxy.tunnels) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_tunnels_are_reused(stream: bool, secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    secure.server.answer = in_step(4)
    with ConnectProxy(secure.target) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        ask(FAR_AWAY, count=24, workers=4, stream=stream)
        assert len(secure.server.requests) == 24
        assert len(proxy.tunnels) == secure.server.connections == 4


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("127.0.0.1", True),
        ("localhost, 127.0.0.1", True),
        ("127.0.0.1:{port}", True),
        ("*", True),
        ("127.0.0.1:1", False),
        ("localhost,.azure.com", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_is_respected(
    variable: str, no_proxy: str, direct: bool, secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, no_proxy.format(port=secure.target[1]))
    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        ask(secure.server.endpoint)
        assert len(secure.server.requests) == 1
        assert len(proxy.tunnels) == (0 if direct else 1)


@pytest.mark.parametrize("no_proxy", [".openai.azure.com", "azure.com", "my.openai.azure.com"])
def test_no_proxy_may_name_a_domain(no_proxy: str, secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        endpoint = Endpoint(FAR_AWAY, "dep", "gpt-4o", "2024-10-21")
        with connect(endpoint, ModelOptions()):  # asking would leave this machine
            pass
        from mmlu_pipe.endpoint.client import _proxy

        assert _proxy(FAR_AWAY) is None
        assert _proxy("https://my.services.example.org") == proxy.url


def test_a_proxy_for_http_is_not_used_for_https(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        ask(secure.server.endpoint)
        assert proxy.asked == []


def test_a_proxys_user_and_password_are_sent_to_the_proxy_alone(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(secure.target, credentials=("dom\\me", "p@ss word")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://dom%5Cme:p%40ss%20word@{proxy.address}")
        ask(FAR_AWAY, count=2)
        assert proxy.tunnels == ["my.openai.azure.com:443"]
        assert proxy.authorizations == [proxy.expected]
    assert all("proxy-authorization" not in request.headers for request in secure.server.requests)


@pytest.mark.parametrize("user", ["", "me:hunter2@"])
def test_a_proxy_that_refuses_is_named_without_its_password(
    user: str, secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(secure.target, credentials=("me", "right")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{user}{proxy.address}")
        with pytest.raises(EndpointUnavailable, match="407 Proxy Authentication Required") as caught:
            ask(FAR_AWAY)
    assert "HTTPS_PROXY" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert secure.server.requests == []


def test_a_proxy_that_is_not_there_is_told(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy() as gone:
        pass
    monkeypatch.setenv("HTTPS_PROXY", gone.url)
    with pytest.raises(EndpointUnavailable, match="ConnectError"):
        ask(FAR_AWAY)


@pytest.mark.parametrize("proxy", ["ftp://me:hunter2@localhost:1", "socks5://me:hunter2@localhost:1"])
def test_a_proxy_that_cannot_be_used_is_refused_before_any_request(
    proxy: str, secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigError, match="proxy") as caught:
        ask(FAR_AWAY)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("through_proxy", [False, True])
@pytest.mark.parametrize("trusted", ["other", None])
def test_a_certificate_that_is_not_trusted_ends_at_once_with_the_mend(
    trusted: str | None,
    through_proxy: bool,
    certificates: Mapping[str, Path],
    secure: Secure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates[trusted]))
    session = LineSession(1)
    with ConnectProxy(secure.target) as proxy:
        if through_proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        address = FAR_AWAY if through_proxy else secure.server.endpoint
        with connect(Endpoint(address, "dep", "gpt-4o", "2024-10-21"), ModelOptions()) as connection:
            assert connection.client is not None
            with pytest.raises(EndpointUnavailable, match="certificate is not trusted") as caught:
                connection.client.ask(MESSAGES, session)
    assert "SSL_CERT_FILE" in str(caught.value)
    assert "test-key" not in str(caught.value)
    assert caught.value.stops_run
    assert [(call.attempts, call.error) for call in session.calls] == [(1, "unavailable")]
    assert secure.server.requests == []


def test_a_connection_over_tls_is_kept(secure: Secure) -> None:
    calls = ask(secure.server.endpoint, count=12, workers=1)
    assert len(calls) == len(secure.server.requests) == 12
    assert secure.server.connections == 1


def test_a_certificate_of_another_host_is_not_trusted(
    certificates: Mapping[str, Path], secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(secure.target) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(EndpointUnavailable, match="certificate is not trusted"):
            ask("https://other.openai.azure.com")


@pytest.mark.parametrize("content", [None, "no certificate\n", ""])
def test_a_file_that_holds_no_certificates_is_refused_before_any_request(
    content: str | None, secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: .*ca\.pem"):
        ask(secure.server.endpoint)
    assert secure.server.requests == []
