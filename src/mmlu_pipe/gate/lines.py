"""One line of the gate: the program on it, and what that tells."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmlu_pipe.endpoint.interpreter import model_for_line
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.engine.contract import checked_outputs
from mmlu_pipe.errors import CassetteMiss, MmluPipeError, RecordingError
from mmlu_pipe.programs import ENTRY_POINT, Program, place_in
from mmlu_pipe.records import ERROR_KEY, Call, JsonObject

if TYPE_CHECKING:
    from guidance.models import Model

__all__ = ["LineReport", "Verdict", "run_line", "subject_of"]

Verdict = Literal["good", "missing", "stops", "raises", "unclear", "unanswered"]
"""What a line tells of the program.

`stops`: it broke its contract, or did what stops a run. `raises`: it raised an exception, whatever the model may say.
`unclear`: it raised one after the model had answered with free text, so another text may go well. `unanswered`: the
model gave no good answer, such as one that the content filter blocked.
"""


@dataclass(frozen=True)
class LineReport:
    """What became of one line: the calls made for it, and its end."""

    line_number: int
    calls: tuple[Call, ...]
    error: BaseException | None
    told: str

    @property
    def missing(self) -> int:
        """Calls without a recording, those that the program hid among them."""
        return sum(call.error == RecordingError.kind for call in self.calls)

    @property
    def verdict(self) -> Verdict:
        """What the line tells of the program."""
        if self.missing or isinstance(self.error, CassetteMiss):
            return "missing"
        if self.error is None:
            return "good"
        if isinstance(self.error, MmluPipeError):
            return "stops" if self.error.stops_run else "unanswered"
        free = any(call.strategy is None and call.error is None for call in self.calls)
        return "unclear" if free else "raises"

    @property
    def characters(self) -> tuple[int, ...]:
        """The prompt of each call, in characters."""
        return tuple(sum(len(str(message.get("content") or "")) for message in call.messages) for call in self.calls)


def run_line(program: Program, model: Model, number: int, line: JsonObject) -> LineReport:
    """Run the program on one line; what it raises is in the report.

    Raises:
        RecordingError: a recording cannot be used, which is not the program's doing.
    """
    original = {key: value for key, value in line.items() if key != ERROR_KEY}
    session = LineSession(number, shard=subject_of(line))
    error: BaseException | None = None
    told = ""
    try:
        outputs = program.function(model_for_line(model, session), copy.deepcopy(original))
        checked_outputs(outputs, original, where=ENTRY_POINT, path=program.path)
    except RecordingError as failure:
        if not isinstance(failure, CassetteMiss):
            raise
        error = failure
    except MmluPipeError as failure:
        error, told = failure, str(failure)
    except (Exception, SystemExit) as failure:  # noqa: BLE001 - a program may raise anything
        error, told = failure, f"{type(failure).__name__}: {_said(failure)} ({place_in(program.path, failure)})"
    return LineReport(number, tuple(session.calls), error, told)


def subject_of(line: JsonObject) -> str:
    """The stratum of a line, which is also the shard of its recordings."""
    return str(line.get("subject") or "default")


def _said(failure: BaseException) -> str:
    try:
        return str(failure)
    except Exception:  # noqa: BLE001 - an exception of a program may be broken itself
        return "no message"
