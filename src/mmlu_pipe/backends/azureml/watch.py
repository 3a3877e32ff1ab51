"""Watching a job until it has ended: what its steps do and say, whatever happens to the connection meanwhile."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from mmlu_pipe.backends.azureml.failures import scrubbed
from mmlu_pipe.backends.azureml.history import JobState, RunHistory, StepState
from mmlu_pipe.errors import AuthenticationFailed, WorkspaceUnavailable

__all__ = ["TAIL_LINES", "LogReader", "log_tail", "watch"]

TAIL_LINES = 30
"""Lines of a log that are shown of its end."""

POLL_VARIABLE = "AZUREML_RUN_POLLING_INTERVAL_MIN"
"""The SDK's own variable for the shortest time between two looks at a job, in seconds."""

_CHUNK = 64 * 1024
_LONGEST_LINE = 4 * 1024
_LONGEST_WAIT_S = 60.0
_PATIENCE_S = 30 * 60.0

# Colours and cursor movements of a log would act on the terminal that shows it.
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def watch(
    history: RunHistory,
    job_name: str,
    *,
    tell: Callable[[str], None],
    poll_s: float | None = None,
    patience_s: float = _PATIENCE_S,
) -> JobState:
    """Wait until a job has ended.

    Args:
        history: where the job is looked up.
        job_name: the job.
        tell: gets every change of a step's state, and the new lines of its log.
        poll_s: seconds between two looks; None takes the SDK's variable, or else five.
        patience_s: seconds without any answer after which the watch is given up; the job goes on all the same.

    Raises:
        WorkspaceUnavailable, AuthenticationFailed: for longer than `patience_s`.
        WorkspaceRejected: there is no such job, or it may not be seen.
    """
    pause = _poll_s() if poll_s is None else poll_s
    told: dict[str, str] = {}
    logs: dict[str, LogReader] = {}
    lost: float | None = None
    wait = pause
    while True:
        try:
            state = history.state(job_name)
        except (WorkspaceUnavailable, AuthenticationFailed) as error:
            if lost is None:
                lost, wait = time.monotonic(), pause
                tell(f"the job cannot be seen at the moment, and goes on meanwhile; asking again\n  {error}")
            elif time.monotonic() - lost > patience_s:
                raise
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
            continue
        if lost is not None:
            lost = None
            tell("the job can be seen again")
        for step in state.steps:
            lines = logs.setdefault(step.run_id, LogReader(history.read_log)).new_lines(step)
            said = [f"{step.name} | {line}" for line in lines]
            if told.get(step.run_id, "NotStarted") != step.service_status:
                told[step.run_id] = step.service_status
                said.insert(0 if step.status == "running" else len(said), f"{step.name}: {step.service_status}")
            for line in said:
                tell(line)
        if state.status != "running":
            return state
        time.sleep(pause)


def log_tail(history: RunHistory, step: StepState, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a step's log; none where there is no log."""
    return LogReader(history.read_log).new_lines(step)[-lines:]


@dataclass
class LogReader:
    """Reads one log as it grows, of a long one the end only, and never more than one piece at a time.

    Attributes:
        read: gives the bytes of an address from a position on, so many at most, and the whole length, as
            `RunHistory.read_log` does.
    """

    read: Callable[[str, int, int], tuple[bytes, int] | None]
    _name: str | None = None
    _at: int = 0
    _rest: bytes = b""

    def new_lines(self, step: StepState) -> list[str]:
        """The lines that have come since the last call; the unfinished one waits until the step has ended."""
        if step.log_name is None or step.log_url is None:
            return []
        if step.log_name != self._name:  # the step had none of its own so far, only that of its image
            self._name, self._at, self._rest = step.log_name, 0, b""
        lines: list[str] = []
        while True:
            found = self.read(step.log_url, self._at, _CHUNK)
            if found is None:
                return lines
            content, size = found
            if size < self._at:  # begun anew, on another node
                self._at, self._rest = 0, b""
                continue
            if size - self._at > 2 * _CHUNK:
                lines = ["… earlier lines are left out; the studio shows them all …"]
                self._at, self._rest = size - _CHUNK, b""
                continue
            self._at += len(content)
            *whole, self._rest = (self._rest + content).split(b"\n")
            lines += map(_clean, whole)
            if self._at >= size or not content:
                break
        if self._rest and (step.status != "running" or len(self._rest) > _LONGEST_LINE):
            lines.append(_clean(self._rest))
            self._rest = b""
        return lines


def _poll_s() -> float:
    try:
        return max(0.2, float(os.environ.get(POLL_VARIABLE, "5")))
    except ValueError:
        return 5.0


def _clean(line: bytes) -> str:
    text = line.decode("utf-8", "replace").rstrip().rpartition("\r")[2]
    return scrubbed(_CONTROLS.sub("", text))[-_LONGEST_LINE:]
