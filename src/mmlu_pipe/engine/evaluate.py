"""Every line through the program: what becomes of it is kept by the thread that worked on it, at once."""

from __future__ import annotations

import copy
import gc
import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmlu_pipe.endpoint.interpreter import model_for_line
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.engine.budget import ErrorBudget
from mmlu_pipe.engine.contract import checked_outputs, refuse_hidden_failures
from mmlu_pipe.engine.interrupts import Interrupts
from mmlu_pipe.engine.tally import NOT_RUN, Tally
from mmlu_pipe.engine.workers import WorkerPool
from mmlu_pipe.errors import (
    CassetteMiss,
    ComeBackLater,
    ContentFiltered,
    ErrorBudgetExceeded,
    MmluPipeError,
    ProgramError,
    RunCancelled,
)
from mmlu_pipe.plugins import notify
from mmlu_pipe.programs import ENTRY_POINT, Program, line_in, place_in
from mmlu_pipe.recording.nearest import difference_kind
from mmlu_pipe.records import Call, JsonObject, LineAnswer, LineError

if TYPE_CHECKING:
    from guidance.models import Model

__all__ = ["Keep", "Line", "evaluate", "not_run"]

Line = tuple[int, JsonObject]

Keep = Callable[[LineAnswer, bool], None]
"""Takes a line's fate, and whether it is final: a line that a stop cut short is asked again when the run goes on."""

_TOLD = 3
_log = logging.getLogger("mmlu_pipe.engine")


@dataclass(frozen=True)
class _Outcome:
    answer: LineAnswer
    stop: MmluPipeError | None = None  # why the run must end
    final: bool = True


def evaluate(
    lines: Iterable[Line],
    program: Program,
    model: Model,
    *,
    workers: int,
    budget: ErrorBudget,
    keep: Keep,
    tally: Tally,
    stop_waiting: Callable[[], None] = lambda: None,
    concurrency: Callable[[], int | None] = lambda: None,
) -> None:
    """Run the program over the lines.

    Args:
        lines: (line number, line) pairs.
        program: the guidance program.
        model: the model; every line works on a fresh copy.
        workers: lines in flight at once.
        budget: failed lines that are survived, those that `tally` begins with among them.
        keep: called with each line's fate, in the thread that worked on it; what it raises stops the run.
        tally: counts what becomes of lines; it holds also after an error.
        stop_waiting: called when the run stops early, so that back-off ends; more than once is fine.
        concurrency: how many requests may be under way now, None where nothing limits them.

    Raises:
        ErrorBudgetExceeded, RunCancelled, MmluPipeError: why the run stopped early; what was under way is kept by then.
    """
    stopped: MmluPipeError | None = _exceeded(tally, budget)
    misses: list[CassetteMiss] = []
    allowed: int | None = None
    settling = threading.Lock()

    def read() -> Iterator[Line]:
        """The lines; a dataset that changed since it was checked stops the run like any other failure."""
        nonlocal stopped
        try:
            yield from lines
        except MmluPipeError as error:
            stopped = stopped or error
            pool.halt()

    def work(line: Line) -> None:
        outcome = _one(line, program, model)
        if outcome.stop is not None:
            pool.halt()
        keep(outcome.answer, outcome.final)
        with settling:
            settle(outcome)

    def settle(outcome: _Outcome) -> None:
        nonlocal allowed, stopped
        tally.add(outcome.answer)
        if isinstance(outcome.stop, CassetteMiss):
            misses.append(outcome.stop)
        stopped = stopped or outcome.stop or _exceeded(tally, budget)
        if stopped is not None:
            pool.halt()
        if (now := concurrency()) is not None and now != allowed:
            allowed = now
            notify("concurrency_changed", limit=now)
        if outcome.final:
            notify("line_finished", answer=outcome.answer)

    interrupts = Interrupts()

    def ends() -> bool:
        return stopped is not None or interrupts.signal_number is not None

    pool = WorkerPool(work, () if stopped else read(), workers)
    with _rarely_collected(), interrupts, pool:
        try:
            if not pool.wait(ends) or stopped is not None:
                pool.halt()
                stop_waiting()
                pool.wait(lambda: False)
        except Exception:  # a line cannot be kept; what is under way must not be kept behind the back of who publishes
            pool.halt()
            stop_waiting()
            pool.drain()
            raise
        except BaseException:  # a second signal came
            stop_waiting()
            raise
    if interrupts.signal_number is not None:
        name = signal.Signals(interrupts.signal_number).name
        stopped = RunCancelled(f"stopped by {name}", signal_number=interrupts.signal_number)
    for told in tally.mixed():
        _log.warning("this run was served by %s", told)
    if stopped is not None:
        raise _all_misses(stopped, misses)


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Fewer garbage collections: each walks over all answers under way and all modules, and finds next to nothing."""
    before = gc.get_threshold()
    frozen = gc.get_freeze_count()
    if not frozen:  # else somebody has thought of it already
        gc.freeze()
    gc.set_threshold(20_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:
            gc.unfreeze()


def not_run(number: int, line: JsonObject, calls: tuple[Call, ...] = ()) -> LineAnswer:
    """The fate of a line that the run stopped before."""
    error = LineError(number, NOT_RUN, "NotRun", "the run stopped before this line had an answer")
    return LineAnswer(number, line, None, error, calls)


def _one(line: Line, program: Program, model: Model) -> _Outcome:
    number, original = line
    session = LineSession(number, shard=str(original.get("subject") or "default"))
    outputs: JsonObject | None = None
    error: LineError | None = None
    stop: MmluPipeError | None = None
    try:
        found = _result(program, model, session, original)
        where = f"{program.path.name}: {ENTRY_POINT}, on line {number},"
        outputs = checked_outputs(found, original, where=where, path=program.path)
        refuse_hidden_failures(session, program)
    except (RunCancelled, ComeBackLater) as failure:
        stop = failure if isinstance(failure, ComeBackLater) else None
        return _Outcome(not_run(number, original, tuple(session.calls)), stop, final=False)
    except MmluPipeError as failure:
        details = {"categories": dict(failure.categories)} if isinstance(failure, ContentFiltered) else {}
        if isinstance(failure, ProgramError) and failure.path is None and (at := line_in(program.path, failure)):
            failure = ProgramError(f"{program.path.name}:{at}: {failure}", path=program.path)
        outputs, error = None, LineError(number, failure.kind, type(failure).__name__, str(failure), details)
        stop = failure if failure.stops_run else None
    except BaseException as failure:  # noqa: BLE001 - a program may raise anything; its line keeps it
        message = f"{_said(failure)} ({place_in(program.path, failure)})"
        outputs, error = None, LineError(number, "program", type(failure).__name__, message)
    return _Outcome(LineAnswer(number, original, outputs, error, tuple(session.calls)), stop, final=stop is None)


def _result(program: Program, model: Model, session: LineSession, line: JsonObject) -> object:
    """What the program makes of a line; one that a stop cut short has no fate yet, even where the program goes on."""
    try:
        return program.function(model_for_line(model, session), copy.deepcopy(line))
    finally:
        if isinstance(session.stopped, RunCancelled | ComeBackLater):
            raise session.stopped


def _said(failure: BaseException) -> str:
    try:
        return str(failure)
    except Exception:  # noqa: BLE001 - an exception of a program may be broken itself
        return "no message"


def _all_misses(stopped: MmluPipeError, misses: Sequence[CassetteMiss]) -> MmluPipeError:
    """A miss with those of the lines that were under way beside it: the first few in full, the others by kind."""
    if not isinstance(stopped, CassetteMiss) or len(misses) < 2:
        return stopped
    told = [str(stopped), *(f"  another one differs in {miss.nearest}" for miss in misses[1:_TOLD] if miss.nearest)]
    rest = Counter(difference_kind(miss.nearest) for miss in misses[_TOLD:])
    if rest:
        kinds = ", ".join(f"{count} in {kind}" for kind, count in sorted(rest.items()))
        told.append(f"  of the lines under way {rest.total()} more have none; they differ: {kinds}")
    return CassetteMiss("\n".join(told), nearest=stopped.nearest)


def _exceeded(tally: Tally, budget: ErrorBudget) -> ErrorBudgetExceeded | None:
    spent = tally.spent(filtered_count=budget.filtered_count)
    if not budget.exceeded(spent):
        return None
    assert tally.first is not None
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.failed_by_kind.items()))
    lines = "1 line" if spent == 1 else f"{spent} lines"
    told = f"line {tally.first.line_number}: {tally.first.error_type}: {tally.first.message}"
    return ErrorBudgetExceeded(
        f"{lines} failed ({kinds}), more than --max-errors {budget.text} allows; the first was {told}",
        failed=spent,
        max_errors=budget.text,
        first=told,
    )
