"""The configurations that people have, end to end: a program, the real client, and an endpoint that refuses every
field its API version or model does not know. The table alone must get it right: no 400 is answered."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mmlu_pipe.bundled import bundled_program
from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.interpreter import model_for_line
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import EndpointRejected, RequirementUnmet
from mmlu_pipe.programs import Program, load_program
from mmlu_pipe.records import Call, Endpoint
from tests.servers.aoai import AoaiServer, Json

LINE = {"question": "Which is the largest?", "choices": ["one", "two", "three", "four"], "correct_answer": 3}
NAMES = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Config:
    """What `other_configs.json` says, and what then is on the wire."""

    model: str
    version: str
    strategy: str
    sends: tuple[str, ...]  # beside model and messages
    streams_usage: bool
    limit: str
    temperature: bool = True

    def __str__(self) -> str:
        return f"{self.model} on {self.version}"


CONFIGS = (
    Config("gpt-4-32k", "2024-02-01", "text-v1", ("temperature",), False, "max_tokens"),
    Config("gpt-4o", "2024-10-21", "json_schema", ("temperature", "logprobs", "top_logprobs", "response_format"), True,
           "max_tokens"),
    Config("gpt-4.1", "v1", "json_schema", ("temperature", "logprobs", "top_logprobs", "response_format"), True,
           "max_tokens"),
    Config("o4-mini", "2024-12-01-preview", "json_schema", ("response_format",), True, "max_completion_tokens", False),
    Config("gpt-5", "v1", "json_schema", ("response_format",), True, "max_completion_tokens", False),
    Config("gpt-5", "2025-04-01-preview", "json_schema", ("response_format",), True, "max_completion_tokens", False),
)  # fmt: skip
EACH = pytest.mark.parametrize("config", CONFIGS, ids=str)
BOTH_WAYS = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


@pytest.fixture(scope="module")
def zero_shot() -> Program:
    path = bundled_program("zero_shot")
    assert path
    return load_program(path)


@pytest.fixture
def ours() -> Iterator[list[AoaiServer]]:
    """Servers to be closed; every one must have answered every request that reached it."""
    servers: list[AoaiServer] = []
    yield servers
    for server in servers:
        assert server.answered == len(server.requests), "the endpoint refused a field"


def serve(config: Config, ours: list[AoaiServer]) -> AoaiServer:
    server = AoaiServer({"dep-1": config.model})
    ours.append(server)
    return server


def run(server: AoaiServer, config: Config, program: Program, **options: Any) -> tuple[Json, list[Call], list[str]]:
    """One line through the program: its result, its calls, and what the run notes about its fields."""
    session = LineSession(1)
    endpoint = Endpoint(server.endpoint, "dep-1", config.model, config.version)
    with connect(endpoint, ModelOptions(**options)) as connection:
        result = program.function(model_for_line(connection.model, session), dict(LINE))
        assert connection.client
        return result, session.calls, connection.client.settled.notes()


@EACH
@BOTH_WAYS
def test_the_program_runs_unchanged(config: Config, stream: bool, zero_shot: Program, ours: list[AoaiServer]) -> None:
    with serve(config, ours) as server:
        result, calls, notes = run(server, config, zero_shot, stream=stream)
        (request,) = server.requests
    assert result["zero_shot_choice"] in range(4)
    assert [(call.strategy, call.attempts, call.error, call.served_model) for call in calls] == [
        (config.strategy, 1, None, config.model)
    ]
    sent = set(request.body) - {"model", "messages"}
    with_stream = {"stream", *(["stream_options"] if config.streams_usage else [])} if stream else set()
    assert sent == {*config.sends, *with_stream}
    if config.temperature:
        assert request.body["temperature"] == 0
    assert [message["role"] for message in request.body["messages"]] == ["system", "user"]
    if config.version == "v1":
        assert request.path == "/openai/v1/chat/completions"
        assert request.body["model"] == "dep-1"
    else:
        assert request.path == f"/openai/deployments/dep-1/chat/completions?api-version={config.version}"
        assert request.body["model"] == config.model
    for field in ("temperature", "logprobs"):
        assert any(note.startswith(f"{field}=") for note in notes) == (field not in config.sends), notes
    assert (calls[0].usage is None) == (stream and not config.streams_usage)
    assert any("stream_options" in note for note in notes) == (stream and not config.streams_usage)


@EACH
@BOTH_WAYS
def test_the_choice_and_its_distribution_are_the_answers(
    config: Config, stream: bool, zero_shot: Program, ours: list[AoaiServer]
) -> None:
    with serve(config, ours) as server:
        server.answer = lambda body, count: '{"choice": "2"}' if "response_format" in body else "2"
        result, (call,), _notes = run(server, config, zero_shot, stream=stream)
    assert result == {"zero_shot_choice": 2}
    assert call.text in ("2", '{"choice": "2"}')
    if "logprobs" in config.sends:
        assert call.distribution
        assert max(call.distribution, key=lambda option: call.distribution[option]) == "2"
        assert 0.9 < sum(call.distribution.values()) <= 1.0
    else:
        assert call.distribution is None


@EACH
def test_a_limit_a_seed_and_an_effort_go_by_the_names_that_are_known(config: Config, ours: list[AoaiServer]) -> None:
    session = LineSession(1)
    with serve(config, ours) as server:
        endpoint = Endpoint(server.endpoint, "dep-1", config.model, config.version)
        with connect(endpoint, ModelOptions(seed=7, reasoning_effort="low")) as connection:
            assert connection.client
            connection.client.ask(
                [{"role": "user", "content": "Which?"}], session, max_completion_tokens=40, top_p=0.5, stop=["\n"]
            )
            notes = connection.client.settled.notes()
        (body,) = server.bodies
    assert [name for name in NAMES if name in body] == [config.limit]
    assert body[config.limit] == 40
    reasons = not config.temperature
    assert ("stop" in body) == ("top_p" in body) == ("temperature" in body) == (not reasons)
    assert body.get("reasoning_effort") == ("low" if reasons else None)
    assert body.get("seed") == (None if config.model == "gpt-4-32k" else 7)
    dropped = {"seed", "reasoning_effort", "stop", "top_p", "temperature"} - set(body)
    assert all(any(note.startswith(field) for note in notes) for field in dropped)


@EACH
@pytest.mark.parametrize("strategy", ["text", "logprob", "json_schema"])
def test_a_named_strategy_works_or_says_why_not(
    strategy: str, config: Config, zero_shot: Program, ours: list[AoaiServer]
) -> None:
    known = {"text": True, "logprob": "logprobs" in config.sends, "json_schema": "response_format" in config.sends}
    with serve(config, ours) as server:
        if known[strategy]:
            result, calls, _notes = run(server, config, zero_shot, select_strategy=strategy)
            assert result["zero_shot_choice"] in range(4)
            assert calls[-1].strategy == ("text-v1" if strategy == "text" else strategy)
        else:
            with pytest.raises(EndpointRejected, match=f"--select-strategy {strategy}") as caught:
                run(server, config, zero_shot, select_strategy=strategy)
            assert caught.value.stops_run
            assert server.requests == []


@EACH
def test_requiring_temperature_0_holds_or_fails_before_any_request(
    config: Config, zero_shot: Program, ours: list[AoaiServer]
) -> None:
    with serve(config, ours) as server:
        if config.temperature:
            run(server, config, zero_shot, require=("temperature=0",))
            assert server.bodies[0]["temperature"] == 0
        else:
            with pytest.raises(RequirementUnmet, match="temperature=0 is required"):
                run(server, config, zero_shot, require=("temperature=0",))
            assert server.requests == []


@pytest.mark.parametrize("version", ["2024-10-21", "v1"])
def test_a_deployment_without_chat_is_told_and_nothing_is_guessed(
    version: str, zero_shot: Program, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config("text-embedding-3-large", version, "", (), False, "")
    with (
        AoaiServer({"dep-1": config.model}) as server,
        caplog.at_level(logging.WARNING, "mmlu_pipe.endpoint"),
        pytest.raises(EndpointRejected, match="no chat completions") as caught,
    ):
        run(server, config, zero_shot)
    assert caught.value.stops_run
    assert len(server.requests) == 1
    assert "text-embedding-3-large is not known as a chat model" in caplog.text
