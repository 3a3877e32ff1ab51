"""What a backend is: it takes a pipeline, and gives a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, Self

from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.pipeline import Pipeline
from mmlu_pipe.records import Score
from mmlu_pipe.runfolder import RunFolder

__all__ = ["Backend", "Run", "Status"]

Status = Literal["running", "completed", "failed", "cancelled"]


class Run(Protocol):
    """A submitted pipeline."""

    @property
    def run_dir(self) -> Path:
        """The run folder."""

    @property
    def status(self) -> Status:
        """How it stands."""

    @property
    def error(self) -> MmluPipeError | None:
        """Why it failed or was cancelled."""

    @property
    def outputs(self) -> Mapping[str, Path]:
        """File name → path of what it has written so far."""

    @property
    def score(self) -> Score | None:
        """The result; None before it is there."""

    def wait(self) -> Self:
        """Return once the run has completed.

        Raises:
            MmluPipeError: it failed or was cancelled.
        """


class Backend(Protocol):
    """Somewhere to run a pipeline.

    Attributes:
        demands_verification: whether it takes only what `verify` has proven, as one that costs money does.
    """

    demands_verification: bool

    def submit(self, pipeline: Pipeline, folder: RunFolder, manifest: Manifest) -> Run:
        """Start the pipeline; its outputs arrive in the folder. A failure is the run's, it is not raised."""
