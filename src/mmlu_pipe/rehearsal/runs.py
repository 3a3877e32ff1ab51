"""Pipeline jobs and their steps while they live: the one state that the executor writes and clients read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mmlu_pipe.rehearsal.exchange import Json, Refusal
from mmlu_pipe.rehearsal.workspace import now

__all__ = ["TERMINAL", "Output", "Run", "Runs", "Status"]

Status = Literal[
    "NotStarted", "Queued", "Preparing", "Running", "Finalizing", "CancelRequested", "Completed", "Failed", "Canceled"
]

TERMINAL: frozenset[Status] = frozenset({"Completed", "Failed", "Canceled"})


@dataclass(frozen=True)
class Output:
    """What a run put out.

    Attributes:
        asset_id: the data asset that the service registers for it.
        uri: where it is, as `azureml://datastores/…/paths/…`.
        data_type: `uri_file` or `uri_folder`.
    """

    asset_id: str
    uri: str
    data_type: str


@dataclass(eq=False)
class Run:
    """One pipeline job, or one step of it.

    Attributes:
        name: the run id.
        display_name: what people read; of a step, its name in the pipeline.
        properties: of a pipeline job, as the service answers them; of a step, its component and compute.
        parent: of a step, its pipeline job.
        status: of the run, as run history spells it.
        error: of a failed run, in run history's shape.
        logs: path of a log → name of its blob in the artifact store.
        outputs: by name.
        command: of a step that ran, its rendered command line.
        parameters: what was logged to MLflow.
        metrics: name → every value that was logged, with `timestamp` and `step`.
        cancelled: set once somebody wants it to end.
        changed: is notified at every change of status.
    """

    name: str
    display_name: str
    properties: Json
    parent: Run | None = field(default=None, repr=False)
    status: Status = "NotStarted"
    error: Json | None = None
    logs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    command: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[Json]] = field(default_factory=dict)
    children: list[Run] = field(default_factory=list)
    created: str = field(default_factory=now)
    started: str | None = None
    ended: str | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def root(self) -> Run:
        """The pipeline job."""
        return self.parent or self

    @property
    def figures(self) -> dict[str, float]:
        """The last value of every metric."""
        return {name: rows[-1]["value"] for name, rows in self.metrics.items()}

    def enter(self, status: Status) -> None:
        """Change the status; one that is final stays."""
        with self.changed:
            if self.status in TERMINAL or (self.status == "CancelRequested" and status not in TERMINAL):
                return
            self.status = status
            if status == "Running":
                self.started = now()
            if status in TERMINAL:
                self.ended = now()
            self.changed.notify_all()

    def fail(self, code: str, message: str, component: str) -> None:
        """Become Failed, with an error that run history tells."""
        inner = {"code": code, "message": message, "messageParameters": {}, "details": []}
        self.error = {"error": inner, "environment": None, "location": None, "time": now(), "componentName": component}
        self.enter("Failed")

    def cancel(self) -> None:
        """Ask the run and its steps to end."""
        self.enter("CancelRequested")
        self.cancelled.set()
        for child in self.children:
            child.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a final status; whether there is one."""
        with self.changed:
            return self.changed.wait_for(lambda: self.status in TERMINAL, timeout_s)


class Runs:
    """All runs of one workspace."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Run] = {}

    def add(self, run: Run) -> None:
        """Keep a run, and make it known to its parent."""
        with self._lock:
            self._kept[run.name] = run
        if run.parent:
            run.parent.children.append(run)

    def get(self, name: str) -> Run | None:
        """The run of that id."""
        return self._kept.get(name)

    def find(self, name: str) -> Run:
        """The run of that id.

        Raises:
            Refusal: 404, there is none.
        """
        found = self.get(name)
        if found is None:
            raise Refusal(404, "UserError", f"Not found job {name} in workspace.")
        return found

    def __iter__(self) -> Iterator[Run]:
        with self._lock:
            return iter([run for run in self._kept.values() if run.parent is None])
