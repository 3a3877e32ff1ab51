"""What a deployment does: each name is a claim of claims.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mmlu_pipe.config import load_endpoint
from mmlu_pipe.endpoint.address import is_v1, normalise
from mmlu_pipe.endpoint.client import build_transport, open_client
from mmlu_pipe.endpoint.credentials import KEY_VARIABLE, choose_credential
from tests.live.conftest import Machine, setting


def facts_of(machine: Machine, *words: str | Path, **options: Any) -> dict[str, Any]:
    """What came of three lines that were asked live."""
    config = (
        () if any(str(word).startswith("--other-config") for word in words) else ("--other-config=other_configs.json",)
    )
    inputs = ("--dataset=mmlu_pipe_live.jsonl", "--guidance-program=program.py", "--limit=3")
    told = machine("run", *inputs, *config, *words, "--json", **options).json
    assert (told["status"], told["answered"], told["failed"]) == ("completed", 3, 0)
    facts: dict[str, Any] = machine.manifest(told["run_dir"])["run"]
    return facts


def test_entra_token(machine: Machine) -> None:
    facts = facts_of(machine, "--auth=entra", env={KEY_VARIABLE: None})
    assert facts["auth"].startswith("Entra ID")


def test_api_key(machine: Machine) -> None:
    setting("KEY", f"1 if {KEY_VARIABLE} holds a key of the deployment")
    assert facts_of(machine, "--auth=key")["auth"].startswith("API key")


def test_select_json_schema(machine: Machine) -> None:
    assert facts_of(machine, "--select-strategy=json_schema")["strategies"] == {"json_schema": 3}


def test_select_logprob(machine: Machine) -> None:
    assert facts_of(machine, "--select-strategy=logprob")["strategies"] == {"logprob": 3}


def test_select_text(machine: Machine) -> None:
    (strategy,) = facts_of(machine, "--select-strategy=text")["strategies"]
    assert strategy.startswith("text")  # and the version of its rule


def test_streaming(machine: Machine) -> None:
    facts = facts_of(machine, "--stream")
    assert facts["capabilities"]["stream"]
    assert facts["tokens"]["prompt_tokens"] > 0


def test_v1_address(machine: Machine) -> None:
    endpoint = normalise(load_endpoint(machine.folder / "other_configs.json")).endpoint
    address = f"{endpoint.rstrip('/')}/openai/v1/"
    config = machine.config("v1.json", aoai_endpoint=address, aoai_api_version="v1")
    assert facts_of(machine, f"--other-config={config}")["api_version"] == "v1"


def test_served_model(machine: Machine) -> None:
    declared = load_endpoint(machine.folder / "other_configs.json").model
    (served,) = facts_of(machine)["served_models"]
    assert served.startswith(declared)


def test_capabilities(machine: Machine) -> None:
    assert facts_of(machine)["capabilities"]["corrected"] == []


def test_rate_limit_headers(machine: Machine) -> None:
    endpoint = normalise(load_endpoint(machine.folder / "other_configs.json"))
    post, close = open_client(endpoint, choose_credential(endpoint, "auto"), build_transport(endpoint, 1))
    try:
        named = endpoint.deployment if is_v1(endpoint.api_version) else endpoint.model
        response = post({"model": named, "messages": [{"role": "user", "content": "Say yes."}]})
    finally:
        close()
    for name in ("limit", "remaining"):
        for what in ("requests", "tokens"):
            assert int(response.headers[f"x-ratelimit-{name}-{what}"]) >= -1


def test_content_filter(machine: Machine) -> None:
    text = Path(setting("FILTERED", "the path of a text that the deployment's content filter blocks")).read_text(
        "utf-8"
    )
    line = machine.lines(".", "mmlu_pipe_live.jsonl")[0] | {"question": text}
    (machine.folder / "filtered.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    words = ("--dataset=filtered.jsonl", "--guidance-program=program.py", "--other-config=other_configs.json")
    machine("run", *words, "--output-dir=filtered", "--json")
    (failed,) = machine.lines("filtered", "errors.jsonl")
    assert failed["_error"]["kind"] == "content_filter"


def test_recordings(machine: Machine, cassette: Path) -> None:
    names = load_endpoint(machine.folder / "other_configs.json")
    private = [normalise(names).endpoint.partition("://")[2].partition("/")[0]]
    if names.deployment not in names.model:  # a model's name is no secret
        private.append(names.deployment)
    assert machine("cassette", "check", cassette, *(f"--also={name}" for name in private), "--json").json["clean"]
    inputs = ("--dataset=mmlu_pipe_live.jsonl", "--guidance-program=program.py", f"--cassette={cassette}")
    replayed = machine("run", *inputs, "--output-dir=replayed", "--json", env={"HTTPS_PROXY": "http://127.0.0.1:9"})
    assert replayed.json["status"] == "completed"
    live, again = (machine.folder / name / "output.jsonl" for name in ("recorded", "replayed"))
    assert live.read_bytes() == again.read_bytes()


def test_doctor_endpoint(machine: Machine) -> None:
    found = machine("doctor", "--other-config=other_configs.json", "--json").json
    assert found["ok"], [check for check in found["checks"] if check["state"] == "failed"]
    assert KEY_VARIABLE not in os.environ or os.environ[KEY_VARIABLE] not in json.dumps(found)
