"""Who asks: a key, or Entra ID. Azure itself is the only thing that is not real here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import azure.identity
import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from mmlu_pipe.endpoint import credentials
from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.credentials import KEY_VARIABLE, Credential, choose_credential, token_scope
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import AuthenticationFailed, ConfigError, EndpointUnavailable, MmluPipeError
from mmlu_pipe.records import Endpoint
from tests.servers.aoai import AoaiServer

FAR = 4_000_000_000
PUBLIC = Endpoint("https://my.openai.azure.com", "dep", "gpt-4o", "2024-10-21")
MESSAGES = [{"role": "user", "content": "Which?"}]


class FakeAzure:
    """What `DefaultAzureCredential` would be; it counts how often it is made and asked."""

    made: list[FakeAzure]
    failure: Exception | None = None
    lifetime = FAR

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.scopes: list[str] = []
        type(self).made.append(self)

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        self.scopes += scopes
        if self.failure:
            raise self.failure
        return AccessToken(f"bearer-secret-{len(self.scopes)}", self.lifetime)

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        token = self.get_token(*scopes)
        return AccessTokenInfo(token.token, token.expires_on)


def forget() -> None:
    for kept in (credentials._provider, credentials.default_credential, credentials._of_job):
        kept.cache_clear()


@pytest.fixture
def azure_(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeAzure]]:
    class Fresh(FakeAzure):
        made: list[FakeAzure] = []  # noqa: RUF012 - one list a test

    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", Fresh)
    forget()
    yield Fresh
    forget()


def endpoint(address: str, version: str = "2024-10-21") -> Endpoint:
    return Endpoint(address, "dep", "gpt-4o", version)


# Which one


@pytest.mark.parametrize("auth", ["key", "auto"])
def test_the_key_of_the_environment_is_used(
    auth: str, monkeypatch: pytest.MonkeyPatch, azure_: type[FakeAzure]
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " test-key\n")
    found = choose_credential(PUBLIC, auth)
    assert (found.key, found.token_provider) == ("test-key", None)
    assert found.shown == "API key (AZURE_OPENAI_API_KEY)"
    assert azure_.made == []


@pytest.mark.parametrize(("auth", "value"), [("entra", "test-key"), ("auto", None), ("auto", ""), ("auto", "  ")])
def test_entra_is_used(auth: str, value: str | None, monkeypatch: pytest.MonkeyPatch, azure_: type[FakeAzure]) -> None:
    if value is not None:
        monkeypatch.setenv(KEY_VARIABLE, value)
    found = choose_credential(PUBLIC, auth)
    assert found.key is None
    assert found.token_provider is not None
    assert found.token_provider() == "bearer-secret-1"
    assert found.shown == "Entra ID (azure-identity)"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_key_without_a_key_says_what_to_set(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv(KEY_VARIABLE, value)
    with pytest.raises(AuthenticationFailed, match="AZURE_OPENAI_API_KEY is not set") as caught:
        choose_credential(PUBLIC, "key")
    assert caught.value.stops_run
    assert "--auth entra" in str(caught.value)


@pytest.mark.parametrize("key", ["hunter2 hunter2", "hunter2\nhunter2", "hunter2\x00", "“hunter2”", "hunter2é"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "\x00" in key:  # no environment can hold it either
        key = "hunter2\x7f"
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(AuthenticationFailed, match="copy it again") as caught:
        choose_credential(PUBLIC, "auto")
    assert "hunter2" not in str(caught.value)


def test_another_way_is_refused(azure_: type[FakeAzure]) -> None:
    with pytest.raises(ConfigError, match="key, entra, auto"):
        choose_credential(PUBLIC, "keys")
    assert azure_.made == []


def test_no_secret_is_in_a_repr() -> None:
    credential = Credential("API key", key="hunter2")
    assert "hunter2" not in f"{credential!r} {credential} {[credential]}"


# Which cloud


@pytest.mark.parametrize(
    ("address", "scope", "authority"),
    [
        ("https://my.openai.azure.com", "https://cognitiveservices.azure.com/.default", "AZURE_PUBLIC_CLOUD"),
        ("https://my.services.ai.azure.com", "https://cognitiveservices.azure.com/.default", "AZURE_PUBLIC_CLOUD"),
        ("https://gw.example.org/team", "https://cognitiveservices.azure.com/.default", "AZURE_PUBLIC_CLOUD"),
        ("https://azure.us.example.org", "https://cognitiveservices.azure.com/.default", "AZURE_PUBLIC_CLOUD"),
        ("https://my.openai.azure.us", "https://cognitiveservices.azure.us/.default", "AZURE_GOVERNMENT"),
        ("https://my.cognitiveservices.azure.us", "https://cognitiveservices.azure.us/.default", "AZURE_GOVERNMENT"),
        ("https://my.openai.azure.cn", "https://cognitiveservices.azure.cn/.default", "AZURE_CHINA"),
    ],
)
def test_scope_and_authority_are_the_clouds(address: str, scope: str, authority: str, azure_: type[FakeAzure]) -> None:
    assert token_scope(endpoint(address)) == (scope, authority)
    provider = choose_credential(endpoint(address), "entra").token_provider
    assert provider is not None
    provider()
    assert azure_.made[0].scopes == [scope]
    assert azure_.made[0].options["authority"] == getattr(azure.identity.AzureAuthorityHosts, authority)


def test_the_authority_of_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch, azure_: type[FakeAzure]) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "login.example.org")
    choose_credential(PUBLIC, "entra")
    assert azure_.made[0].options["authority"] == "login.example.org"


# One credential, and its tokens


def test_a_process_has_one_credential_and_asks_it_once(azure_: type[FakeAzure]) -> None:
    others = [endpoint("https://two.openai.azure.com"), endpoint("https://three.services.ai.azure.com", "v1")]
    providers = [choose_credential(one, "entra").token_provider for one in (PUBLIC, *others, PUBLIC)]
    assert len(azure_.made) == 1
    assert {provider() for provider in providers if provider} == {"bearer-secret-1"}
    assert len(azure_.made[0].scopes) == 1


def test_an_expired_token_is_renewed(azure_: type[FakeAzure]) -> None:
    azure_.lifetime = 1
    provider = choose_credential(PUBLIC, "entra").token_provider
    assert provider is not None
    assert [provider(), provider()] == ["bearer-secret-1", "bearer-secret-2"]
    assert len(azure_.made) == 1


@pytest.mark.parametrize(
    "failure",
    [
        ClientAuthenticationError("DefaultAzureCredential failed to retrieve a token.\nAttempted credentials: many"),
        azure.identity.CredentialUnavailableError("DefaultAzureCredential failed to retrieve a token."),
    ],
)
def test_no_token_says_to_log_in(failure: Exception, azure_: type[FakeAzure]) -> None:
    azure_.failure = failure
    provider = choose_credential(PUBLIC, "entra").token_provider
    assert provider is not None
    with pytest.raises(AuthenticationFailed, match="az login") as caught:
        provider()
    assert caught.value.stops_run
    assert KEY_VARIABLE in str(caught.value)
    assert str(caught.value).endswith("DefaultAzureCredential failed to retrieve a token.")


def test_a_token_service_out_of_reach_is_no_refusal(azure_: type[FakeAzure]) -> None:
    azure_.failure = ServiceRequestError("Name or service not known")
    provider = choose_credential(PUBLIC, "entra").token_provider
    assert provider is not None
    with pytest.raises(EndpointUnavailable, match="ServiceRequestError: Name or service not known"):
        provider()


def test_the_real_chain_of_credentials_fails_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing faked: on this machine nobody is logged in, and the one link that is left cannot run."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    monkeypatch.setenv("PATH", "")
    forget()
    try:
        provider = choose_credential(PUBLIC, "entra").token_provider
        assert provider is not None
        with pytest.raises(AuthenticationFailed, match="az login"):
            provider()
    finally:
        forget()


# On the wire


def asked(server: AoaiServer, version: str, auth: str) -> str:
    with connect(endpoint(server.endpoint, version), ModelOptions(auth=auth)) as connection:
        assert connection.client is not None
        connection.client.ask(MESSAGES, LineSession(1))
        return connection.auth_shown


@pytest.mark.parametrize("version", ["2024-10-21", "v1", "preview"])
def test_the_bearer_token_is_on_the_wire_and_nothing_else(
    version: str, monkeypatch: pytest.MonkeyPatch, azure_: type[FakeAzure]
) -> None:
    for name in (KEY_VARIABLE, "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-somebody-else")
    with AoaiServer(key=None, bearer="bearer-secret-1") as server:
        assert asked(server, version, "entra") == "Entra ID (azure-identity)"
        headers = server.requests[0].headers
    assert headers["authorization"] == "Bearer bearer-secret-1"
    assert "api-key" not in headers
    assert "of-somebody-else" not in str(headers)


@pytest.mark.parametrize("version", ["2024-10-21", "v1", "preview"])
def test_the_key_is_on_the_wire_and_nothing_else(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "test-key")
    for name in ("AZURE_OPENAI_AD_TOKEN", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-somebody-else")
    for name in ("AZURE_OPENAI_ENDPOINT", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "https://of-somebody-else.example.org")
    monkeypatch.setenv("OPENAI_API_VERSION", "2020-01-01")
    with AoaiServer() as server:
        assert asked(server, version, "auto") == "API key (AZURE_OPENAI_API_KEY)"
        (request,) = server.requests
    assert request.headers["api-key"] == "test-key"
    assert request.headers.get("authorization", "Bearer test-key") == "Bearer test-key"
    assert "of-somebody-else" not in str(request)


@pytest.mark.parametrize("version", ["2024-10-21", "v1"])
def test_no_token_ends_a_call_with_the_advice(version: str, azure_: type[FakeAzure]) -> None:
    azure_.failure = azure.identity.CredentialUnavailableError("nobody is logged in")
    with AoaiServer() as server, pytest.raises(AuthenticationFailed, match="az login"):
        asked(server, version, "entra")
    assert server.requests == []


def test_many_threads_share_one_token(azure_: type[FakeAzure]) -> None:
    failures: list[MmluPipeError] = []
    with (
        AoaiServer(key=None, bearer="bearer-secret-1") as server,
        connect(endpoint(server.endpoint), ModelOptions(auth="entra", workers=8)) as connection,
    ):
        client = connection.client
        assert client is not None

        def work(number: int) -> None:
            try:
                client.ask(MESSAGES, LineSession(number))
            except MmluPipeError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(azure_.made) == 1
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer bearer-secret-1"}
