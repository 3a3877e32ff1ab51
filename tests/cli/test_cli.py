"""The command line, run as a person runs it: in a fresh process, its output read from outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.aoai import AoaiServer, Reply
from tests.test_api import picks

Command = Callable[..., subprocess.CompletedProcess[str]]
KEY = {"AZURE_OPENAI_API_KEY": "test-key"}


def test_the_default_run_needs_no_network_and_no_account(mmlu_pipe_command: Command) -> None:
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9") | {"NO_PROXY": ""}
    done = mmlu_pipe_command("run", **nowhere)
    assert done.returncode == 0, done.stderr
    assert "of 114 lines" in done.stdout
    assert "recorded answers of Qwen2.5-Coder-1.5B-Instruct" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if not line.startswith("run folder"))


def test_json_is_one_object_on_stdout_and_all_else_on_stderr(mmlu_pipe_command: Command) -> None:
    done = mmlu_pipe_command("run", "--limit", "5", "--json")
    value = json.loads(done.stdout)
    assert list(value) == ["run_dir", "status", "lines", "answered", "failed", "score", "error"]
    assert (value["status"], value["lines"], value["answered"], value["failed"]) == ("completed", 5, 5, 0)
    assert value["score"]["count"] == 5
    assert value["error"] is None


def test_json_is_printed_for_bad_usage_too(mmlu_pipe_command: Command) -> None:
    for arguments in (("run", "--json", "--no-such-option"), ("run", "--json", "--dataset", "nothing")):
        done = mmlu_pipe_command(*arguments)
        assert done.returncode == 2
        value = json.loads(done.stdout)
        assert value["status"] == "failed"
        assert value["error"]["message"]


def test_the_tutorials_habits_work(mmlu_pipe_command: Command, write_config: Callable, write_dataset: Callable) -> None:
    data = write_dataset(4, "mmlu_astronomy_test.jsonl").parent
    with AoaiServer(answer=picks) as server:
        done = mmlu_pipe_command(
            "run",
            *("--workspace_config", "config.json", "--other_config", write_config(server.endpoint)),
            *("--dataset_name", "mmlu_astronomy_test", "--data_dir", data),
            *("--guidance_program", Path(__file__).parents[2] / "guidance_programs" / "zero_shot.py"),
            **KEY,
        )
    assert done.returncode == 0, done.stderr
    assert "correct       4 of 4 lines" in done.stdout
    assert "authorised by API key (AZURE_OPENAI_API_KEY)" in done.stderr


def test_a_failed_run_exits_with_1_and_says_where_its_answers_are(
    mmlu_pipe_command: Command, write_config: Callable, write_dataset: Callable
) -> None:
    with AoaiServer(answer=lambda _body, _count: Reply(refusal="I cannot help with that")) as server:
        arguments = ("--dataset", write_dataset(5), "--other-config", write_config(server.endpoint))
        done = mmlu_pipe_command("run", *arguments, "--max-errors", "20%", "--json", **KEY)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    value = json.loads(done.stdout)
    assert (value["status"], value["lines"], value["failed"]) == ("failed", 5, 5)
    assert value["error"]["type"] == "ErrorBudgetExceeded"
    assert value["run_dir"] in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ('{"question": "q"}\n', "line 1"),
        ("not json\n[1]\n", "line 2"),
        ('{"question": "q", "choices": ["a", "b"], "correct_answer": 7}\n', "line 1"),
        ("{}\n".encode("utf-16").decode("latin-1"), "UTF-8"),
    ],
)
def test_a_bad_dataset_is_one_message_and_exit_2_and_costs_nothing(
    content: str, told: str, mmlu_pipe_command: Command, write_config: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with AoaiServer() as server:
        done = mmlu_pipe_command("run", "--dataset", path, "--other-config", write_config(server.endpoint), **KEY)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert server.requests == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"aoai_endpoint": None}, "'aoai_endpoint' is missing"),
        ({"aoai_endpoint": None, "aoai_endpont": "https://x.openai.azure.com"}, "misspelling"),
        ({"aoai_endpoint": "http://example.org"}, 'set it to "https://example.org"'),
        ({"aoai_model": " "}, "'aoai_model' must be a text that is not empty"),
        ({"aoai_api_version": "newest"}, "use a date such as 2024-10-21, or v1"),
    ],
)
def test_a_bad_configuration_is_one_message_and_exit_2(
    changes: dict[str, str | None], told: str, mmlu_pipe_command: Command, write_config: Callable
) -> None:
    done = mmlu_pipe_command("run", "--other-config", write_config("https://x.openai.azure.com", **changes), **KEY)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import nothing_of_that_name", "a program stands alone"),
        ("x = 1", "has no function guidance_generation"),
        ("def guidance_generation(lm): return {}", "must take (lm, input)"),
        ("def guidance_generation(lm, input)\n  return {}", "program.py:1"),
        ("def guidance_generation(lm, input): return 3", "must return a dict"),
        ("def guidance_generation(lm, input): return {'question': 1}", "returns the key 'question'"),
    ],
)
def test_a_bad_program_is_one_message_and_exit_2(
    program: str, told: str, mmlu_pipe_command: Command, write_config: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    with AoaiServer() as server:
        config = write_config(server.endpoint)
        done = mmlu_pipe_command("run", "--guidance-program", path, "--other-config", config, **KEY)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert server.requests == []


def test_an_output_folder_with_anything_in_it_is_refused_and_left_alone(
    mmlu_pipe_command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work", encoding="utf-8")
    done = mmlu_pipe_command("run", "--output-dir", folder)
    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_the_run_folder_of_another_run_is_not_used(mmlu_pipe_command: Command) -> None:
    assert mmlu_pipe_command("run", "--limit", "2", "--output-dir", "out").returncode == 0
    done = mmlu_pipe_command("run", "--limit", "3", "--output-dir", "out")
    assert done.returncode == 2
    assert "holds another run, which differs in limit (it was 2, now 3)" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--record-mode", "all"),
        ("--workers", "0"),
        ("--limit", "-1"),
        ("--max-errors", "many"),
        ("--max-errors", "101%"),
        ("--select-strategy", "guess"),
        ("--require", "wisdom=1"),
        ("--backend", "azureml"),
        ("--cassette", "nowhere"),
        ("--dataset", "../secret"),
        ("--response-key", "nothing"),
    ],
)
def test_bad_usage_is_one_message_and_exit_2(arguments: tuple[str, str], mmlu_pipe_command: Command) -> None:
    done = mmlu_pipe_command("run", *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr.lower()


def test_score_prints_what_the_run_printed(mmlu_pipe_command: Command) -> None:
    assert mmlu_pipe_command("run", "--limit", "10", "--output-dir", "out").returncode == 0
    done = mmlu_pipe_command("score", "out", "--json")
    assert json.loads(done.stdout)["count"] == 10
    assert "of 10 lines" in mmlu_pipe_command("score", "out").stdout


def test_create_dataset_then_run_by_name(mmlu_pipe_command: Command, tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    row = {"subject": "astronomy", "question": "Pick 1", "choices": ["a", "b", "c", "d"], "answer": "B"}
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    done = mmlu_pipe_command("create-dataset", "--mmlu-dataset", "astronomy", "--split", "test", "--source", source)
    assert done.returncode == 0, done.stderr
    line = json.loads((tmp_path / "data" / "mmlu_astronomy_test.jsonl").read_text(encoding="utf-8"))
    assert line["correct_answer"] == 1
    assert "mmlu-pipe run --dataset mmlu_astronomy_test" in done.stdout


def test_the_train_split_is_answered_with_the_splits_that_exist(mmlu_pipe_command: Command) -> None:
    done = mmlu_pipe_command("create-dataset", "--mmlu-dataset", "astronomy", "--split", "train")
    assert done.returncode == 2
    assert all(split in done.stderr for split in ("test", "validation", "dev"))


def test_help_names_every_command_and_no_colour_is_forced(mmlu_pipe_command: Command) -> None:
    done = mmlu_pipe_command("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("run", "score", "create-dataset"))
    assert "\x1b[" not in mmlu_pipe_command("run", "--limit", "1", NO_COLOR="1").stdout


def test_a_completed_run_with_failed_lines_says_why_they_failed(
    mmlu_pipe_command: Command, write_config: Callable, write_dataset: Callable
) -> None:
    with AoaiServer(answer=lambda _body, _count: Reply(finish_reason="length")) as server:
        done = mmlu_pipe_command(
            "run", "--dataset", write_dataset(3), "--other-config", write_config(server.endpoint), **KEY
        )
    assert done.returncode == 0
    assert "3 lines failed, the first: line 1: Truncated: the token limit cut the answer" in done.stderr
    assert "unanswered    0, failed 3 (3 truncated)" in done.stdout


def test_a_run_without_any_answer_names_no_model(
    mmlu_pipe_command: Command, write_config: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text("def guidance_generation(lm, input): raise KeyError('nothing')", encoding="utf-8")
    with AoaiServer() as server:
        config = write_config(server.endpoint)
        arguments = ("--dataset", write_dataset(2), "--other-config", config, "--guidance-program", program)
        done = mmlu_pipe_command("run", *arguments, **KEY)
    assert done.returncode == 0
    assert "answers       none" in done.stdout
    assert "KeyError: 'nothing' (program.py:1)" in done.stderr


def test_what_a_program_prints_stays_off_the_one_json_object(
    mmlu_pipe_command: Command, write_config: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text("def guidance_generation(lm, input):\n    print('hi')\n    return {'x': 1}", encoding="utf-8")
    with AoaiServer() as server:
        config = write_config(server.endpoint)
        arguments = ("--dataset", write_dataset(2), "--other-config", config, "--guidance-program", program)
        done = mmlu_pipe_command("run", *arguments, "--json", **KEY)
    assert json.loads(done.stdout)["answered"] == 2
    assert "hi" in done.stderr


def test_a_construct_that_cannot_work_is_named_with_its_place(
    mmlu_pipe_command: Command, write_config: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    text = "from guidance import gen, user\n\ndef guidance_generation(lm, input):\n    lm += gen('x', regex='[0-3]')\n"
    program.write_text(text, encoding="utf-8")
    with AoaiServer() as server:
        config = write_config(server.endpoint)
        arguments = ("--dataset", write_dataset(2), "--other-config", config, "--guidance-program", program)
        done = mmlu_pipe_command("run", *arguments, **KEY)
    assert done.returncode == 2
    assert "program.py:4: " in done.stderr


def test_a_bug_in_a_plugin_keeps_its_traceback_and_json_its_object(tmp_path: Path, mmlu_pipe_command: Command) -> None:
    (tmp_path / "buggy.py").write_text(
        "import mmlu_pipe\n@mmlu_pipe.hookimpl\ndef make_model(endpoint, options): raise RuntimeError('a bug')\n",
        encoding="utf-8",
    )
    info = tmp_path / "buggy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[mmlu_pipe]\nbuggy = buggy\n", encoding="utf-8")
    environment = {"PYTHONPATH": str(tmp_path), "MMLU_PIPE_NO_PLUGINS": ""}
    done = mmlu_pipe_command("run", "--json", "--output-dir", "out", **environment)
    assert done.returncode == 1
    assert "RuntimeError: a bug" in done.stderr
    assert json.loads(done.stdout)["error"] == {"type": "RuntimeError", "message": "a bug"}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["status"] == "failed"


def test_a_misspelt_cassette_is_refused_whether_or_not_an_endpoint_is_named(
    mmlu_pipe_command: Command, write_config: Callable, tmp_path: Path
) -> None:
    for more in ((), ("--other-config", write_config("https://x.openai.azure.com"))):
        done = mmlu_pipe_command("run", "--cassette", "casette", *more)
        assert done.returncode == 2
        assert "casette: " in done.stderr
        assert not list((tmp_path / "runs").glob("*"))


def test_ones_own_program_of_a_bundled_name_is_not_run_on_recordings_of_another(
    mmlu_pipe_command: Command, tmp_path: Path
) -> None:
    program = tmp_path / "zero_shot.py"
    program.write_text("def guidance_generation(lm, input): return {'x': 1}", encoding="utf-8")
    done = mmlu_pipe_command("run", "--guidance-program", program)
    assert done.returncode == 2
    assert "is not the bundled program of that name" in done.stderr


def test_a_second_signal_ends_at_once_and_the_manifest_says_cancelled(
    write_config: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    import os
    import signal
    import sys
    import threading

    asked, release = threading.Event(), threading.Event()

    def slow(body: dict, _count: int) -> str:
        asked.set()
        release.wait(60)
        return picks(body, _count)

    with AoaiServer(answer=slow) as server:
        config = write_config(server.endpoint)
        arguments = ["run", "--dataset", str(write_dataset(5)), "--other-config", str(config), "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "mmlu_pipe", *arguments, "--output-dir", "out"],
            cwd=tmp_path,
            env=os.environ | KEY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # Python handles the lower number first where both are pending
        stdout, _ = process.communicate(timeout=60)
        release.set()
    assert process.returncode == 130
    assert json.loads(stdout)["status"] == "cancelled"
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["status"] == "cancelled"
