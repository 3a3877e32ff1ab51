"""Spellings of an endpoint's address: made into one, or refused with the value to write instead."""

from __future__ import annotations

import re

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.endpoint.address import base_url, endpoint_kind, is_loopback, is_v1, normalise
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import Endpoint

RESOURCE = "https://my.openai.azure.com"
DATED = "2024-10-21"


def made(address: str, version: str = DATED, deployment: str = "dep") -> Endpoint:
    return normalise(Endpoint(address, deployment, "gpt-4o", version))


def refusal(address: str, version: str = DATED, deployment: str = "dep") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        made(address, version, deployment)
    assert caught.value.key
    return caught.value


# What is taken


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (RESOURCE, RESOURCE),
        (f"{RESOURCE}/", RESOURCE),
        (f"{RESOURCE}///", RESOURCE),
        (f"  {RESOURCE}/\n", RESOURCE),
        ("HTTPS://My.OpenAI.Azure.COM/", RESOURCE),
        (f"{RESOURCE}:443/", f"{RESOURCE}:443"),
        (f"{RESOURCE}:", RESOURCE),
        (f"{RESOURCE}?", RESOURCE),
        (f"{RESOURCE}#", RESOURCE),
        (f"{RESOURCE}/openai", RESOURCE),
        (f"{RESOURCE}/openai/", RESOURCE),
        ("https://my.services.ai.azure.com/", "https://my.services.ai.azure.com"),
        ("https://my.cognitiveservices.azure.com", "https://my.cognitiveservices.azure.com"),
        ("https://westeurope.api.cognitive.microsoft.com/", "https://westeurope.api.cognitive.microsoft.com"),
        ("https://my.openai.azure.us/", "https://my.openai.azure.us"),
        ("https://my.openai.azure.cn/", "https://my.openai.azure.cn"),
        ("https://gateway.example.org/team-a/aoai/", "https://gateway.example.org/team-a/aoai"),
        ("https://gateway.example.org/Team-A", "https://gateway.example.org/Team-A"),
        ("https://gateway.example.org/aoai/openai", "https://gateway.example.org/aoai"),
        ("https://gateway.example.org/openai/team-a", "https://gateway.example.org/openai/team-a"),
        ("https://10.1.2.3:8443", "https://10.1.2.3:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://LOCALHOST:8080/", "http://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://[2001:db8::7]", "https://[2001:db8::7]"),
    ],
)
def test_a_base_url_is_normalised(address: str, expected: str) -> None:
    endpoint = made(address)
    assert endpoint.endpoint == expected
    assert endpoint == normalise(endpoint)
    assert base_url(endpoint) == f"{expected}/openai/deployments/dep"


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions", "/chat/completions/", "/chat"])
@pytest.mark.parametrize("version", ["v1", "V1", "preview", "latest"])
@pytest.mark.parametrize("host", [RESOURCE, "https://my.services.ai.azure.com", "https://gateway.example.org/team"])
def test_the_v1_address_is_taken_with_a_v1_version(host: str, version: str, tail: str) -> None:
    endpoint = made(f"{host}/openai/v1{tail}", version)
    assert endpoint.endpoint == host
    assert endpoint.api_version == version.lower()
    assert base_url(endpoint) == f"{host}/openai/v1"
    assert base_url(made(host, version)) == f"{host}/openai/v1"


def test_a_v1_address_with_its_version_in_the_query_must_agree() -> None:
    assert made(f"{RESOURCE}/openai/v1/chat/completions?api-version=preview", "preview").endpoint == RESOURCE
    error = refusal(f"{RESOURCE}/openai/v1/chat/completions?api-version=preview", "v1")
    assert error.key == "aoai_api_version"
    assert 'set aoai_api_version to "preview"' in str(error)


@pytest.mark.parametrize("host", [RESOURCE, "https://my.cognitiveservices.azure.com", "https://gw.example.org/a/b"])
@pytest.mark.parametrize(
    "tail",
    [
        "/chat/completions?api-version=2024-10-21",
        "/chat/completions?API-Version=2024-10-21",
        "/chat/completions?api-version=",
        "/chat/completions",
        "/",
        "",
    ],
)
def test_a_pasted_target_uri_that_agrees_is_taken(host: str, tail: str) -> None:
    assert made(f"{host}/openai/deployments/dep{tail}").endpoint == host


def test_a_url_encoded_deployment_of_a_target_uri_is_read() -> None:
    endpoint = made(f"{RESOURCE}/openai/deployments/my%20d%C3%A9p/chat/completions", deployment="my dép")
    assert endpoint.endpoint == RESOURCE
    assert base_url(endpoint) == f"{RESOURCE}/openai/deployments/my%20d%C3%A9p"
    assert base_url(made(RESOURCE, deployment="a/b")) == f"{RESOURCE}/openai/deployments/a%2Fb"


@pytest.mark.parametrize(
    ("given", "kept"), [("2024-10-21", "2024-10-21"), (" 2025-04-01-PREVIEW ", "2025-04-01-preview"), ("V1", "v1")]
)
def test_an_api_version_is_made_lower_case(given: str, kept: str) -> None:
    assert made(RESOURCE, given).api_version == kept


# What is refused, and what to write instead


@pytest.mark.parametrize(
    ("address", "corrected"),
    [
        ("my.openai.azure.com", RESOURCE),
        ("my.openai.azure.com/openai/v1", f"{RESOURCE}/openai/v1"),
        ("my", RESOURCE),
        ("https:/my.openai.azure.com", RESOURCE),
        ("https//my.openai.azure.com", RESOURCE),
        ("https:my", RESOURCE),
        ("localhost:8080", "https://localhost:8080"),
        ("http://my.openai.azure.com", RESOURCE),
        ("http://my.openai.azure.com:80/", RESOURCE),
        ("htps://my.openai.azure.com", RESOURCE),
        ("wss://my.openai.azure.com", RESOURCE),
        ("http://10.0.0.1:8080/team/", "https://10.0.0.1:8080/team"),
        ("http://localhost.example.org", "https://localhost.example.org"),
        ("https://my.services.ai.azure.com/api/projects/first", "https://my.services.ai.azure.com"),
        ("https://my.services.ai.azure.com/api/projects/first/openai/v1", "https://my.services.ai.azure.com"),
        ("https://my.services.ai.azure.com/models", "https://my.services.ai.azure.com"),
        (
            "https://my.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
            "https://my.services.ai.azure.com",
        ),
        ("https://my.services.ai.azure.com/anthropic/v1/messages", "https://my.services.ai.azure.com"),
        (f"{RESOURCE}/openai/responses?api-version=2025-04-01-preview", RESOURCE),
        (f"{RESOURCE}/openai/v1/responses", RESOURCE),
        (f"{RESOURCE}/openai/v1/models", RESOURCE),
        (f"{RESOURCE}/openai/v1?api-version=2024-10-21", RESOURCE),
        (f"{RESOURCE}/openai/deployments", RESOURCE),
        (f"{RESOURCE}/openai/deployments/dep/embeddings?api-version=2023-05-15", RESOURCE),
        (f"{RESOURCE}/openai/deployments/dep/completions", RESOURCE),
        (f"{RESOURCE}/openai/openai", RESOURCE),
        ("https://gw.example.org/team/openai/deployments/dep/embeddings", "https://gw.example.org/team"),
        (f"{RESOURCE}?api-version=2024-10-21", RESOURCE),
        (f"{RESOURCE}/#/resource", RESOURCE),
    ],
)
def test_another_spelling_is_refused_with_the_corrected_value(address: str, corrected: str) -> None:
    version = "v1" if "/openai/v1" in address else DATED
    error = refusal(address, version)
    assert error.key == "aoai_endpoint"
    assert f'set it to "{corrected}"' in str(error)
    if not corrected.startswith("https://localhost"):
        assert made(corrected, version).endpoint == corrected.removesuffix("/openai/v1")


def test_a_target_uri_of_another_deployment_or_version_is_refused_with_both_mends() -> None:
    other = refusal(f"{RESOURCE}/openai/deployments/other%20one/chat/completions?api-version={DATED}")
    assert other.key == "aoai_deployment"
    assert 'set aoai_deployment to "other one"' in str(other)
    version = refusal(f"{RESOURCE}/openai/deployments/dep/chat/completions?api-version=2025-01-01-preview")
    assert version.key == "aoai_api_version"
    assert 'set aoai_api_version to "2025-01-01-preview"' in str(version)


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions"])
def test_a_v1_address_with_a_dated_version_is_refused_with_both_mends(tail: str) -> None:
    error = refusal(f"{RESOURCE}/openai/v1{tail}", DATED)
    assert error.key == "aoai_api_version"
    assert 'set aoai_api_version to "v1"' in str(error)
    assert f'aoai_endpoint to "{RESOURCE}"' in str(error)


@pytest.mark.parametrize(
    "address",
    [
        "https://",
        "https:///openai",
        "https://my.openai.azure.com:port",
        "https://my.openai.azure.com:99999",
        "https://my openai.azure.com",
        "https://my.openai.azure.com/a b",
        "https://my.openai\u200b.azure.com",
        "https://<name>.openai.azure.com",
        "https://-.example.org",
        "https://[::1",
        "https://[zz]/",
        "http://::1:80",
        "https://my.openai.azure.com\\openai",
    ],
)
def test_what_is_no_url_is_refused_with_an_example(address: str) -> None:
    error = refusal(address)
    assert error.key == "aoai_endpoint"
    assert "https://<name>.openai.azure.com" in str(error)


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hunter2@my.openai.azure.com",
        "https://hunter2@my.openai.azure.com",
        "http://user:hunter2@localhost",
        "user:hunter2@my.openai.azure.com",
        "https://gw.example.org/team?subscription-key=hunter2",
        "https://gw.example.org/openai/deployments/dep/chat/completions?api-key=hunter2&api-version=2024-10-21",
        "gw.example.org?key=hunter2",
        "https://gw.example.org:port/?key=hunter2",
        "https://gw.exa mple.org/?key=hunter2",
    ],
)
def test_a_secret_in_an_address_is_refused_and_never_shown(address: str) -> None:
    assert "hunter2" not in str(refusal(address))


@pytest.mark.parametrize("version", ["", "2024-1-1", "2024-10-21-beta", "v2", "latest!", "٢٠٢٤-١٠-٢١", "2024-10-21\n3"])
def test_what_is_no_api_version_is_refused(version: str) -> None:
    error = refusal(RESOURCE, version)
    assert error.key == "aoai_api_version"
    assert "2024-10-21" in str(error)


# Properties

SEGMENTS = st.sampled_from(
    [
        "openai",
        "OpenAI",
        "v1",
        "deployments",
        "dep",
        "chat",
        "completions",
        "models",
        "api",
        "projects",
        "team",
        "",
        "%20",
    ]
)
HOSTS = st.sampled_from(
    ["my.openai.azure.com", "MY.services.ai.azure.com", "localhost:1", "[::1]", "gw.example.org:8443", "my", "u:p@h"]
)
QUERIES = st.sampled_from(["", "?", "?api-version=2024-10-21", "?api-version=v1", "?a=b", "#", "#x"])
ADDRESSES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", "", " https://"]),
    HOSTS,
    st.lists(SEGMENTS, max_size=7).map(lambda found: "".join(f"/{segment}" for segment in found)),
    QUERIES,
)


@settings(max_examples=600, deadline=None)
@given(ADDRESSES | st.text(max_size=40), st.sampled_from([DATED, "2025-04-01-preview", "v1", "preview"]))
def test_normalising_is_idempotent_and_gives_a_url_that_the_client_can_ask(address: str, version: str) -> None:
    try:
        once = made(address, version)
    except ConfigError:
        return
    assert normalise(once) == once
    assert not once.endpoint.endswith("/")
    url = httpx2.URL(f"{base_url(once)}/chat/completions")
    assert url.scheme == "https" or is_loopback(url.host)
    assert not url.userinfo
    assert re.search(r"/openai/(v1|deployments/dep)/chat/completions$", url.path)
    assert url.path.lower().count("/openai/deployments/") == (0 if is_v1(version) else 1)


@settings(max_examples=600, deadline=None)
@given(ADDRESSES)
def test_a_corrected_value_is_itself_taken_or_corrected_further(address: str) -> None:
    version = DATED
    for _ in range(12):  # every round takes something off
        try:
            made(address, version)
            return
        except ConfigError as error:
            found = re.search(r'(?:set it to|set (aoai_\w+) to) "([^"]*)"', str(error))
            if not found:
                return  # nothing to correct it to
            if found[1] == "aoai_api_version":
                version = found[2]
            elif found[1] == "aoai_deployment":
                return
            else:
                address = found[2]
    raise AssertionError(f"{address} is corrected for ever")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (RESOURCE, "azure_openai"),
        ("https://my.openai.azure.us", "azure_openai_us_government"),
        ("https://my.openai.azure.cn", "azure_openai_china"),
        ("https://my.services.ai.azure.com", "foundry"),
        ("https://my.cognitiveservices.azure.com", "azure_ai_services"),
        ("https://my.cognitiveservices.azure.us", "azure_ai_services_us_government"),
        ("https://my.cognitiveservices.azure.cn", "azure_ai_services_china"),
        ("https://evilopenai.azure.com", "gateway"),
        ("https://gw.example.org", "gateway"),
        ("http://127.0.0.1:80", "loopback"),
        ("http://[::1]:80", "loopback"),
    ],
)
def test_the_kind_of_host_may_be_kept_instead_of_its_name(address: str, kind: str) -> None:
    assert endpoint_kind(made(address)) == kind
