"""`mmlu-pipe cassette check` and `show`, through the group itself."""

import json
import shutil

import pytest
from click.testing import CliRunner

from mmlu_pipe.bundled import bundled_cassette
from mmlu_pipe.cli.cassette import cassette, register_commands
from mmlu_pipe.errors import RecordingError, SecretInCassette

HEX = "3fa9c0ffee5e1d0a47be6b21d90c88e1"


@pytest.fixture
def recordings(tmp_path):
    return shutil.copytree(bundled_cassette("sample", "zero_shot"), tmp_path / "recordings")


def invoke(*arguments):
    done = CliRunner().invoke(cassette, [str(argument) for argument in arguments], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done


def leak(folder):
    path = folder / "anatomy.yaml"
    path.write_bytes(path.read_bytes().replace(b"headers: {}", f"headers: {{api-key: [{HEX}]}}".encode(), 1))
    return path


def test_the_group_is_registered():
    found = {}
    register_commands(found.__setitem__)
    assert found == {"cassette": cassette}
    assert set(cassette.commands) == {"check", "show"}


def test_check_of_clean_folders(recordings, tmp_path):
    other = shutil.copytree(recordings, tmp_path / "other")
    done = invoke("check", recordings, other)
    assert done.return_value == 0
    assert done.stdout == f"{recordings}: clean, 58 files\n{other}: clean, 58 files\n"
    value = json.loads(invoke("check", recordings, "--json").stdout)
    assert value == {"clean": True, "files": {str(recordings): 58}, "leaks": []}


def test_check_refuses_a_leak_and_does_not_show_it(recordings):
    path = leak(recordings)
    with pytest.raises(SecretInCassette) as caught:
        invoke("check", recordings)
    assert f"{path}:5: API key" in str(caught.value)
    assert HEX not in str(caught.value)
    assert caught.value.exit_code == 2


def test_check_tells_leaks_as_json(recordings):
    path = leak(recordings)
    done = invoke("check", "--json", recordings)
    assert done.return_value == 2
    assert json.loads(done.stdout)["leaks"] == [{"file": str(path), "line": 5, "kind": "API key"}]
    assert HEX not in done.stdout


def test_check_looks_for_what_the_user_names(recordings):
    assert invoke("check", recordings, "--also", "contoso").return_value == 0
    with pytest.raises(SecretInCassette, match="named by --also"):
        invoke("check", recordings, "--also", "contoso", "--also", "PATELLA")


@pytest.mark.parametrize("command", ["check", "show"])
def test_nothing_there_is_an_error(tmp_path, command):
    with pytest.raises(RecordingError, match="no such"):
        invoke(command, tmp_path / "none")
    with pytest.raises(RecordingError, match="holds no"):
        invoke(command, tmp_path)


def test_show(recordings):
    done = invoke("show", recordings)
    assert done.return_value == 0
    for line in (
        "answers of      Qwen2.5-Coder-1.5B-Instruct, API version 2024-10-21",
        "endpoint        loopback",
        "served models   Qwen2.5-Coder-1.5B-Instruct 114",
        "statuses        200 114",
        "finish reasons  stop 114",
        "tokens          completion_tokens 684, prompt_tokens 11,350, total_tokens 12,034",
        "by shard        abstract_algebra 2",
    ):
        assert f"{line}\n" in done.stdout, done.stdout
    assert "recordings      114 in 57 shards, " in done.stdout
    assert "verification" not in done.stdout


def test_show_as_json(recordings):
    record = {name: {} for name in ("hashes", "versions", "asked_with", "calls", "lines")}
    record |= {"format": 1, "passed": True, "verified_at": "2026-01-01"}
    (recordings / "verification.json").write_text(json.dumps(record), encoding="utf-8")
    value = json.loads(invoke("show", recordings, "--json").stdout)
    assert value["recordings"] == sum(value["shards"].values()) == 114
    assert value["provenance"]["endpoint_kind"] == "loopback"
    assert value["bytes"] == sum(path.stat().st_size for path in recordings.iterdir())
    assert value["verification"] == record
    assert "verification    passed, 2026-01-01\n" in invoke("show", recordings).stdout


def test_show_of_others_recordings(tmp_path):
    request = {
        "body": '{"messages": [], "model": "m"}',
        "headers": {},
        "method": "POST",
        "uri": "https://a/chat/completions",
    }
    bodies = [(429, '{"error": {"message": "slow"}}'), (200, "cut")]
    items = [
        {"request": request, "response": {"status": {"code": code}, "headers": {}, "body": {"string": body}}}
        for code, body in bodies
    ]
    items.append(items[0] | {"request": request | {"uri": "https://a/embeddings"}})
    (tmp_path / "one.yaml").write_text(json.dumps({"version": 1, "interactions": items}), encoding="utf-8")
    shown = invoke("show", tmp_path).stdout
    assert "provenance      none\n" in shown
    assert "statuses        200 1, 429 1\n" in shown
    assert "unreadable      1 answers\n" in shown
    assert "recordings      2 in 1 shards" in shown
    assert "passed over     1 recordings of something else than chat completions\n" in shown


def test_show_tells_the_command_that_made_a_recording(recordings):
    assert "\ncommand" not in invoke("show", recordings).stdout
    path = recordings / "provenance.json"
    value = json.loads(path.read_text(encoding="utf-8")) | {"command": "mmlu-pipe run --record-mode once"}
    path.write_text(json.dumps(value), encoding="utf-8")
    assert "\ncommand         mmlu-pipe run --record-mode once\n" in invoke("show", recordings).stdout
    assert json.loads(invoke("show", recordings, "--json").stdout)["provenance"] == value
