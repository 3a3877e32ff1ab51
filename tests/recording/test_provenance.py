"""The command that a recording says it was made by, whatever made it: the command line, Python, a component, pytest."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.cli.root import root
from mmlu_pipe.config import RunConfig
from mmlu_pipe.recording.leaks import find_leaks
from mmlu_pipe.recording.provenance import read_provenance, recorded_endpoint, run_command
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer

pytest_plugins = ["pytester"]

SECRET = ("127.0.0.1", "localhost", "ada-private", "test-key")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AoaiServer]:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    with AoaiServer({"ada-private": "gpt-4o"}) as found:
        yield found


def command_in(folder: Path) -> str:
    """The command of a provenance that holds no secret."""
    text = (folder / "provenance.json").read_text(encoding="utf-8")
    assert not [secret for secret in (*SECRET, str(folder.parent)) if secret in text]
    assert find_leaks(folder) == []
    value = read_provenance(folder)
    assert value is not None
    return str(value["command"])


def test_a_run_from_python_names_the_equivalent_command_line(
    tmp_path: Path, server: AoaiServer, write_dataset: Any, write_config: Any
) -> None:
    config = write_config(server.endpoint, name="contoso.json", aoai_deployment="ada-private")
    mmlu_pipe.run(
        write_dataset(4),
        other_config=config,
        cassette=tmp_path / "my tape",
        record_mode="new_episodes",
        record_note="a note",
        limit=3,
        workers=2,
        require=("temperature=0", "seed"),
        seed=7,
        stream=True,
        output_dir=tmp_path / "run",
    )
    assert command_in(tmp_path / "my tape") == (
        "mmlu-pipe run --dataset questions.jsonl --guidance-program zero_shot.py --other-config FILE "
        "--cassette 'my tape' --record-mode new_episodes --limit 3 --workers 2 --require temperature=0 "
        "--require seed --seed 7 --stream"
    )


def test_the_component_names_it_in_a_process_of_its_own(tmp_path: Path, server: AoaiServer, write_dataset: Any) -> None:
    ports = {
        "guidance_program": ROOT / "guidance_programs" / "zero_shot.py",
        "input_dataset": write_dataset(2),
        "azure_openai_endpoint": server.endpoint,
        "azure_openai_deployment": "ada-private",
        "azure_openai_model": "gpt-4o",
        "azure_openai_api_version": "2024-10-21",
        "cassette": tmp_path / "tape",
        "record_mode": "once",
        "select_strategy": "text",
        **{f"{name}_dataset": tmp_path / f"{name}.jsonl" for name in ("output", "error", "calls")},
    }
    arguments = [text for name, value in ports.items() for text in (f"--{name}", str(value))]
    module = [sys.executable, "-m", "mmlu_pipe.components.jsonl_guidance_aoai"]
    done = subprocess.run([*module, *arguments], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert command_in(tmp_path / "tape") == (
        "mmlu-pipe run --dataset questions.jsonl --guidance-program zero_shot.py --other-config FILE --cassette tape "
        "--record-mode once --select-strategy text"
    )


def test_the_pytest_plugin_names_its_own(pytester: pytest.Pytester, server: AoaiServer, write_config: Any) -> None:
    shutil.copytree(ROOT / "examples" / "test_suite", pytester.path, dirs_exist_ok=True)
    (pytester.path / "test_my_program.py").unlink()
    shutil.rmtree(pytester.path / "cassettes")
    config = write_config(server.endpoint, name="contoso.json", aoai_deployment="ada-private")
    pytester.makepyfile(
        test_it="import pytest\n"
        '@pytest.mark.mmlu_cassette("cassettes/tape", program="my_program.py")\n'
        "def test_one(mmlu_run_line):\n"
        '    mmlu_run_line({"question": "Which?", "choices": ["a", "b"]})\n'
    )
    options = ["--mmlu-record-mode", "new_episodes", "--mmlu-other-config", config]
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=1)
    folder = pytester.path / "cassettes" / "tape"
    assert command_in(folder) == "pytest test_it.py --mmlu-record-mode new_episodes --mmlu-other-config FILE"
    value = read_provenance(folder)
    assert value is not None
    assert value["recordings"] == len(server.requests) > 0
    assert value["served_models"] == {"gpt-4o": len(server.requests)}
    assert value["endpoint_kind"] == "loopback"


def test_who_records_more_keeps_what_was_said_before_and_names_the_newer_command(
    tmp_path: Path, server: AoaiServer, write_dataset: Any, write_config: Any
) -> None:
    config, tape = write_config(server.endpoint, aoai_deployment="ada-private"), tmp_path / "tape"

    def record(count: int, name: str, **options: Any) -> dict[str, Any]:
        asking = {
            "other_config": config,
            "cassette": tape,
            "record_mode": "new_episodes",
            "output_dir": tmp_path / name,
        }
        mmlu_pipe.run(write_dataset(count), **asking | options)
        value = read_provenance(tape)
        assert value is not None
        return value

    first = record(2, "a", record_note="mine")
    (tape / "provenance.json").write_text(json.dumps(first | {"of a later version": 1}), encoding="utf-8")
    assert record(2, "b", limit=1)["command"] == first["command"]  # nothing came to it
    second = record(3, "c", workers=1)
    assert (second["note"], second["recordings"], second["of a later version"]) == ("mine", 3, 1)
    assert second["command"] == f"{first['command']} --workers 1"


def test_a_provenance_without_a_command_is_read() -> None:
    folder = ROOT / "cassettes" / "sample-zero_shot"
    assert "command" not in (read_provenance(folder) or {"command": 1})
    assert recorded_endpoint(folder).model == "Qwen2.5-Coder-1.5B-Instruct"


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 '$_.-]{0,20}", fullmatch=True)


@given(
    options=st.fixed_dictionaries(
        {},
        optional={
            "dataset": names,
            "cassette": names.map(lambda name: Path("/somewhere/secret") / name) | st.just(Path()),
            "limit": st.integers(1, 99),
            "require": st.lists(st.sampled_from(["seed", "temperature=0"]), max_size=2).map(tuple),
            "stream": st.booleans(),
            "seed": st.integers(0, 9),
            "max_errors": st.sampled_from(["10", "5%"]),
        },
    )
)
def test_the_command_line_that_is_named_means_the_options_that_differ(options: dict[str, Any]) -> None:
    shown = run_command(options)
    assert "somewhere" not in shown
    program, verb, *arguments = shlex.split(shown)
    assert (program, verb) == ("mmlu-pipe", "run")
    command = root.get_command(click.Context(root), "run")
    assert command is not None
    known = {field.name for field in dataclasses.fields(RunConfig)}
    values = {name: value for name, value in command.make_context("run", arguments).params.items() if name in known}
    named = {name: Path(value.absolute().name) if isinstance(value, Path) else value for name, value in options.items()}
    assert RunConfig(**values) == dataclasses.replace(RunConfig(), **named)


def test_nothing_is_named_where_all_is_as_by_default() -> None:
    assert run_command(dataclasses.asdict(RunConfig())) == "mmlu-pipe run"
