"""What a backend is: it takes a pipeline, and gives a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, Self

from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import MmluPipeError
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.pipeline import Pipeline
from mmlu_pipe.records import Score
from mmlu_pipe.runfolder import RunFolder

__all__ = ["Backend", "Description", "PlannedAsset", "Run", "Status"]

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


@dataclass(frozen=True)
class PlannedAsset:
    """Something that a submission registers, or finds registered.

    Attributes:
        kind: `data`, `environment` or `component`.
        name: its name.
        version: its version.
        sha256: hex SHA-256 of its content.
        exists: whether it is there already; None where nobody was asked.
    """

    kind: str
    name: str
    version: str
    sha256: str
    exists: bool | None = None


@dataclass(frozen=True)
class Description:
    """What a backend would run or send for a pipeline, without doing it.

    Attributes:
        assets: what would be registered.
        commands: step → the command line it runs.
        documents: file name → text of what would be sent.
        objections: why it could not run; any blocks.
        notes: what is worth knowing beside.
    """

    assets: Sequence[PlannedAsset] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    objections: Sequence[str] = ()
    notes: Sequence[str] = ()


class Backend(Protocol):
    """Somewhere to run a pipeline.

    Attributes:
        demands_verification: whether it takes only what `verify` has proven, as one that costs money does.
        asks_live: whether it always asks the deployment; a cassette is then the proof, and not the source of answers.
    """

    demands_verification: bool
    asks_live: bool

    def locate(self, config: RunConfig, *, ask_service: bool = True) -> Path:
        """The file of the run's dataset on this machine, where it may have to be brought first.

        Raises:
            MmluPipeError: there is no such dataset, or the service would have to be asked and may not be.
        """

    def describe(self, pipeline: Pipeline, config: RunConfig, *, ask_service: bool = False) -> Description:
        """What `submit` would do, found out offline unless the service may be asked.

        Raises:
            MmluPipeError: the options or their files are refused.
        """

    def submit(self, pipeline: Pipeline, config: RunConfig, folder: RunFolder, manifest: Manifest) -> Run:
        """Start the pipeline; its outputs arrive in the folder. A failure after that is the run's, it is not raised.

        Raises:
            MmluPipeError: nothing was started.
        """
