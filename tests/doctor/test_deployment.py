"""What the doctor says of a deployment, over real HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmlu_pipe.checkup import deployment, examination
from mmlu_pipe.checkup.examine import doctor
from mmlu_pipe.checkup.result import Check, Diagnosis
from mmlu_pipe.errors import ConfigError
from tests.servers.aoai import AoaiServer, Reply, default_answer, filtered_prompt, rate_limited

WriteConfig = Callable[..., Path]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


def check(found: Diagnosis, name: str) -> Check:
    (one,) = (check for check in found.checks if check.name == name)
    return one


def states(found: Diagnosis) -> dict[str, str]:
    return {check.name: check.state for check in found.checks}


def examined(server: AoaiServer, write_config: WriteConfig, **changes: str) -> Diagnosis:
    with server:
        return doctor(other_config=write_config(server.endpoint, **changes))


def test_a_deployment_in_order_is_asked_twice_for_a_few_tokens(write_config: WriteConfig) -> None:
    server = AoaiServer()
    found = examined(server, write_config)
    assert found.ok
    assert states(found) == {
        "endpoint file": "ok",
        "workspace": "skipped",
        "packages": "ok",
        "credential": "ok",
        "endpoint reached": "ok",
        "deployment": "ok",
        "served model": "ok",
        "structured outputs": "ok",
        "logprobs": "ok",
    }
    assert [body["max_tokens"] for body in server.bodies] == [5, 20]


def test_what_is_not_named_is_not_checked_even_where_the_files_lie_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("config.json", "other_configs.json"):
        Path(name).write_text("no JSON", encoding="utf-8")
    found = doctor()
    assert found.ok
    assert check(found, "endpoint").found == "not checked: give --other-config FILE"
    assert check(found, "workspace").found == "not checked: give --workspace-config FILE"
    assert [each.name for each in found.checks if each.state != "skipped"] == ["packages"]


@pytest.mark.parametrize(
    ("server", "says", "advises"),
    [
        (AoaiServer(key="another"), "HTTP 401", "AZURE_OPENAI_API_KEY belongs to the resource"),
        (AoaiServer(key=None), "HTTP 403", "--auth entra"),
    ],
    ids=["401", "403"],
)
def test_a_key_that_is_refused_names_its_variable_and_the_role_that_would_do_instead(
    write_config: WriteConfig, server: AoaiServer, says: str, advises: str
) -> None:
    found = examined(server, write_config)
    one = check(found, "deployment")
    assert not found.ok
    assert one.state == "failed"
    assert says in one.found
    assert advises in str(one.advice)
    assert "Cognitive Services OpenAI User" in str(one.advice)
    assert len(server.requests) == 1


def test_a_deployment_that_does_not_exist_names_the_key_and_its_file(write_config: WriteConfig) -> None:
    found = examined(AoaiServer(), write_config, aoai_deployment="none")
    one = check(found, "deployment")
    assert (one.state, "HTTP 404" in one.found) == ("failed", True)
    assert "aoai_deployment" in str(one.advice)
    assert "other_configs.json" in str(one.advice)
    assert states(found)["logprobs"] == "skipped"


def test_a_rate_limit_is_a_warning_and_is_not_asked_again(write_config: WriteConfig) -> None:
    server = AoaiServer(answer=lambda _body, _count: rate_limited(1000))
    found = examined(server, write_config)
    assert found.ok
    assert check(found, "deployment").state == "warning"
    assert "--rpm" in str(check(found, "deployment").advice)
    assert len(server.requests) == 1


def test_a_rate_limit_in_the_middle_is_a_warning_too(write_config: WriteConfig) -> None:
    server = AoaiServer(answer=lambda body, count: rate_limited(1000) if count else default_answer(body, count))
    found = examined(server, write_config)
    assert found.ok
    assert states(found)["structured outputs"] == "warning"
    assert states(found)["logprobs"] == "skipped"


def test_the_content_filter_is_a_warning(write_config: WriteConfig) -> None:
    found = examined(AoaiServer(answer=lambda _body, _count: filtered_prompt()), write_config)
    assert found.ok
    assert "content filter" in check(found, "deployment").found


def test_a_server_that_fails_is_not_asked_again(write_config: WriteConfig) -> None:
    server = AoaiServer(answer=lambda _body, _count: Reply(status=500))
    found = examined(server, write_config)
    assert check(found, "deployment").state == "failed"
    assert len(server.requests) == 1


def test_another_model_than_the_configured_one_is_told_with_the_key_to_change(write_config: WriteConfig) -> None:
    found = examined(AoaiServer({"dep": "gpt-4o-mini-2024-07-18"}), write_config)
    one = check(found, "served model")
    assert one.state == "warning"
    assert 'set "aoai_model" to "gpt-4o-mini-2024-07-18"' in str(one.advice)


@pytest.mark.parametrize(
    ("configured", "served"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-35-turbo", "gpt-3.5-turbo-0125"),
        ("gpt-4", "gpt-4-1106-preview"),
    ],
)
def test_a_version_at_the_end_is_no_other_model(write_config: WriteConfig, configured: str, served: str) -> None:
    server = AoaiServer(
        {"dep": configured}, answer=lambda body, count: Reply(default_answer(body, count), served_model=served)
    )
    assert check(examined(server, write_config, aoai_model=configured), "served model").state == "ok"


def test_a_model_without_structured_outputs_or_logprobs_is_found_out_against_the_table(
    write_config: WriteConfig,
) -> None:
    server = AoaiServer({"dep": "gpt-35-turbo-1106"})
    found = examined(server, write_config)
    for name, field in (("structured outputs", "response_format"), ("logprobs", "logprobs")):
        one = check(found, name)
        assert one.state == "warning"
        assert f"refused {field}" in one.found
        assert "--require" in str(one.advice)
    assert len(server.requests) == 3


def test_what_the_table_knows_to_be_missing_is_in_order(write_config: WriteConfig) -> None:
    server = AoaiServer({"dep": "o3-mini"})
    found = examined(server, write_config, aoai_model="o3-mini", aoai_api_version="2025-01-01-preview")
    assert check(found, "logprobs").found == "refused, as known of o3-mini"
    assert check(found, "structured outputs").state == "ok"
    assert {body["max_completion_tokens"] for body in server.bodies} == {500}


def test_what_the_table_does_not_know_of_is_found_out(write_config: WriteConfig) -> None:
    found = examined(AoaiServer({"dep": "gpt-4o"}), write_config, aoai_model="llama-3.3-70b")
    assert check(found, "structured outputs").found == "work, though not known of llama-3.3-70b"


def test_an_endpoint_that_does_not_keep_to_a_schema_is_told_with_the_strategy_to_use(
    write_config: WriteConfig,
) -> None:
    found = examined(AoaiServer(answer=lambda _body, _count: "yes"), write_config)
    assert check(found, "structured outputs").state == "warning"
    assert "--select-strategy text" in str(check(found, "structured outputs").advice)


def test_no_more_than_three_requests_are_made_whatever_is_refused(write_config: WriteConfig) -> None:
    server = AoaiServer({"dep": "o3-mini"})  # refuses temperature, the token limit, logprobs
    found = examined(server, write_config)
    assert len(server.requests) == 3
    assert not [one for one in found.checks if one.state == "failed" and one.name != "deployment"]


def test_a_deployment_without_chat_is_a_failure_of_the_aoai_keys(write_config: WriteConfig) -> None:
    found = examined(AoaiServer({"dep": "text-embedding-3-large"}), write_config)
    assert "no chat completions" in check(found, "deployment").found
    assert "other_configs.json" in str(check(found, "deployment").advice)


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_black_hole_fails_in_time_and_the_rest_is_still_checked(
    silent: str, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "_TIMEOUT_S", 0.5)
    found = doctor(other_config=write_config(silent))
    one = check(found, "endpoint reached")
    assert one.state == "failed"
    assert "aoai_endpoint" in str(one.advice)
    assert states(found)["credential"] == "ok"
    assert states(found)["deployment"] == "skipped"


def test_a_check_that_never_ends_fails_at_its_limit(
    silent: str, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "LIMIT_S", 0.3)
    found = doctor(other_config=write_config(silent))
    assert check(found, "endpoint reached").found == "no answer within 0.3 seconds"


def test_a_host_that_is_not_there_names_the_key(write_config: WriteConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"http://127.0.0.1:{gone.getsockname()[1]}"
    one = check(doctor(other_config=write_config(address)), "endpoint reached")
    assert one.state == "failed"
    assert "aoai_endpoint" in str(one.advice)


def test_a_key_that_is_not_set_fails_and_what_does_not_need_it_is_checked(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    with AoaiServer() as server:
        found = doctor(other_config=write_config(server.endpoint), auth="key")
    assert "AZURE_OPENAI_API_KEY is not set" in check(found, "credential").found
    assert states(found)["endpoint reached"] == "ok"
    assert not server.requests


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"aoai_model": None}, "'aoai_model' is missing"),
        ({"aoai_api_version": "soon"}, "aoai_api_version 'soon'"),
        ({"aoai_endpoint": "my-resource"}, "https://my-resource.openai.azure.com"),
    ],
)
def test_a_configuration_that_cannot_be_used_names_the_key_and_the_file(
    write_config: WriteConfig, changes: dict[str, Any], says: str
) -> None:
    one = doctor(other_config=write_config("https://x.openai.azure.com", **changes)).checks[0]
    told = f"{one.found} {one.advice}"
    assert one.state == "failed"
    assert says in told
    assert "other_configs.json" in told


def test_a_file_that_is_not_there_is_a_failure_with_advice(tmp_path: Path) -> None:
    found = doctor(other_config=tmp_path / "none.json", workspace_config=tmp_path / "neither.json")
    for name in ("endpoint file", "workspace file", "compute names"):
        one = check(found, name)
        assert (one.state, one.advice is None) == ("failed", False)
        assert str(tmp_path) in one.found


@pytest.mark.parametrize("given", [{"auth": "magic"}, {"identity": "nobody"}])
def test_an_option_that_does_not_exist_is_bad_usage(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="use one of"):
        doctor(**given)  # type: ignore[arg-type]


def test_a_gateway_that_repeats_the_key_does_not_get_it_shown(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "key-of-a-person")
    error = {"code": "Odd", "message": "You sent key-of-a-person and eyJhbGciOi.eyJhdWQi.c2ln, which is odd."}
    server = AoaiServer(key="key-of-a-person", answer=lambda _body, _count: Reply(status=400, error=error))
    found = json.dumps(examined(server, write_config).to_json())
    assert "which is odd" in found
    assert "key-of-a-person" not in found
    assert "eyJhbGciOi" not in found


COMMAND = (
    "import sys\n"
    "from mmlu_pipe.cli.doctor import doctor\n"
    "sys.exit(doctor.main(sys.argv[1:], standalone_mode=False) or 0)"
)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)], capture_output=True, encoding="utf-8", check=False
    )


def test_the_command_prints_a_list_of_80_columns_and_ends_with_the_verdict(write_config: WriteConfig) -> None:
    with AoaiServer({"dep": "gpt-35-turbo-1106"}) as server:
        done = command("--other-config", write_config(server.endpoint))
        failed = command("--other-config", write_config(server.endpoint, aoai_deployment="none"))
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.endswith("\nnothing failed in 8 checks\n")
    assert (failed.returncode, failed.stderr) == (1, "")
    assert "FAILED   deployment" in failed.stdout
    assert failed.stdout.endswith("\n1 of 5 checks failed\n")


def test_the_command_prints_one_json_object(write_config: WriteConfig) -> None:
    with AoaiServer() as server:
        done = command("--other-config", write_config(server.endpoint), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True)
    assert set(found["checks"][0]) == {"name", "state", "found", "advice", "seconds"}


def test_a_deployment_asked_by_key_is_examined_without_loading_azure_machine_learning(
    write_config: WriteConfig,
) -> None:
    with AoaiServer() as server:
        code = (
            "import sys\nfrom mmlu_pipe.checkup.examine import doctor\n"
            "assert 'azure' not in sys.modules\n"
            "assert doctor(other_config=sys.argv[1]).ok\n"
            "print([name for name in sys.modules if name.split('.')[0] in ('azure', 'msrest')])"
        )
        arguments = [sys.executable, "-c", code, str(write_config(server.endpoint))]
        done = subprocess.run(arguments, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "[]\n"
