"""One step's process: started in an emptied environment, its log a blob that can be read while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Drill", "RunningStep", "StepProcess"]

_LOG_EVERY_S = 0.3


class StepProcess:
    """A command under bash, in a session of its own, with all output in one file.

    Args:
        command: the rendered command line.
        folder: the working folder.
        environment: all of it.
        log: the file that its output is appended to.
        publish: is called with the log's bytes whenever there are more.
    """

    def __init__(
        self, command: str, folder: Path, environment: Mapping[str, str], log: Path, publish: Callable[[bytes], None]
    ) -> None:
        self._log, self._publish, self._published = log, publish, -1
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - what a job runs is its owner's
                ["/bin/bash", "-c", command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, cancelled: threading.Event, grace_s: float) -> int:
        """Wait for the end, publishing the log; a cancelled process gets SIGTERM, and SIGKILL after the grace time.

        Returns:
            The exit code as bash tells it: 128 + n for signal n.
        """
        waited: float | None = None
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LOG_EVERY_S)
                    break
                self._publish_log()
                if cancelled.is_set():
                    if waited is None:
                        waited = 0.0
                        self.signal(signal.SIGTERM)
                    elif waited >= grace_s:
                        self.signal(signal.SIGKILL)
                    waited += _LOG_EVERY_S
        finally:
            self.signal(signal.SIGKILL)  # what the step itself started, and the step if this thread is torn down
            self._process.wait()
            self._publish_log()
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _publish_log(self) -> None:
        content = self._log.read_bytes()
        if len(content) > self._published:
            self._publish(content)
            self._published = len(content)


@dataclass(frozen=True)
class RunningStep:
    """A step under way, as a drill sees it.

    Attributes:
        name: of the step in the pipeline.
        attempt: 1 for the first node it runs on, 2 after it was preempted, and so on.
        folder: its working folder on this node.
        outputs: name → where it writes that output.
    """

    name: str
    attempt: int
    folder: Path
    outputs: Mapping[str, Path]
    _process: StepProcess
    _log: Path
    _preempted: threading.Event
    _ended: threading.Event

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._ended.is_set()

    def kill(self) -> None:
        """SIGKILL: the step fails, as if it had run out of memory."""
        self._process.signal(signal.SIGKILL)

    def preempt(self) -> None:
        """Take the node away: the step starts again on an empty disk, with what it had written to its outputs."""
        self._preempted.set()
        self._process.signal(signal.SIGKILL)


Drill = Callable[[RunningStep], None]
"""Is called in a thread of its own whenever a step's process has started."""
