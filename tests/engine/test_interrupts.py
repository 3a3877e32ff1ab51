import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.engine.interrupts import Interrupts
from tests.servers.aoai import AoaiServer, default_answer, rate_limited

LINES = 400
WAIT_S = 60

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")


def test_the_first_signal_is_noted_and_the_second_ends_at_once():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts() as interrupts:
        assert interrupts.signal_number is None
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.signal_number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.signal_number == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_handlers_are_put_back_also_after_an_error_and_where_python_did_not_set_them(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), Interrupts():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before
    put_back = []
    monkeypatch.setattr(signal, "signal", lambda _number, handler: put_back.append(handler))  # returns None
    with Interrupts():
        pass
    assert put_back[2:] == [signal.SIG_DFL] * 2


def test_outside_of_the_main_thread_it_does_nothing():
    seen = []

    def work():
        with Interrupts() as interrupts:
            seen.append(interrupts.signal_number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


class Command:
    """A run in a process of its own, against a server that holds its third answer until it is told."""

    def __init__(self, folder, kind, answer=None):
        self.folder, self.reached, self.release = folder, threading.Event(), threading.Event()
        program = folder / "program.py"
        program.write_text(
            "from guidance import assistant, select, user\n\n\n"
            "def guidance_generation(lm, input):\n"
            "    with user():\n        lm += input['question']\n"
            "    with assistant():\n        lm += select(['0', '1'], name='choice')\n"
            "    return {'choice': int(lm['choice'])}\n",
            encoding="utf-8",
        )
        dataset = folder / "data.jsonl"
        with dataset.open("w", encoding="utf-8") as handle:
            for number in range(1, LINES + 1):
                line = {"subject": "s", "question": f"q {number}", "choices": ["0", "1"], "correct_answer": 0}
                handle.write(json.dumps(line | {"dataset": "d"}) + "\n")
        self.server = AoaiServer(answer=answer or self.answer)
        self.run_dir = folder / "run"
        where = {"endpoint": self.server.endpoint, "deployment": "dep", "model": "gpt-4o", "api_version": "2024-10-21"}
        if kind == "component":
            ports = {"guidance_program": program, "input_dataset": dataset, "guidance_workers": 2}
            ports |= {f"azure_openai_{name}": value for name, value in where.items()}
            ports |= {
                "output_dataset": self.run_dir / "output.jsonl",
                "error_dataset": self.run_dir / "errors.jsonl",
                "calls_dataset": self.run_dir / "calls.jsonl",
            }
            arguments = ["mmlu_pipe.components.jsonl_guidance_aoai", *jsonl_guidance_aoai.arguments(ports)]
        else:
            config = folder / "other_configs.json"
            config.write_text(json.dumps({f"aoai_{name}": value for name, value in where.items()}), encoding="utf-8")
            options = f"--dataset={dataset} --guidance-program={program} --other-config={config} --workers=2 --json"
            arguments = ["mmlu_pipe", "run", *options.split(), f"--output-dir={self.run_dir}"]
        self.command = [sys.executable, "-m", *arguments]

    def answer(self, body, count):
        if count == 2:
            self.reached.set()
            assert self.release.wait(WAIT_S)
        return default_answer(body, count)

    def start(self):
        return subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=os.environ | {"AZURE_OPENAI_API_KEY": "test-key"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def interrupted(self, *signals, then=lambda: None):
        """Run until the third answer is asked for, send the signals, let the server answer; the process at its end."""
        process = self.start()
        with self.server:
            try:
                assert self.reached.wait(WAIT_S), process.communicate()
                for number in signals:
                    process.send_signal(number)
                then()
                self.release.set()
                stdout, stderr = process.communicate(timeout=WAIT_S)
            finally:
                self.release.set()
                process.kill()
                process.wait()
        return subprocess.CompletedProcess(self.command, process.returncode, stdout, stderr)

    def lines(self, name):
        text = (self.run_dir / f"{name}.jsonl").read_text(encoding="utf-8")
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("kind", ["component", "run"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_run_keeps_what_is_answered_and_under_way(tmp_path, kind, number, code):
    command = Command(tmp_path, kind)
    ended = command.interrupted(number)
    assert ended.returncode == code, ended.stderr
    assert f"stopped by {number.name}" in ended.stderr
    assert "Traceback" not in ended.stderr
    answered, failed = command.lines("output"), command.lines("errors")
    questions = [line["question"] for line in (*answered, *failed)]
    assert sorted(questions) == sorted(f"q {n}" for n in range(1, LINES + 1))
    asked = {body["messages"][-1]["content"] for body in command.server.bodies}
    assert asked == {line["question"] for line in answered}  # every answer that was paid for is kept
    assert {line["_error"]["kind"] for line in failed} == {"not_run"}
    assert len(failed) > 0
    if kind == "run":
        manifest = json.loads((command.run_dir / "manifest.json").read_text(encoding="utf-8"))
        told = json.loads(ended.stdout)
        assert (manifest["status"], told["status"]) == ("cancelled", "cancelled")
        assert (told["answered"], told["failed"]) == (len(answered), len(failed))


def test_a_second_signal_ends_the_run_without_waiting_for_answers(tmp_path):
    command = Command(tmp_path, "component")
    process = command.start()
    with command.server:
        try:
            assert command.reached.wait(WAIT_S)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)  # another one: two of a kind may reach Python as one
            process.wait(WAIT_S)  # while the server still holds its answer
        finally:
            command.release.set()
            _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    (ledger,) = re.findall(r"(\S+): holds every finished line; name it as --ledger to go on", stderr)
    told = Path(ledger).read_text(encoding="utf-8")
    assert told.count('"fate":"output"') >= 1  # what was finished before the third question is kept
    shutil.rmtree(Path(ledger).parent)


@pytest.mark.parametrize("kind", ["component", "run"])
def test_a_signal_before_the_first_line_ends_the_process_as_one_later_does(tmp_path, kind):
    command = Command(tmp_path, kind)
    program = tmp_path / "program.py"
    waits = "import sys, time\nsys.stderr.write('importing\\n')\nsys.stderr.flush()\ntime.sleep(60)\n"
    program.write_text(waits + program.read_text(encoding="utf-8"), encoding="utf-8")
    with command.server:
        process = command.start()
        try:
            while "importing" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 143, stderr
    assert "Traceback" not in stderr


def test_a_signal_ends_waits_between_attempts(tmp_path):
    """The service asks to come back in a minute; the run does not wait for that."""
    waiting = threading.Event()

    def answer(_body, count):
        if count >= 1:
            waiting.set()
        return rate_limited(59_000)

    command = Command(tmp_path, "component", answer)
    command.reached = waiting
    ended = command.interrupted(signal.SIGTERM)
    assert ended.returncode == 143, ended.stderr
    failed = command.lines("errors")
    assert [line["_error"]["kind"] for line in failed] == ["not_run"] * LINES
    assert {call["error"] for call in command.lines("calls")} == {"error"}
    assert len(command.lines("calls")) == 2
