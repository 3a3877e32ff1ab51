import asyncio
import gc
import json
import logging
import threading
import weakref
from itertools import count
from pathlib import Path

import guidance
import pluggy
import pytest

import mmlu_pipe.plugins as plugins
from mmlu_pipe.engine.budget import ErrorBudget
from mmlu_pipe.engine.evaluate import evaluate, not_run
from mmlu_pipe.engine.tally import NOT_RUN, Tally
from mmlu_pipe.errors import (
    AuthenticationFailed,
    CassetteMiss,
    ContentFiltered,
    DatasetError,
    ErrorBudgetExceeded,
    ProgramError,
    RunFolderError,
    SelectFailed,
)
from mmlu_pipe.hookspecs import PROJECT
from mmlu_pipe.jsonl import dump_line
from mmlu_pipe.programs import Program, load_program
from mmlu_pipe.records import ERROR_KEY, Call, LineAnswer

MODEL = guidance.models.Mock()
WAIT_S = 30


@pytest.fixture(autouse=True)
def _loggers_are_on(monkeypatch):
    """Import-linter, run in this process by another test, disables all that exist."""
    for name in ("mmlu_pipe.plugins", "mmlu_pipe.engine"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)


class Run:
    """The fates of lines that a program is run over."""

    def __init__(self, function, lines=10, *, workers=4, max_errors="1000", path="program.py", stop_waiting=None):
        if not isinstance(lines, list):
            lines = [(number, {"question": f"question {number}"}) for number in range(1, lines + 1)]
        program = function if isinstance(function, Program) else Program(Path(path), function)
        self.final = {}
        kept, self.tally, self.raised, self.stopped = {}, Tally(), None, 0

        def keep(answer, final):
            assert answer.line_number not in kept
            kept[answer.line_number] = answer
            self.final[answer.line_number] = final

        def stop():
            self.stopped += 1
            if stop_waiting is not None:
                stop_waiting()

        try:
            evaluate(
                iter(lines),
                program,
                MODEL,
                workers=workers,
                budget=ErrorBudget.parse(max_errors, len(lines)),
                keep=keep,
                tally=self.tally,
                stop_waiting=stop,
            )
        except Exception as failure:  # noqa: BLE001 - it is for the test to judge
            self.raised = failure
        assert all((answer.outputs is None) is not (answer.error is None) for answer in kept.values())
        assert self.tally.answered + self.tally.failed == len(kept)
        self.answers = [kept.get(number) or not_run(number, line) for number, line in lines]

    @property
    def errors(self):
        return [answer.error for answer in self.answers if answer.error is not None]

    @property
    def kinds(self):
        return [answer.error.kind if answer.error else "ok" for answer in self.answers]


def number_of(line):
    return int(line["question"].split()[1])


def fine(_lm, line):
    return {"answer": number_of(line)}


# The fate of a line


@pytest.mark.parametrize("workers", [1, 2, 7, 64])
def test_every_line_ends_in_exactly_one_place(workers):
    def odd_ones_fail(_lm, line):
        if number_of(line) % 2:
            raise KeyError("choice")
        return {"answer": number_of(line)}

    run = Run(odd_ones_fail, 200, workers=workers)
    assert run.raised is None
    assert [answer.outputs for answer in run.answers[1::2]] == [{"answer": n} for n in range(2, 201, 2)]
    assert run.kinds == ["program", "ok"] * 100
    assert (run.tally.answered, run.tally.failed, run.tally.failed_by_kind) == (100, 100, {"program": 100})
    assert run.stopped == 0


def test_the_worker_count_changes_no_byte():
    gates = {number: threading.Event() for number in range(1, 41)}

    def out_of_order(_lm, line):
        number = number_of(line)
        if number % 8 != 0:  # seven of eight wait for the next one
            gates[number].wait(WAIT_S)
        if number > 1:
            gates[number - 1].set()
        if number % 3 == 0:
            raise ValueError(f"no {number}")
        return {"answer": number, "other": [number / 2]}

    def written(run):
        return b"".join(
            dump_line(answer.line | (answer.outputs or {ERROR_KEY: answer.error.to_json()})) for answer in run.answers
        )

    parallel = Run(out_of_order, 40, workers=8)
    for gate in gates.values():
        gate.set()
    assert written(parallel) == written(Run(out_of_order, 40, workers=1))


def test_a_program_may_change_its_input_without_changing_the_line():
    def vandal(_lm, line):
        line["choices"].append("more")
        line["question"] = "changed"
        del line["nested"]
        return {"answer": len(line["choices"])}

    lines = [(1, {"question": "q", "choices": ["a"], "nested": {"a": [1]}})]
    (answer,) = Run(vandal, lines).answers
    assert answer.line == {"question": "q", "choices": ["a"], "nested": {"a": [1]}}
    assert answer.outputs == {"answer": 2}


def test_a_program_may_go_on_to_change_what_it_returned():
    shared = {}

    def careless(_lm, line):
        shared["answer"] = number_of(line)
        return shared

    run = Run(careless, 50, workers=1)
    assert [answer.outputs["answer"] for answer in run.answers] == list(range(1, 51))


def test_results_become_plain_json():
    class Text(str):
        __slots__ = ()

    run = Run(
        lambda _lm, _line: {"a": (1, 2), Text("b"): Text("x"), "c": {1: None, False: 0.5}, "d": "\ud800 \u2028"}, 1
    )
    (answer,) = run.answers
    assert answer.outputs == {"a": [1, 2], "b": "x", "c": {"1": None, "false": 0.5}, "d": "\ud800 \u2028"}
    assert [type(key) for key in answer.outputs] == [str] * 4


def test_a_line_without_a_subject_or_with_an_odd_one_runs():
    lines = [(1, {}), (2, {"subject": None}), (3, {"subject": ["a", 1]}), (4, {"subject": {"x": 1}})]
    assert Run(lambda _lm, _line: {"answer": 1}, lines).kinds == ["ok"] * 4


# What a program raises


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def recurse(_lm, _line):
    return recurse(_lm, _line)


def raising(error):
    def function(_lm, _line):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "kind", "said"),
    [
        (raising(KeyError("choice")), "KeyError", "'choice'"),
        (raising(SystemExit(3)), "SystemExit", "3"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt", ""),
        (raising(GeneratorExit()), "GeneratorExit", ""),
        (raising(asyncio.CancelledError()), "CancelledError", ""),
        (raising(StopIteration(1)), "StopIteration", "1"),
        (raising(MemoryError()), "MemoryError", ""),
        (raising(Unspeakable()), "Unspeakable", "no message"),
        (raising(ExceptionGroup("many", [ValueError("a")])), "ExceptionGroup", "many"),
        (recurse, "RecursionError", "maximum recursion depth exceeded"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_whatever_a_program_raises_is_an_error_of_its_line(function, kind, said):
    run = Run(lambda lm, line: function(lm, line) if number_of(line) == 3 else fine(lm, line), 5)
    assert run.raised is None
    assert run.kinds == ["ok", "ok", "program", "ok", "ok"]
    assert run.errors[0].error_type == kind
    assert run.errors[0].message.startswith(said)


def test_the_message_names_the_place_in_the_program(tmp_path):
    path = tmp_path / "sub" / "my program.py"
    path.parent.mkdir()
    path.write_text(
        "import json\n\n\ndef helper(text):\n    return json.loads(text)\n\n\n"
        "def guidance_generation(lm, input):\n    return helper(input['question'])\n",
        encoding="utf-8",
    )
    (error,) = Run(load_program(path), 1).errors
    assert error.error_type == "JSONDecodeError"
    assert error.message == "Expecting value: line 1 column 1 (char 0) (my program.py:5)"


def test_the_place_is_named_for_a_relative_path_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("program.py")
    path.write_text("def guidance_generation(lm, input):\n    return input['nothing']\n", encoding="utf-8")
    (error,) = Run(load_program(path), 1).errors
    assert error.message == "'nothing' (program.py:2)"


def test_errors_of_the_endpoint_are_errors_of_their_line_with_their_details():
    run = Run(raising(ContentFiltered("blocked", categories={"hate": "high"})), 1)
    assert run.raised is None
    assert run.errors[0].to_json() == {
        "line_number": 1,
        "kind": "content_filter",
        "error_type": "ContentFiltered",
        "message": "blocked",
        "categories": {"hate": "high"},
    }
    assert Run(raising(SelectFailed("off the menu", options=["a"], text="b")), 1).kinds == ["select_failed"]


# What a program returns

CYCLE = {}
CYCLE["me"] = CYCLE


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (None, "must return a dict with text keys, not a value of type NoneType"),
        ([1], "not a value of type list"),
        (object(), "not a value of type object"),
        ("text", "not a value of type str"),
        ({1: 2}, "not a key of type int"),
        ({"a": 1, None: 2}, "not a key of type NoneType"),
        ({"question": 1}, "returns the key 'question', which the line already has"),
        ({"_error": 1}, "returns the key '_error'"),
        ({"a": {1, 2}}, "returns what is not JSON (Object of type set"),
        ({"a": b"x"}, "returns what is not JSON"),
        ({"a": float("nan")}, "returns what is not JSON"),
        ({"a": [float("-inf")]}, "returns what is not JSON"),
        ({"a": 10**5000}, "returns what is not JSON"),
        ({"a": {(1, 2): 3}}, "returns what is not JSON"),
        (CYCLE, "returns what is not JSON (Circular reference"),
    ],
    ids=count(),
)
def test_a_result_that_breaks_the_contract_stops_the_run(outputs, said, tmp_path):
    run = Run(
        lambda lm, line: outputs if number_of(line) == 2 else fine(lm, line), 300, workers=1, path=tmp_path / "p.py"
    )
    assert isinstance(run.raised, ProgramError)
    assert run.raised.exit_code == 2
    assert said in str(run.raised)
    assert run.kinds[:2] == ["ok", "program"]
    assert run.kinds[-1] == NOT_RUN
    assert run.errors[0].message.startswith("p.py: guidance_generation, on line 2, ")
    assert str(tmp_path) not in run.errors[0].message  # errors.jsonl is the same on every machine
    assert run.stopped == 1


def test_a_program_error_of_a_construct_stops_the_run():
    run = Run(raising(ProgramError("gen(regex=…) cannot work on a chat endpoint")), 300, workers=1)
    assert (type(run.raised), run.kinds[0], run.kinds[-1]) == (ProgramError, "program", NOT_RUN)


# Budget


@pytest.mark.parametrize(
    ("max_errors", "failing", "survives"),
    [
        ("0", 0, True),
        ("0", 1, False),
        ("3", 3, True),
        ("3", 4, False),
        ("10%", 2, True),
        ("10%", 3, False),
        ("100%", 20, True),
    ],
)
@pytest.mark.parametrize("workers", [1, 8])
def test_more_failed_lines_than_allowed_end_the_run(max_errors, failing, survives, workers):
    def function(lm, line):
        if number_of(line) <= failing:
            raise KeyError("x")
        return fine(lm, line)

    run = Run(function, 20, workers=workers, max_errors=max_errors)
    assert (run.raised is None) is survives
    if not survives:
        assert isinstance(run.raised, ErrorBudgetExceeded)
        assert (run.raised.failed, run.raised.max_errors, run.raised.exit_code) == (failing, max_errors, 1)
        assert run.raised.first == "line 1: KeyError: 'x' (program.py)"
        noun = "line" if failing == 1 else "lines"
        assert f"{failing} {noun} failed ({failing} program)" in str(run.raised)


def test_a_run_over_its_budget_keeps_what_is_answered_or_under_way_and_marks_the_rest():
    under_way, stopping = threading.Barrier(4), threading.Event()

    def function(lm, line):
        number = number_of(line)
        if number <= 4:
            under_way.wait(WAIT_S)  # four lines run together
        if number == 1:
            raise KeyError("x")
        if number in (2, 3, 4):
            assert stopping.wait(WAIT_S)  # they end only after the run was stopped by line 1
        return fine(lm, line)

    run = Run(function, 300, workers=4, max_errors="0", stop_waiting=stopping.set)
    assert isinstance(run.raised, ErrorBudgetExceeded)
    assert run.kinds[:4] == ["program", "ok", "ok", "ok"]
    assert run.kinds[-1] == NOT_RUN
    left = [error for error in run.errors if error.kind == NOT_RUN]
    assert {(error.error_type, error.message) for error in left} == {
        ("NotRun", "the run stopped before this line had an answer")
    }
    assert run.tally.failed == 1
    assert run.raised.failed == 1
    assert run.stopped == 1


def test_an_error_that_concerns_the_whole_run_ends_it_whatever_the_budget():
    run = Run(raising(AuthenticationFailed("401")), 300, workers=2, max_errors="100%")
    assert isinstance(run.raised, AuthenticationFailed)
    assert run.kinds[-1] == NOT_RUN


def test_the_first_missing_recordings_are_told_in_full_and_the_others_counted_by_kind():
    under_way = threading.Barrier(8)

    def function(_lm, line):
        number = number_of(line)
        under_way.wait(WAIT_S)
        field = "messages[1].content" if number % 2 else "temperature"
        raise CassetteMiss(f"tape: no recording (line {number})", nearest=f"{field} (recorded 1, asked {number})")

    run = Run(function, 40, workers=8)
    assert isinstance(run.raised, CassetteMiss)
    first, *others, rest = str(run.raised).split("\n")
    assert first.startswith("tape: no recording (line ")
    assert len(others) == 2
    assert all(line.startswith("  another one differs in ") for line in others)
    assert rest.startswith("  of the lines under way 5 more have none; they differ: ")
    counted = sum(int(part.split()[0]) for part in rest.partition("differ: ")[2].split(", "))
    assert counted == 5
    assert {part.partition(" in ")[2] for part in rest.partition("differ: ")[2].split(", ")} <= {
        "messages",
        "temperature",
    }


# Files that fail


def test_a_dataset_that_changes_while_it_is_read_stops_the_run():
    written = []

    def lines():
        yield from ((number, {"question": f"question {number}"}) for number in range(1, 6))
        raise DatasetError("data.jsonl:6: is not JSON")

    with pytest.raises(DatasetError, match=":6"):
        evaluate(
            lines(),
            Program(Path("p.py"), fine),
            MODEL,
            workers=2,
            budget=ErrorBudget("0", 0),
            keep=lambda answer, final: written.append((answer.line_number, answer.outputs["answer"], final)),
            tally=Tally(),
        )
    assert set(written) <= {(number, number, True) for number in range(1, 6)}


def test_where_a_line_cannot_be_written_nothing_more_is_asked():
    asked, stopped = [], threading.Event()

    def lines():
        return ((number, {"question": f"question {number}"}) for number in range(1, 300))

    def function(lm, line):
        asked.append(number_of(line))
        assert number_of(line) == 1 or stopped.wait(WAIT_S)
        return fine(lm, line)

    def keep(_answer, _final):
        raise RunFolderError("output.jsonl: cannot be written (No space left on device)", path=Path("output.jsonl"))

    with pytest.raises(RunFolderError, match="No space left"):
        evaluate(
            lines(),
            Program(Path("p.py"), function),
            MODEL,
            workers=1,
            budget=ErrorBudget("0", 0),
            keep=keep,
            tally=Tally(),
            stop_waiting=stopped.set,
        )
    assert stopped.is_set()
    for thread in threading.enumerate():
        if thread.name.startswith("mmlu-pipe"):
            thread.join(WAIT_S)
    assert len(asked) <= 3


def test_where_a_line_cannot_be_kept_the_others_are_settled_before_anything_is_published():
    under_way, kept = threading.Barrier(8), []

    def function(lm, line):
        if number_of(line) <= 8:
            under_way.wait(WAIT_S)
        if number_of(line) > 1:
            threading.Event().wait(0.05)
        return fine(lm, line)

    def keep(answer, _final):
        if answer.line_number == 1:
            raise RunFolderError("ledger.jsonl: cannot be written", path=Path("ledger.jsonl"))
        kept.append(answer.line_number)

    lines = ((number, {"question": f"question {number}"}) for number in range(1, 300))
    with pytest.raises(RunFolderError):
        evaluate(
            lines,
            Program(Path("p.py"), function),
            MODEL,
            workers=8,
            budget=ErrorBudget("0", 0),
            keep=keep,
            tally=Tally(),
        )
    seen = list(kept)
    assert set(range(2, 9)) <= set(seen)
    threading.Event().wait(0.2)
    assert kept == seen  # nothing comes afterwards


def test_what_a_run_held_is_free_when_it_ends_without_a_garbage_collection():
    class Keep:
        def __call__(self, _answer, _final): ...

    keep = Keep()
    held = weakref.ref(keep)
    gc.disable()
    try:
        evaluate(
            ((number, {"question": f"question {number}"}) for number in range(1, 50)),
            Program(Path("p.py"), fine),
            MODEL,
            workers=4,
            budget=ErrorBudget("0", 0),
            keep=keep,
            tally=Tally(),
        )
        del keep
        assert held() is None
    finally:
        gc.enable()


# Observers


@pytest.fixture
def manager(monkeypatch):
    found = pluggy.PluginManager(PROJECT)
    found.add_hookspecs(plugins.hookspecs)
    monkeypatch.setattr(plugins, "manager", lambda: found)
    return found


class Observer:
    def __init__(self):
        self.seen = []

    @plugins.hookimpl
    def line_finished(self, answer):
        self.seen.append(answer.line_number)


class Vandal:
    @plugins.hookimpl
    def line_finished(self, answer):
        answer.line.clear()
        (answer.outputs or {}).clear()
        raise SystemExit(1) if answer.line_number % 2 else KeyError("vandal")


def test_observers_see_every_line_once_and_cannot_change_the_run(manager, caplog):
    observer = Observer()
    manager.register(observer, "observer")
    manager.register(Vandal(), "vandal")
    written = []

    def keep(answer, _final):
        written.append(dump_line(answer.line | answer.outputs))

    with caplog.at_level(logging.ERROR, "mmlu_pipe"):
        evaluate(
            ((number, {"question": f"question {number}"}) for number in range(1, 21)),
            Program(Path("p.py"), fine),
            MODEL,
            workers=4,
            budget=ErrorBudget("0", 0),
            keep=keep,
            tally=Tally(),
        )
    assert sorted(json.loads(line)["answer"] for line in written) == list(range(1, 21))
    assert sorted(observer.seen) == list(range(1, 21))
    assert caplog.text.count("the plugin vandal failed in line_finished; the run goes on") == 20


# Tally


def call(**changes):
    values = {
        "line_number": 1,
        "index": 0,
        "request_hash": "h",
        "messages": [],
        "text": "a",
        "finish_reason": "stop",
        "distribution": None,
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
        "strategy": "text-v1",
        "served_model": "gpt-4o",
        "system_fingerprint": "fp_1",
        "latency_s": 0.1,
        "attempts": 1,
    }
    return Call(**values | changes)


def test_a_tally_counts_calls_tokens_and_who_answered():
    tally = Tally()
    tally.add(LineAnswer(1, {}, {"a": 1}, None, (call(), call(attempts=3, served_model="gpt-4o-b"))))
    assert tally.to_json() == {
        "answered": 1,
        "failed": 0,
        "failed_by_kind": {},
        "calls": 2,
        "attempts": 4,
        "strategies": {"text-v1": 2},
        "served_models": {"gpt-4o": 1, "gpt-4o-b": 1},
        "fingerprints": {"fp_1": 2},
        "tokens": {"completion_tokens": 4, "prompt_tokens": 10},
    }


@pytest.mark.parametrize(
    "usage", [None, {}, [], "many", {"prompt_tokens": None}, {"prompt_tokens": "7"}, {"prompt_tokens": [1]}]
)
def test_odd_facts_of_an_endpoint_do_not_stop_a_run(usage):
    tally = Tally()
    odd = call(usage=usage, served_model={"name": "x"}, system_fingerprint=["fp"], strategy=None)
    tally.add(LineAnswer(1, {}, {"a": 1}, None, (odd,)))
    assert (tally.calls, sum(tally.tokens.values()), dict(tally.served_models)) == (1, 0, {})


def served_by(models):
    """A program whose calls were served by these models in turn."""
    turn = count()

    def function(_lm, _line):
        return {"model": models[next(turn) % len(models)]}

    return function


def test_two_served_models_are_warned_of(monkeypatch, caplog):
    def add(self, answer):
        self.answered += 1
        self.served_models[answer.outputs["model"]] += 1

    monkeypatch.setattr(Tally, "add", add)
    with caplog.at_level(logging.WARNING, "mmlu_pipe"):
        Run(served_by(["gpt-4o"]), 4, workers=1)
        assert caplog.messages == []
        Run(served_by(["gpt-4o", "gpt-4o-b"]), 5, workers=1)
    assert caplog.messages == ["this run was served by 2 models: gpt-4o (3 calls), gpt-4o-b (2 calls)"]
