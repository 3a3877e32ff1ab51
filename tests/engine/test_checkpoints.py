import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.engine.checkpoints import Checkpoints, go_on_from
from mmlu_pipe.engine.ledger import Ledger, Record
from mmlu_pipe.errors import RunFolderError
from tests.servers.aoai import AoaiServer

PROGRAM = Path(__file__).resolve().parents[2] / "guidance_programs" / "zero_shot.py"
WAIT_S = 60
LINES = 60
RESULTS = ("output.jsonl", "errors.jsonl")


def picks(body, _count):
    return json.dumps({"choice": body["messages"][-1]["content"].split("pick ")[1][0]})


def run(_salt, seed=None):
    return {"seed": seed}


def record(number):
    return Record(number, "output", b'{"a": %d}\n' % number, b"")


def numbers(ledger):
    return [each.number for each in ledger.records()]


# The files


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mounted" / "checkpoints"


def filled(path, folder, upto, every=4, begin=1):
    with Ledger(path, run) as ledger:
        checkpoints = Checkpoints(ledger, folder, every)
        for number in range(begin, upto + 1):
            ledger.append(record(number))
            checkpoints.count()
    return sorted(path.name for path in folder.iterdir())


def test_every_so_many_lines_one_more_whole_file_is_written(tmp_path, folder):
    assert filled(tmp_path / "a", folder, 11) == ["ledger-000001.jsonl", "ledger-000002.jsonl"]
    with Ledger(folder / "ledger-000002.jsonl", run) as second:
        assert numbers(second) == [5, 6, 7, 8]


def test_an_empty_disk_goes_on_from_the_files_and_adds_to_them(tmp_path, folder):
    filled(tmp_path / "a", folder, 11)
    names = filled(tmp_path / "b", folder, 12, begin=9)
    assert names == [f"ledger-00000{number}.jsonl" for number in (1, 2, 3)]
    with Ledger(tmp_path / "c", run) as ledger:
        Checkpoints(ledger, folder, 4)
        assert numbers(ledger) == list(range(1, 13))


def test_the_last_lines_are_written_when_asked_to_and_nothing_twice(tmp_path, folder):
    with Ledger(tmp_path / "a", run) as ledger:
        checkpoints = Checkpoints(ledger, folder, 100)
        checkpoints.write()
        assert not folder.exists()  # there is nothing to copy
        ledger.append(record(1))
        checkpoints.write()
        checkpoints.write()
    assert [path.name for path in folder.iterdir()] == ["ledger-000001.jsonl"]


def test_a_file_that_was_cut_keeps_its_whole_records(tmp_path, folder):
    filled(tmp_path / "a", folder, 8)
    second = folder / "ledger-000002.jsonl"
    whole = second.read_bytes()
    for size in range(0, len(whole), 7):
        second.write_bytes(whole[:size])
        ledger_path = tmp_path / f"b{size}"
        with Ledger(ledger_path, run) as ledger:
            Checkpoints(ledger, folder, 4)
            found = numbers(ledger)
        assert found == list(range(1, len(found) + 1))
        assert 4 <= len(found) <= 8
        assert second.read_bytes() == whole[:size]


def test_checkpoints_of_another_run_are_refused(tmp_path, folder):
    filled(tmp_path / "a", folder, 8)
    with (
        Ledger(tmp_path / "b", lambda salt: run(salt, seed=7)) as ledger,
        pytest.raises(RunFolderError, match=r"differs in seed \(it was None, now 7\)"),
    ):
        Checkpoints(ledger, folder, 4)


def test_a_folder_that_takes_no_file_is_warned_of_and_the_run_goes_on(tmp_path, folder, caplog):
    folder.parent.mkdir()
    folder.write_text("no folder", encoding="utf-8")
    with Ledger(tmp_path / "a", run) as ledger:
        checkpoints = Checkpoints(ledger, folder, 1)
        ledger.append(record(1))
        checkpoints.count()
        assert "cannot be written" in caplog.text
        folder.unlink()
        ledger.append(record(2))
        checkpoints.count()
    with Ledger(tmp_path / "b", run) as ledger:
        Checkpoints(ledger, folder, 1)
        assert numbers(ledger) == [1, 2]


# Going on from an earlier job


def earlier(tmp_path, *records):
    folder = tmp_path / "earlier" / "checkpoints"
    with Ledger(tmp_path / "of the earlier", run) as ledger:
        checkpoints = Checkpoints(ledger, folder, 2)
        for each in records:
            ledger.append(each)
            checkpoints.count()
        checkpoints.write()
    return folder


def failed(number, text):
    return Record(number, "errors", b'{"error": "%s"}\n' % text, b"")


def test_another_jobs_lines_are_taken_over_and_its_folder_stays_as_it_was(tmp_path):
    theirs = earlier(tmp_path, *map(record, range(1, 6)))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in theirs.iterdir()}
    with Ledger(tmp_path / "a", run) as ledger:
        go_on_from(ledger, theirs)
        assert numbers(ledger) == [1, 2, 3, 4, 5]
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in theirs.iterdir()} == before


def test_what_was_taken_over_is_in_the_own_checkpoints_once(tmp_path, folder):
    theirs = earlier(tmp_path, *map(record, range(1, 6)))
    for start in range(2):
        with Ledger(tmp_path / f"disk {start}", run) as ledger:
            checkpoints = Checkpoints(ledger, folder, 100)
            go_on_from(ledger, theirs)
            ledger.append(record(6 + start))
            checkpoints.write()
    with Ledger(tmp_path / "c", run) as ledger:
        Checkpoints(ledger, folder, 100)
        assert numbers(ledger) == list(range(1, 8))
    assert sum(path.read_bytes().count(b'{"a": 3}') for path in folder.iterdir()) == 1


def test_the_own_lines_go_before_those_of_the_earlier_job_and_its_later_ones_before_its_first(tmp_path):
    theirs = earlier(tmp_path, failed(1, b"first"), failed(2, b"first"), failed(2, b"last"))
    with Ledger(tmp_path / "a", run) as ledger:
        ledger.append(failed(1, b"own"))
        go_on_from(ledger, theirs)
        assert [each.line for each in ledger.records()] == [b'{"error": "own"}\n', b'{"error": "last"}\n']


def test_the_earlier_job_must_be_of_the_same_run(tmp_path):
    theirs = earlier(tmp_path, record(1))
    with (
        Ledger(tmp_path / "b", lambda salt: run(salt, seed=7)) as ledger,
        pytest.raises(RunFolderError, match=r"differs in seed \(it was None, now 7\)"),
    ):
        go_on_from(ledger, theirs)


@pytest.mark.parametrize("there", [True, False])
def test_an_earlier_job_without_checkpoints_is_no_silent_start_from_the_beginning(tmp_path, there):
    theirs = tmp_path / "earlier"
    if there:
        theirs.mkdir()
        (theirs / "output.jsonl").touch()
    with Ledger(tmp_path / "a", run) as ledger, pytest.raises(RunFolderError, match="holds no checkpoints"):
        go_on_from(ledger, theirs)


# A step of a job


class Step:
    """Component 1 as a cluster runs it: a process, an output folder that stays, a disk that does not."""

    def __init__(self, folder, server, write_dataset, every=5):
        self.server, self.mounted = server, folder / "mounted"
        self.ports = {
            "guidance_program": PROGRAM,
            "input_dataset": write_dataset(LINES),
            "azure_openai_endpoint": server.endpoint,
            "azure_openai_deployment": "dep",
            "azure_openai_model": "gpt-4o",
            "azure_openai_api_version": "2024-10-21",
            "guidance_workers": 2,
            "checkpoint_every": every,
            "checkpoints": self.mounted / "checkpoints",
            "output_dataset": self.mounted / "output.jsonl",
            "error_dataset": self.mounted / "errors.jsonl",
            "calls_dataset": self.mounted / "calls.jsonl",
        }

    def start(self, **environment):
        disk = self.mounted.parent / "disk"
        shutil.rmtree(disk, ignore_errors=True)  # a new node
        disk.mkdir(parents=True)
        arguments = jsonl_guidance_aoai.arguments(self.ports)
        return subprocess.Popen(
            [sys.executable, "-m", "mmlu_pipe.components.jsonl_guidance_aoai", *arguments],
            env=os.environ | {"AZURE_OPENAI_API_KEY": "test-key", "TMPDIR": str(disk)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def until_asked(self, count, **environment):
        process = self.start(**environment)
        with self.server.changed:
            reached = self.server.changed.wait_for(lambda: len(self.server.requests) >= count, WAIT_S)
        assert reached, process.communicate()
        return process

    def finish(self, **environment):
        process = self.start(**environment)
        _, stderr = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, stderr
        assert list((self.mounted.parent / "disk").iterdir()) == []
        return {name: (self.mounted / name).read_bytes() for name in RESULTS}, stderr

    def asked(self):
        return Counter(body["messages"][-1]["content"] for body in self.server.bodies)


@pytest.fixture
def undisturbed(tmp_path, write_dataset):
    with AoaiServer(answer=picks) as server:
        return Step(tmp_path / "undisturbed", server, write_dataset).finish()[0]


def test_a_step_whose_node_is_lost_goes_on_from_its_checkpoints(tmp_path, write_dataset, undisturbed):
    with AoaiServer(answer=picks) as server:
        step = Step(tmp_path, server, write_dataset)
        lost = step.until_asked(LINES // 2)
        lost.kill()
        lost.communicate()
        found, _ = step.finish()
        counts = step.asked()
    assert found == undisturbed
    assert len(counts) == LINES
    assert sum(counts.values()) - LINES <= 5 + 2 * 2  # a checkpoint's worth, and what was in flight


def test_a_step_that_is_told_to_end_loses_nothing(tmp_path, write_dataset, undisturbed):
    with AoaiServer(answer=picks) as server:
        step = Step(tmp_path, server, write_dataset, every=1000)
        ended = step.until_asked(LINES // 2)
        ended.send_signal(signal.SIGTERM)
        _, stderr = ended.communicate(timeout=WAIT_S)
        assert ended.returncode == 128 + signal.SIGTERM, stderr
        found, _ = step.finish()
        assert set(step.asked().values()) == {1}
    assert found == undisturbed


def test_another_job_goes_on_from_the_checkpoints_of_one_that_was_stopped(tmp_path, write_dataset, undisturbed):
    with AoaiServer(answer=picks) as server:
        first = Step(tmp_path / "first", server, write_dataset)
        stopped = first.until_asked(LINES // 2)
        stopped.send_signal(signal.SIGTERM)
        stopped.communicate(timeout=WAIT_S)
        second = Step(tmp_path / "second", server, write_dataset)
        second.ports |= {"resume_from": first.mounted / "checkpoints", "max_wait": 9.0}
        found, _ = second.finish()
        third = Step(tmp_path / "third", server, write_dataset)
        third.ports |= {"resume_from": second.mounted / "checkpoints", "auth": "key"}
        again, _ = third.finish()
        assert set(first.asked().values()) == {1}
        assert len(first.asked()) == LINES
    assert found == again == undisturbed


def test_a_job_of_other_options_does_not_go_on_from_it(tmp_path, write_dataset):
    with AoaiServer(answer=picks) as server:
        first = Step(tmp_path / "first", server, write_dataset)
        first.finish()
        second = Step(tmp_path / "second", server, write_dataset)
        second.ports |= {"resume_from": first.mounted / "checkpoints", "seed": 7}
        process = second.start()
        _, stderr = process.communicate(timeout=WAIT_S)
        assert process.returncode == 2
        assert "differs in seed" in stderr
        assert len(server.requests) == LINES


@pytest.fixture(scope="session")
def refusing(tmp_path_factory):
    """A library that makes a folder refuse what mounted cloud storage refuses."""
    if not sys.platform.startswith("linux"):
        pytest.skip("LD_PRELOAD is Linux's")
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("refusing") / "refusing.so"
    source = Path(__file__).with_name("refusing.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def test_the_folder_of_these_tests_does_refuse(tmp_path, refusing):
    """The canary: without refusals the next test would prove nothing."""
    tries = {
        "append": "open('x', 'ab')",
        "rename": "open('x', 'wb').close(); os.rename('x', 'y')",
        "lock": "fcntl.flock(open('x', 'wb'), fcntl.LOCK_EX)",
        "cut": "open('x', 'wb').truncate(0)",
        "seek while writing": "open('x', 'wb', buffering=0).seek(3)",
    }
    for what, code in tries.items():
        done = subprocess.run(
            [sys.executable, "-c", f"import fcntl, os; {code}"],
            cwd=tmp_path,
            env=os.environ | {"LD_PRELOAD": str(refusing), "REFUSING_FOLDER": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"refused: {what}" in done.stderr
        assert "Operation not supported" in done.stderr


def test_a_mount_that_refuses_appends_renames_and_locks_is_enough_for_a_job(
    tmp_path, write_dataset, undisturbed, refusing
):
    with AoaiServer(answer=picks) as server:
        step = Step(tmp_path, server, write_dataset)
        mount = {"LD_PRELOAD": str(refusing), "REFUSING_FOLDER": str(step.mounted)}
        lost = step.until_asked(LINES // 2, **mount)
        lost.kill()
        lost.communicate()
        found, stderr = step.finish(**mount)
        assert "refused" not in stderr
    assert found == undisturbed
