"""Every line through the program: each ends in exactly one of output and errors, in dataset order."""

from __future__ import annotations

import copy
import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmlu_pipe.endpoint.interpreter import model_for_line
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.engine.budget import ErrorBudget
from mmlu_pipe.engine.contract import checked_outputs, refuse_hidden_failures
from mmlu_pipe.engine.interrupts import Interrupts
from mmlu_pipe.engine.workers import OrderedPool
from mmlu_pipe.errors import (
    ContentFiltered,
    ErrorBudgetExceeded,
    MmluPipeError,
    ProgramError,
    RunCancelled,
)
from mmlu_pipe.plugins import notify
from mmlu_pipe.programs import ENTRY_POINT, Program, line_in
from mmlu_pipe.records import Call, JsonObject, LineAnswer, LineError

if TYPE_CHECKING:
    from guidance.models import Model

__all__ = ["NOT_RUN", "Tally", "evaluate"]

NOT_RUN = "not_run"
"""Kind of the lines that a stopped run did not come to."""


_log = logging.getLogger("mmlu_pipe.engine")


@dataclass
class Tally:
    """Counts of a run, kept while it writes."""

    answered: int = 0
    failed: int = 0
    failed_by_kind: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    attempts: int = 0
    strategies: Counter[str] = field(default_factory=Counter)
    served_models: Counter[str] = field(default_factory=Counter)
    fingerprints: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    def add(self, answer: LineAnswer) -> None:
        """Count one line and its calls."""
        if answer.error is None:
            self.answered += 1
        else:
            self.failed += 1
            self.failed_by_kind[answer.error.kind] += 1
        for call in answer.calls:
            self.calls += 1
            self.attempts += call.attempts
            for counter, value in (
                (self.strategies, call.strategy),
                (self.served_models, call.served_model),
                (self.fingerprints, call.system_fingerprint),
            ):
                if isinstance(value, str):  # whatever an endpoint says
                    counter[value] += 1
            for name in ("prompt_tokens", "completion_tokens"):
                count = call.usage.get(name) if isinstance(call.usage, Mapping) else None
                self.tokens[name] += count if isinstance(count, int) else 0

    def to_json(self) -> JsonObject:
        """For the manifest; keys sorted, so that the order of answers leaves no trace."""
        return {
            name: dict(sorted(value.items())) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class _Outcome:
    answer: LineAnswer
    fatal: MmluPipeError | None = None


Line = tuple[int, JsonObject]


def evaluate(
    lines: Iterable[Line],
    program: Program,
    model: Model,
    *,
    workers: int,
    budget: ErrorBudget,
    write: Callable[[LineAnswer], None],
    tally: Tally,
    stop_waiting: Callable[[], None] = lambda: None,
) -> None:
    """Run the program over the lines and hand every line's fate to `write`, in order.

    Args:
        lines: (line number, line) pairs.
        program: the guidance program.
        model: the model; every line works on a fresh copy.
        workers: lines in flight at once.
        budget: failed lines that are survived.
        write: called in this thread with each line's fate.
        tally: counts what is written; it holds also after an error.
        stop_waiting: called once when the run stops early, so that back-off ends.

    Raises:
        ErrorBudgetExceeded, RunCancelled, MmluPipeError: why the run stopped early; all lines are written by then.
    """
    first: LineError | None = None
    stopped: MmluPipeError | None = None

    def read() -> Iterator[Line]:
        """The lines; a dataset that changed since it was checked stops the run like any other failure."""
        nonlocal stopped
        try:
            yield from lines
        except MmluPipeError as error:
            stopped = error

    def settle(outcome: _Outcome) -> None:
        write(outcome.answer)
        tally.add(outcome.answer)
        notify("line_finished", answer=outcome.answer)

    with OrderedPool(lambda line: _one(line, program, model), read(), workers) as pool, Interrupts() as interrupts:
        try:
            for outcome in pool.results(lambda: interrupts.signal_number is not None):
                settle(outcome)
                first = first or outcome.answer.error
                if outcome.fatal is not None:
                    stopped = outcome.fatal
                    break
                if budget.exceeded(tally.failed):
                    stopped = _exceeded(tally, budget, first)
                    break
            if interrupts.signal_number is not None:
                name = signal.Signals(interrupts.signal_number).name
                stopped = RunCancelled(f"stopped by {name}", signal_number=interrupts.signal_number)
            if stopped is not None:
                stop_waiting()
                for outcome in pool.drain(_not_run):
                    settle(outcome)
        except BaseException:
            stop_waiting()  # a line cannot be written, or a second signal came
            raise
    _warn_of_two_models(tally)
    if stopped is not None:
        raise stopped


def _one(line: Line, program: Program, model: Model) -> _Outcome:
    number, original = line
    session = LineSession(number, shard=str(original.get("subject") or "default"))
    outputs: JsonObject | None = None
    error: LineError | None = None
    fatal: MmluPipeError | None = None
    try:
        found = program.function(model_for_line(model, session), copy.deepcopy(original))
        where = f"{program.path.name}: {ENTRY_POINT}, on line {number},"
        outputs = checked_outputs(found, original, where=where, path=program.path)
        refuse_hidden_failures(session, program)
    except RunCancelled:
        return _not_run(line, tuple(session.calls))
    except MmluPipeError as failure:
        details = {"categories": dict(failure.categories)} if isinstance(failure, ContentFiltered) else {}
        if isinstance(failure, ProgramError) and failure.path is None and (at := line_in(program.path, failure)):
            failure = ProgramError(f"{program.path.name}:{at}: {failure}", path=program.path)
        outputs, error = None, LineError(number, failure.kind, type(failure).__name__, str(failure), details)
        fatal = failure if failure.stops_run else None
    except BaseException as failure:  # noqa: BLE001 - a program may raise anything; its line keeps it
        line_of_program = line_in(program.path, failure)
        place = program.path.name + (f":{line_of_program}" if line_of_program else "")
        message = f"{_said(failure)} ({place})"
        outputs, error = None, LineError(number, "program", type(failure).__name__, message)
    return _Outcome(LineAnswer(number, original, outputs, error, tuple(session.calls)), fatal)


def _not_run(line: Line, calls: tuple[Call, ...] = ()) -> _Outcome:
    number, original = line
    error = LineError(number, NOT_RUN, "NotRun", "the run stopped before this line had an answer")
    return _Outcome(LineAnswer(number, original, None, error, calls))


def _said(failure: BaseException) -> str:
    try:
        return str(failure)
    except Exception:  # noqa: BLE001 - an exception of a program may be broken itself
        return "no message"


def _exceeded(tally: Tally, budget: ErrorBudget, first: LineError | None) -> ErrorBudgetExceeded:
    assert first is not None
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.failed_by_kind.items()))
    lines = "1 line" if tally.failed == 1 else f"{tally.failed} lines"
    told = f"line {first.line_number}: {first.error_type}: {first.message}"
    return ErrorBudgetExceeded(
        f"{lines} failed ({kinds}), more than --max-errors {budget.text} allows; the first was {told}",
        failed=tally.failed,
        max_errors=budget.text,
        first=told,
    )


def _warn_of_two_models(tally: Tally) -> None:
    for what, counter in (("models", tally.served_models), ("system fingerprints", tally.fingerprints)):
        if len(counter) > 1:
            _log.warning("this run was served by %d %s: %s", len(counter), what, _listed(counter))


def _listed(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count} calls)" for name, count in sorted(counter.items()))
