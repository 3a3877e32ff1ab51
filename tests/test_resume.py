import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.errors import (
    AuthenticationFailed,
    CassetteMiss,
    ComeBackLater,
    DatasetError,
    EndpointRejected,
    ErrorBudgetExceeded,
    ProgramError,
    RunFolderError,
)
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt, rate_limited

WAIT_S = 60
RESULTS = ("output.jsonl", "errors.jsonl", "score.json")


def question_of(body):
    return body["messages"][-1]["content"]


def picks(body, _count):
    """The answer that stands in the question: `pick 2`."""
    return json.dumps({"choice": question_of(body).split("pick ")[1][0]})


def asked(server):
    return Counter(question_of(body) for body in server.bodies)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    return tmp_path


@pytest.fixture
def desk(here, write_dataset, write_config):
    """A run of 40 lines into `out`, on any server; the same command every time."""

    def run(server, **more):
        options = {"dataset": dataset, "other_config": write_config(server.endpoint), "output_dir": "out"}
        return mmlu_pipe.run(**options | more)

    dataset = write_dataset(40)
    return run


def results(folder="out"):
    return {name: Path(folder, name).read_bytes() for name in RESULTS}


def state(folder="out"):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(folder).iterdir()}


def undisturbed(desk, **more):
    with AoaiServer(answer=picks) as server:
        desk(server, output_dir="undisturbed", **more)
    return results("undisturbed")


def interrupted_after(count, answer=picks):
    """Answers so many questions, then refuses the key."""

    def reply(body, number):
        return answer(body, number) if number < count else Reply(status=401)

    return reply


# A run that has ended


def test_the_same_command_on_a_finished_run_changes_nothing_and_tells_the_result(here, mmlu_pipe_command):
    command = ("run", "--output-dir", "out", "--limit", "7")
    first = mmlu_pipe_command(*command)
    before = state()
    again = mmlu_pipe_command(*command)
    assert (first.returncode, again.returncode) == (0, 0)
    assert again.stdout == first.stdout
    assert state() == before
    assert sorted(before) == ["calls.jsonl", "errors.jsonl", "manifest.json", "output.jsonl", "score.json"]


def test_a_finished_run_asks_nothing_again(desk):
    with AoaiServer(answer=picks) as server:
        first = desk(server)
        count = len(server.requests)
        again = desk(server, workers=3, max_errors="0", rpm=5, max_wait=1)
        assert len(server.requests) == count
    assert again.score == first.score
    assert again.status == "completed"


def test_a_finished_run_whose_files_were_changed_is_refused(desk):
    with AoaiServer(answer=picks) as server:
        desk(server)
        for name in ("output.jsonl", "score.json"):
            path = Path("out", name)
            content = path.read_bytes()
            path.write_bytes(content + b"\n")
            before = state()
            with pytest.raises(RunFolderError, match=f"{name}: is not as the run left it"):
                desk(server)
            assert state() == before
            path.write_bytes(content)
        assert desk(server).status == "completed"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 7}, "differs in seed (it was None, now 7)"),
        ({"limit": 3}, "differs in limit (it was None, now 3)"),
        ({"select_strategy": "text"}, "differs in select_strategy (it was 'auto', now 'text')"),
        ({"correct_key": "answer"}, "correct_key (it was 'correct_answer', now 'answer')"),
        ({"response_key": "zero_shot_choice"}, "differs in response_key"),
        ({"stream": True}, "differs in stream"),
        ({"require": ["temperature=0"]}, "differs in require"),
        ({"output_encoding": "utf-8-sig"}, "differs in output_encoding"),
        ({"seed": 7, "limit": 3}, "limit (it was None, now 3); seed (it was None, now 7)"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_option_is_refused_and_nothing_is_changed(desk, finished, change, told):
    with AoaiServer(answer=picks if finished else interrupted_after(9)) as server:
        if finished:
            desk(server)
        else:
            with pytest.raises(AuthenticationFailed):
                desk(server)
        before, count = state(), len(server.requests)
        if "correct_key" in change:
            dataset = Path("other key.jsonl")
            text = Path("questions.jsonl").read_text(encoding="utf-8")
            dataset.write_text(text.replace('"correct_answer"', '"answer"'), encoding="utf-8")
            change = {**change, "dataset": dataset}
        with pytest.raises(RunFolderError) as caught:
            desk(server, **change)
        assert len(server.requests) == count
    assert told in str(caught.value)
    assert "give --output-dir a new folder" in str(caught.value)
    assert caught.value.exit_code == 2
    assert state() == before


def test_another_dataset_program_or_deployment_is_refused(desk, here, write_dataset, write_config):
    program = here / "program.py"
    bundled = Path(mmlu_pipe.__file__).parents[2] / "guidance_programs" / "zero_shot.py"
    program.write_text(bundled.read_text(encoding="utf-8") + "\n# mine\n", encoding="utf-8")
    with AoaiServer({"dep": "gpt-4o", "dep2": "gpt-4o"}, answer=picks) as server, AoaiServer(answer=picks) as other:
        desk(server)
        changes = {
            "dataset": {"dataset": write_dataset(41, "more.jsonl")},
            "guidance_program": {"guidance_program": program},
            "aoai_endpoint": {"other_config": write_config(other.endpoint, "other.json")},
            "aoai_deployment": {"other_config": write_config(server.endpoint, "dep2.json", aoai_deployment="dep2")},
            "aoai_api_version (it was '2024-10-21', now '2024-08-01-preview')": {
                "other_config": write_config(server.endpoint, "v.json", aoai_api_version="2024-08-01-preview")
            },
        }
        for name, change in changes.items():
            with pytest.raises(RunFolderError) as caught:
                desk(server, **change)
            assert f"differs in {name}\n" in str(caught.value)
            assert server.endpoint not in str(caught.value)


def test_neither_manifest_nor_ledger_tells_host_or_deployment(desk, write_config):
    with AoaiServer({"secret-dep": "gpt-4o"}, answer=interrupted_after(9)) as server:
        config = write_config(server.endpoint, "secret.json", aoai_deployment="secret-dep")
        with pytest.raises(AuthenticationFailed):
            desk(server, other_config=config)
    for name in ("manifest.json", "ledger.jsonl"):
        text = Path("out", name).read_text(encoding="utf-8")
        assert "secret-dep" not in text
        assert server.endpoint.partition("//")[2] not in text


def test_the_same_files_under_other_names_are_the_same_run(desk, here):
    with AoaiServer(answer=picks) as server:
        desk(server)
        copy = here / "copy.jsonl"
        copy.write_bytes(Path("questions.jsonl").read_bytes())
        assert desk(server, dataset=copy).status == "completed"


def test_a_folder_with_a_manifest_that_is_none_is_refused(desk):
    Path("out").mkdir()
    with AoaiServer(answer=picks) as server:
        for content in ("{}", "[1]", "no json", '{"format": 1, "status": "completed"}'):
            Path("out/manifest.json").write_text(content, encoding="utf-8")
            with pytest.raises(RunFolderError, match="cannot be read as the manifest of a run"):
                desk(server)
            assert Path("out/manifest.json").read_text(encoding="utf-8") == content
        assert server.requests == []


# A run that was stopped


def test_a_stopped_run_goes_on_where_it_was_and_ends_as_if_nothing_had_been(desk):
    expected = undisturbed(desk)
    with AoaiServer(answer=interrupted_after(11)) as server:
        with pytest.raises(AuthenticationFailed):
            desk(server, workers=1)
        assert len(server.requests) == 12
        left = Path("out/errors.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["_error"]["kind"] for line in left] == ["authentication"] + ["not_run"] * 28
        server.answer = picks
        run = desk(server, workers=4)
        assert sorted(asked(server).values()) == [1] * 39 + [2]
    assert results() == expected
    assert run.score.count == 40
    facts = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))["run"]
    assert (facts["answered"], facts["calls"], facts["failed"]) == (40, 40, 0)
    assert not Path("out/ledger.jsonl").exists()


def test_a_run_over_its_budget_goes_on_with_a_larger_one(desk):
    def answer(body, _count):
        return Reply(finish_reason="length") if "Question 1" in question_of(body) else picks(body, 0)

    with AoaiServer(answer=answer) as server:
        with pytest.raises(ErrorBudgetExceeded):
            desk(server, max_errors=3, workers=2)
        count = len(server.requests)
        with pytest.raises(ErrorBudgetExceeded):
            desk(server, max_errors=3, workers=2)
        assert len(server.requests) == count  # it is exceeded already
        run = desk(server, max_errors=20, workers=2)
        assert set(asked(server).values()) == {1}
    assert (run.score.answered, run.score.failed) == (29, 11)
    assert Path("out/ledger.jsonl").exists()  # for --retry-errors


def test_an_endpoint_that_asks_for_a_long_wait_stops_the_run_and_it_goes_on_later(desk):
    expected = undisturbed(desk)

    def answer(body, count):
        return rate_limited(400_000) if 9 <= count < 12 else picks(body, count)

    with AoaiServer(answer=answer) as server:
        with pytest.raises(ComeBackLater, match="it continues this run") as caught:
            desk(server, workers=1)
        assert caught.value.seconds == 400
        assert len(server.requests) == 10
        left = Path("out/errors.jsonl").read_text(encoding="utf-8").splitlines()
        assert {json.loads(line)["_error"]["kind"] for line in left} == {"not_run"}
        assert json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))["status"] == "failed"
        server.answer = picks
        desk(server)
    assert results() == expected


def test_retry_errors_asks_the_failed_lines_alone(desk):
    expected = undisturbed(desk)
    failing = {f"Question {number}:" for number in (3, 17, 18)}

    def answer(body, _count):
        return Reply(finish_reason="length") if any(name in question_of(body) for name in failing) else picks(body, 0)

    with AoaiServer(answer=answer) as server:
        first = desk(server)
        assert first.score.failed == 3
        before = state()
        assert desk(server).score == first.score
        assert state() == before
        failing.discard("Question 17:")
        assert desk(server, retry_errors=True).score.failed == 2
        failing.clear()
        run = desk(server, retry_errors=True)
        counts = asked(server)
        assert sum(counts.values()) == 40 + 3 + 2
        assert run.score.failed == 0
        before = state()
        assert desk(server, retry_errors=True).score == run.score  # nothing is left to retry
        assert state() == before
    assert results() == expected
    assert not Path("out/ledger.jsonl").exists()


def test_retry_errors_needs_a_folder(desk):
    with AoaiServer(answer=picks) as server, pytest.raises(mmlu_pipe.MmluPipeError, match="needs --output-dir"):
        desk(server, output_dir=None, retry_errors=True)


def test_a_run_without_its_ledger_is_not_paid_for_twice(desk):
    with AoaiServer(answer=interrupted_after(9)) as server:
        with pytest.raises(AuthenticationFailed):
            desk(server)
        Path("out/ledger.jsonl").unlink()
        count = len(server.requests)
        with pytest.raises(RunFolderError, match=r"ledger.jsonl: is gone"):
            desk(server)
        assert len(server.requests) == count


def test_a_recording_that_stops_goes_on_and_records_the_rest(desk):
    record = {"cassette": "tape", "record_mode": "once"}
    with AoaiServer(answer=interrupted_after(9)) as server:
        with pytest.raises(AuthenticationFailed):
            desk(server, **record)
        server.answer = picks
        with pytest.raises(CassetteMiss, match="--record-mode new_episodes"):
            desk(server, **record)  # `once` records into an empty cassette only
        with pytest.raises(RunFolderError, match="differs in cassette"):
            desk(server, cassette="tape", record_mode="none")
        desk(server, **record | {"record_mode": "new_episodes"})
        assert sum(asked(server).values()) - 40 <= 8  # those that were refused
    replay = mmlu_pipe.run("questions.jsonl", cassette="tape", output_dir="replay")
    assert replay.status == "completed"
    assert results("replay")["output.jsonl"] == results()["output.jsonl"]


def test_lines_that_the_filter_blocks_do_not_spend_the_budget_unless_they_are_to_count(desk):
    def answer(body, count):
        return filtered_prompt() if count % 2 else picks(body, count)

    with AoaiServer(answer=answer) as server:
        run = desk(server, max_errors="0")
        assert (run.score.failed, run.score.count) == (20, 40)
        assert run.score.failed_by_kind == {"content_filter": 20}
        with pytest.raises(ErrorBudgetExceeded, match="content_filter"):
            desk(server, max_errors="0", on_content_filter="count", output_dir="other")
    first = json.loads(Path("out/errors.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["_error"]["categories"] == {"violence": "medium"}


def test_a_dataset_that_is_changed_in_mid_run_stops_it_and_restored_it_goes_on(desk):
    expected = undisturbed(desk)
    dataset = Path("questions.jsonl")
    content = dataset.read_bytes()

    def answer(body, count):
        if count == 5:
            dataset.write_bytes(content.replace(b"Question 39", b"Question 93"))
        return picks(body, count)

    with AoaiServer(answer=answer) as server:
        with pytest.raises(DatasetError, match=r"questions.jsonl:40: was changed while the run was going"):
            desk(server, workers=2)
        with pytest.raises(RunFolderError, match="differs in dataset"):
            desk(server)
        dataset.write_bytes(content)
        desk(server)
        assert set(asked(server).values()) == {1}
    assert results() == expected


def test_a_dataset_that_shrinks_in_mid_run_stops_it(desk):
    dataset = Path("questions.jsonl")
    content = dataset.read_bytes()

    def answer(body, count):
        if count == 2:
            os.truncate(dataset, len(b"".join(content.splitlines(keepends=True)[:30])))
        return picks(body, count)

    with AoaiServer(answer=answer) as server, pytest.raises(DatasetError, match="was changed while the run was going"):
        desk(server, workers=1)
    assert b"Question 39" not in Path("out/output.jsonl").read_bytes()


def test_two_runs_on_one_folder_do_not_meet(desk):
    begun, go_on = threading.Event(), threading.Event()

    def answer(body, count):
        begun.set()
        assert go_on.wait(WAIT_S)
        return picks(body, count)

    with AoaiServer(answer=answer) as server:
        first = threading.Thread(target=desk, args=(server,))
        first.start()
        try:
            assert begun.wait(WAIT_S)
            before = state()
            with pytest.raises(RunFolderError, match="another run is using this folder"):
                desk(server)
            assert state() == before
        finally:
            go_on.set()
            first.join()
        assert set(asked(server).values()) == {1}
    assert desk(server).score.count == 40


# A process that is stopped


class Command:
    """`mmlu-pipe run` in a process of its own, on a server that says when it has been asked so many questions."""

    def __init__(self, server, dataset, config, *more):
        arguments = ["run", "--dataset", dataset, "--other-config", config, "--output-dir", "out", *more]
        self.command = [sys.executable, "-m", "mmlu_pipe", *map(str, arguments)]
        self.server = server

    def start(self, largest_file=None):
        command = self.command
        if largest_file is not None:  # a disk that is full soon
            limit = f"import resource, os; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file},) * 2)"
            command = [sys.executable, "-c", f"{limit}; os.execv({command[0]!r}, {command!r})"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")

    def until_asked(self, count):
        """Start, and come back when the server has had so many requests."""
        process = self.start()
        with self.server.changed:
            reached = self.server.changed.wait_for(lambda: len(self.server.requests) >= count, WAIT_S)
        assert reached, process.communicate()
        return process

    def finish(self, **how):
        process = self.start(**how)
        out, err = process.communicate(timeout=WAIT_S)
        return subprocess.CompletedProcess(self.command, process.returncode, out, err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_with_the_way_to_go_on(desk, write_config, number):
    expected = undisturbed(desk)
    slow = threading.Event()

    def answer(body, count):
        slow.wait(0.02)
        return picks(body, count)

    with AoaiServer(answer=answer) as server:
        command = Command(server, "questions.jsonl", write_config(server.endpoint), "--workers", "2")
        process = command.until_asked(8)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=WAIT_S)
        assert process.returncode == 128 + number
        assert "to go on, repeat the command with --output-dir out" in stderr
        assert "Traceback" not in stderr
        again = command.finish()
        assert again.returncode == 0, again.stderr
        assert set(asked(server).values()) == {1}  # what was in flight was kept
    assert results() == expected


def test_a_run_that_is_killed_time_and_again_ends_as_if_nothing_had_been(here, write_dataset, write_config):
    """Kills at random moments: nothing is lost, nothing is doubled, little is paid for twice."""
    lines, kills, workers = 2000, 10, 8
    dataset = write_dataset(lines)
    with AoaiServer(answer=picks) as server:
        mmlu_pipe.run(dataset, other_config=write_config(server.endpoint), output_dir="undisturbed", workers=workers)
    with AoaiServer(answer=picks) as server:
        command = Command(server, dataset, write_config(server.endpoint), "--workers", workers)
        moments = sorted(random.Random(20261123).sample(range(5, lines - 50), kills))
        for moment in moments:
            process = command.until_asked(max(moment, len(server.requests) + 1))
            process.kill()
            process.communicate()
        in_flight = kills * workers
        ended = command.finish()
        assert ended.returncode == 0, ended.stderr
        counts = asked(server)
    assert len(counts) == lines
    assert sum(counts.values()) - lines <= in_flight
    assert results() == results("undisturbed")
    lines_of_calls = Path("out/calls.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["line_number"] for line in lines_of_calls] == list(range(1, lines + 1))


# Places that cannot be written


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_disk_that_gets_full_stops_the_run_and_with_room_it_goes_on(desk, write_config):
    expected = undisturbed(desk)
    with AoaiServer(answer=picks) as server:
        command = Command(server, "questions.jsonl", write_config(server.endpoint), "--workers", "2")
        ended = command.finish(largest_file=20_000)
        assert ended.returncode == 1
        assert "ledger.jsonl: cannot be written (File too large)" in ended.stderr
        assert "Traceback" not in ended.stderr
        asked_before = len(server.requests)
        assert 2 < asked_before < 40
        again = command.finish()
        assert again.returncode == 0, again.stderr
        assert sum(asked(server).values()) - 40 <= 4  # the answers that could not be kept
    assert results() == expected


@pytest.mark.parametrize("place", ["a file/out", "/proc/out" if sys.platform.startswith("linux") else "a file/out"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_asked(desk, place):
    Path("a file").write_text("", encoding="utf-8")
    with AoaiServer(answer=picks) as server:
        with pytest.raises(RunFolderError, match="cannot be made") as caught:
            desk(server, output_dir=place)
        assert caught.value.exit_code == 2
        assert server.requests == []


MERE_MORTAL = """
import ctypes, os, sys
if os.getuid() == 0:  # nothing is denied to root, but for what this takes away: CAP_DAC_OVERRIDE
    libc, head, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    sets[0] &= ~2
    assert libc.capset(head, sets) == 0
import mmlu_pipe.cli
sys.exit(mmlu_pipe.cli.main())
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_without_permission_is_refused_before_anything_is_asked(here, write_dataset, write_config):
    Path("theirs").mkdir(mode=0o555)
    with AoaiServer(answer=picks) as server:
        command = Command(server, write_dataset(3), write_config(server.endpoint))
        command.command = [sys.executable, "-c", MERE_MORTAL, *command.command[3:]]
        command.command[command.command.index("out")] = "theirs"
        ended = command.finish()
        assert server.requests == []
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "theirs/manifest.json: cannot be written (Permission denied)" in ended.stderr
    Path("theirs").chmod(0o755)


# Programs that catch what is not theirs

CAREFREE = """
from mmlu_pipe.bundled import bundled_program
import importlib.util, sys

spec = importlib.util.spec_from_file_location("bundled_zero_shot", bundled_program("zero_shot"))
bundled = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bundled)


def guidance_generation(lm, input):
    try:
        return bundled.guidance_generation(lm, input)
    except Exception:
        return {"zero_shot_choice": -1}
"""


@pytest.fixture
def carefree(here):
    path = here / "carefree.py"
    path.write_text(CAREFREE, encoding="utf-8")
    return path


def test_a_program_that_catches_everything_does_not_turn_a_stop_into_answers(desk, carefree):
    def answer(body, count):
        return rate_limited(400_000) if count >= 9 else picks(body, count)

    with AoaiServer(answer=answer) as server:
        with pytest.raises(ComeBackLater):
            desk(server, guidance_program=carefree, workers=1)
        answered = [json.loads(line) for line in Path("out/output.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["zero_shot_choice"] for line in answered] == [line["correct_answer"] for line in answered]
        assert len(answered) == 9
        server.answer = picks
        assert desk(server, guidance_program=carefree).score.n_correct == 40


def test_a_program_that_catches_everything_cannot_hide_what_ends_the_run(desk, carefree):
    hides = pytest.raises(ProgramError, match="hides that a call failed for good")
    with AoaiServer({"other": "gpt-4o"}, answer=picks) as server, hides:
        desk(server, guidance_program=carefree)
    assert not Path("out/output.jsonl").exists() or not Path("out/output.jsonl").read_bytes()


# What is left behind


def test_a_folder_in_which_the_first_manifest_was_cut_can_be_used(desk):
    Path("out").mkdir()
    Path("out/.manifest.json.new").write_bytes(b"")
    with AoaiServer(answer=picks) as server:
        assert desk(server).status == "completed"


def test_a_ledger_whose_beginning_is_damaged_is_refused_and_kept(desk):
    with AoaiServer(answer=interrupted_after(9)) as server:
        with pytest.raises(AuthenticationFailed):
            desk(server)
        ledger = Path("out/ledger.jsonl")
        content = bytearray(ledger.read_bytes())
        content[100] ^= 1
        ledger.write_bytes(content)
        count = len(server.requests)
        with pytest.raises(RunFolderError, match="its beginning is damaged"):
            desk(server)
        assert (len(server.requests), ledger.read_bytes()) == (count, bytes(content))


def test_an_error_that_names_host_and_deployment_is_told_without_them(desk, write_config):
    def answer(_body, _count):
        said = f"Unknown model: my-secret-dep at {server.endpoint.partition('//')[2]} (my-secret-dep, 127.0.0.1)"
        return Reply(status=404, error={"code": "unknown_model", "message": said})

    with AoaiServer({"my-secret-dep": "gpt-4o"}, answer=answer) as server:
        config = write_config(server.endpoint, "secret.json", aoai_deployment="my-secret-dep")
        with pytest.raises(EndpointRejected, match=r"Unknown model: \[deployment\] at \[host\]"):
            desk(server, other_config=config)
    for path in Path("out").iterdir():
        text = path.read_text(encoding="utf-8")
        assert "my-secret-dep" not in text, path
        assert "127.0.0.1" not in text, path


def test_a_recording_does_not_go_on_in_another_folder(desk):
    record = {"record_mode": "new_episodes"}
    with AoaiServer(answer=interrupted_after(9)) as server:
        with pytest.raises(AuthenticationFailed):
            desk(server, cassette="tape", **record)
        server.answer = picks
        with pytest.raises(RunFolderError, match=r"differs in cassette \(it was 'tape', now 'other'\)"):
            desk(server, cassette="other", **record)
        assert desk(server, cassette="tape", **record).status == "completed"
