"""The identity that a job was given, at the token endpoints of the twin."""

from __future__ import annotations

import importlib.util
import json
import os
import ssl
import subprocess
import sys
import uuid
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.endpoint import credentials
from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.credentials import choose_credential
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import AuthenticationFailed, ConfigError, EndpointUnavailable
from mmlu_pipe.records import Endpoint
from mmlu_pipe.rehearsal.exchange import Recorder, Reply, Request
from mmlu_pipe.rehearsal.faults import Faults
from mmlu_pipe.rehearsal.frontdoor import FrontDoor
from mmlu_pipe.rehearsal.identity import Identity
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer
from tests.servers.aoai import Reply as Refused

FIRST, SECOND, STRANGER = (f"{uuid.UUID(int=number)}" for number in (0x1111, 0x2222, 0x3333))
MESSAGES = [{"role": "user", "content": "Which?"}]
NO_TOKEN = "no token for the managed identity …"


class TokenEndpoints:
    """Those of a compute with two user-assigned identities, the first of which is the default."""

    def __init__(self) -> None:
        self.identity = Identity((FIRST, SECOND))
        self.asked: list[Request] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.door = FrontDoor(context, {"localhost": self._answer}, Recorder(), Faults())

    def _answer(self, request: Request) -> Reply:
        self.asked.append(request)
        return self.identity.local(request)

    def environment(self, *, on_behalf_of: bool = False) -> dict[str, str]:
        return self.identity.job_environment(self.door.port, on_behalf_of=on_behalf_of)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenEndpoints]:
    found = TokenEndpoints()
    found.door.start()
    for name in ("IDENTITY_ENDPOINT", "OBO_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    credentials._of_job.cache_clear()
    yield found
    credentials._of_job.cache_clear()
    found.door.stop()


def endpoint(address: str = "https://my.openai.azure.com") -> Endpoint:
    return Endpoint(address, "dep", "gpt-4o", "2024-10-21")


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def clients(tokens: TokenEndpoints) -> list[str | None]:
    return [request.query.get("clientid") for request in tokens.asked]


# A managed identity


@pytest.mark.parametrize(
    ("named", "default", "azure", "expected"),
    [
        (SECOND, FIRST, STRANGER, SECOND),
        (None, SECOND, STRANGER, SECOND),
        (None, None, SECOND, SECOND),
        (None, "", SECOND, SECOND),
        (None, None, None, None),
    ],
)
def test_the_client_id_is_the_named_one_or_the_jobs_or_none(
    named: str | None,
    default: str | None,
    azure: str | None,
    expected: str | None,
    tokens: TokenEndpoints,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("DEFAULT_IDENTITY_CLIENT_ID", default), ("AZURE_CLIENT_ID", azure)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    found = choose_credential(endpoint(), "managed", named)
    assert found.key is None
    assert clients(tokens) == [expected]
    assert found.shown == ("managed identity" if expected is None else "managed identity …2222")
    assert SECOND not in found.shown


@pytest.mark.parametrize("cloud", ["com", "us", "cn"])
def test_the_token_is_for_the_cloud_of_the_endpoint(cloud: str, tokens: TokenEndpoints) -> None:
    found = choose_credential(endpoint(f"https://my.openai.azure.{cloud}"), "managed")
    assert found.token_provider is not None
    assert claims(found.token_provider())["aud"] == f"https://cognitiveservices.azure.{cloud}"
    assert [request.query["resource"] for request in tokens.asked] == [f"https://cognitiveservices.azure.{cloud}"]


def test_one_token_serves_all_requests_of_a_process(tokens: TokenEndpoints) -> None:
    seen: list[str] = []
    with AoaiServer(key=None, bearer=lambda token: not seen.append(token or "")) as server:
        for _ in range(2):
            with connect(endpoint(server.endpoint), ModelOptions(auth="managed")) as connection:
                assert connection.client is not None
                connection.client.ask(MESSAGES, LineSession(1))
                assert connection.facts["auth"] == "managed identity …1111"
    assert len(tokens.asked) == len(set(seen)) == 1
    assert claims(seen[0])["appid"] == FIRST


def test_a_key_in_the_environment_is_not_used_in_its_place(
    tokens: TokenEndpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    assert choose_credential(endpoint(), "managed").key is None


def test_an_identity_that_the_compute_has_not_fails_before_any_question(tokens: TokenEndpoints) -> None:
    with (
        AoaiServer() as server,
        pytest.raises(AuthenticationFailed, match=f"{NO_TOKEN}3333: assign it") as caught,
        connect(endpoint(server.endpoint), ModelOptions(auth="managed", identity_client_id=STRANGER)),
    ):
        pass
    assert server.requests == []
    assert caught.value.stops_run
    assert "--identity user" in str(caught.value)
    assert clients(tokens) == [STRANGER]


def test_a_token_endpoint_out_of_reach_is_no_refusal(tokens: TokenEndpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://127.0.0.1:9/msi")
    with pytest.raises(EndpointUnavailable, match="no Entra ID token"):
        choose_credential(endpoint(), "managed")


@pytest.mark.parametrize("status", [401, 403])
def test_an_endpoint_that_refuses_it_names_the_role_and_who_needs_it(status: int, tokens: TokenEndpoints) -> None:
    with (
        AoaiServer(key=None, bearer=lambda _token: True, answer=lambda _body, _count: Refused(status=status)) as server,
        connect(endpoint(server.endpoint), ModelOptions(auth="managed")) as connection,
    ):
        client = connection.client
        assert client is not None
        with pytest.raises(AuthenticationFailed, match="refused the managed identity …1111") as caught:
            client.ask(MESSAGES, LineSession(1))
    assert "give the managed identity …1111 the role 'Cognitive Services OpenAI User'" in str(caught.value)
    assert "az login" not in str(caught.value)


# The component, as a job starts it


def started(
    folder: Path, write_dataset: Callable[..., Path], server: AoaiServer, environment: dict[str, str], **ports: str
) -> subprocess.CompletedProcess[str]:
    arguments = jsonl_guidance_aoai.arguments(
        {
            "guidance_program": ROOT / "guidance_programs" / "zero_shot.py",
            "input_dataset": write_dataset(3),
            "azure_openai_endpoint": server.endpoint,
            "azure_openai_deployment": "dep",
            "azure_openai_model": "gpt-4o",
            "azure_openai_api_version": "2024-10-21",
            "output_dataset": folder,
            "error_dataset": folder,
            "calls_dataset": folder,
            **ports,
        }
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MSI_", "DEFAULT_", "OBO_"))}
    return subprocess.run(
        [sys.executable, "-m", "mmlu_pipe.components.jsonl_guidance_aoai", *arguments],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


needs_sdk = pytest.mark.skipif(
    importlib.util.find_spec("azure.ai") is None or importlib.util.find_spec("azure.ai.ml") is None,
    reason="azure-ai-ml is not installed; install it with: pip install -c constraints.txt -e '.[test]'",
)


@needs_sdk
def test_the_submitting_user_asks_on_whose_behalf_the_step_runs(
    tmp_path: Path, write_dataset: Callable[..., Path], tokens: TokenEndpoints
) -> None:
    seen: set[str | None] = set()
    with AoaiServer(key=None, bearer=lambda token: seen.add(token) is None) as server:
        done = started(tmp_path, write_dataset, server, tokens.environment(on_behalf_of=True), auth="user")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 3
    (token,) = seen
    assert claims(token or "") | {"aud": "https://cognitiveservices.azure.com", "idtyp": "user"} == claims(token or "")
    assert [request.path.split("/")[1] for request in tokens.asked] == ["obo"]
    assert "authorised by submitting user" in done.stderr


@needs_sdk
def test_a_step_that_is_not_on_the_users_behalf_says_how_to_submit_it(
    tmp_path: Path, write_dataset: Callable[..., Path], tokens: TokenEndpoints
) -> None:
    with AoaiServer() as server:
        done = started(tmp_path, write_dataset, server, tokens.environment(), auth="user")
        assert server.requests == []
    assert done.returncode == 1
    assert "error: no token for the submitting user: submit with --identity user" in done.stderr
    assert "Traceback" not in done.stderr
    assert tokens.asked == []


def test_a_managed_identity_answers_in_a_process_with_nothing_else(
    tmp_path: Path, write_dataset: Callable[..., Path], tokens: TokenEndpoints
) -> None:
    with AoaiServer(key=None, bearer=lambda token: claims(token or "")["appid"] == SECOND) as server:
        done = started(tmp_path, write_dataset, server, tokens.environment(), auth="managed", identity_client_id=SECOND)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 3
    assert tokens.identity.local_secret not in done.stderr
    assert SECOND not in "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.json*"))


@pytest.mark.parametrize("auth", ["auto", "user"])
def test_a_client_id_belongs_to_a_managed_identity(auth: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belongs to --auth managed"):
        jsonl_guidance_aoai(
            guidance_program=tmp_path,
            input_dataset=tmp_path,
            auth=auth,
            identity_client_id=FIRST,
            output_dataset=tmp_path / "o",
            error_dataset=tmp_path / "e",
            calls_dataset=tmp_path / "c",
        )
