"""What is rehearsed: the options of a run, with every file at an absolute place and the cassette copied."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mmlu_pipe.bundled import bundled_cassette, examples_for
from mmlu_pipe.config import CLOUD_OPTIONS, Computes, RunConfig, load_computes, load_endpoint
from mmlu_pipe.errors import ConfigError, RecordingError
from mmlu_pipe.records import Endpoint

__all__ = ["Subject", "prepare"]

_MADE_UP_HOST = "rehearsal.openai.azure.com"
_PLACES = (
    *("dataset", "guidance_program", "examples", "cassette"),
    *("other_config", "output_dir", "workspace_config", "data_dir"),
)
_OF_THE_GATE = ("program_option", "select_strategy", "seed", "reasoning_effort", "correct_key")
_IN_A_WORKSPACE = ("environment", "components", "resume_from")


@dataclass(frozen=True)
class Subject:
    """What is rehearsed.

    Attributes:
        config: the options of the run.
        dataset: its file.
        program: its file.
        examples: the file of the examples, where some are named.
        cassette: the copied recordings.
        other_config: the file that names the deployment.
        endpoint: the deployment.
        computes: the clusters.
    """

    config: RunConfig
    dataset: Path
    program: Path
    examples: Path | None
    cassette: Path
    other_config: Path
    endpoint: Endpoint
    computes: Computes

    @property
    def host(self) -> str:
        """The host of the deployment."""
        return str(urlsplit(self.endpoint.endpoint).hostname)

    @property
    def local(self) -> list[str]:
        """The arguments of the run on this machine."""
        skipped = (*_PLACES, *CLOUD_OPTIONS, "backend")
        return ["run", *self._inputs, *_words(self.config, lambda name: name not in skipped)]

    @property
    def gate(self) -> list[str]:
        """The arguments of `verify`."""
        return ["verify", *self._inputs, *_words(self.config, _OF_THE_GATE.__contains__)]

    @property
    def cloud(self) -> list[str]:
        """The arguments of the submission, without the workspace and the run folder."""
        skipped = (*_PLACES, "backend")
        return [
            *("run", "--backend=azureml", *self._inputs),
            *_words(self.config, lambda name: name not in skipped),
        ]

    @property
    def _inputs(self) -> list[str]:
        return [
            *(f"--dataset={self.dataset}", f"--guidance-program={self.program}"),
            *(() if self.examples is None else (f"--examples={self.examples}",)),
            *(f"--cassette={self.cassette}", f"--other-config={self.other_config}"),
        ]


def prepare(config: RunConfig, folder: Path) -> Subject:
    """Find everything that a rehearsal needs; what it writes goes into the folder.

    Raises:
        MmluPipeError: an option or a file is refused.
    """
    from mmlu_pipe.dataset.locate import locate
    from mmlu_pipe.endpoint.address import is_loopback, normalise
    from mmlu_pipe.programs import locate_program
    from mmlu_pipe.recording.provenance import recorded_endpoint

    dataclasses.replace(config, backend="azureml").check()
    _refuse_the_impossible(config)
    dataset = locate(config.dataset, config.data_dir).absolute()
    program = locate_program(config.guidance_program).absolute()
    shown = examples_for(config.dataset, config.examples)
    examples = None if shown is None else locate(shown, config.data_dir).absolute()
    recorded = config.cassette or bundled_cassette(config.dataset, program.stem)
    if not recorded.is_dir() or not any(recorded.glob("*.yaml")):
        raise RecordingError(
            f"{recorded}: there are no recordings to rehearse on; record some lines first, with mmlu-pipe run "
            "--other-config FILE --cassette DIR --record-mode new_episodes --limit 20, and name DIR with --cassette"
        )
    cassette, other_config = folder / "cassette", folder / "other_configs.json"
    if config.other_config is None:
        made_up = {"endpoint": f"https://{_MADE_UP_HOST}", "deployment": "rehearsal"}
        endpoint = dataclasses.replace(recorded_endpoint(recorded), **made_up)
        computes = Computes("cpu-cluster", "cpu-cluster")
        aoai = {f"aoai_{name}": value for name, value in dataclasses.asdict(endpoint).items()}
        clusters = {"aoai_compute": computes.aoai, "general_compute": computes.general}
        other_config.write_text(json.dumps(aoai | clusters, indent=2) + "\n", encoding="utf-8")
    else:
        other_config = config.other_config.absolute()
        endpoint, computes = normalise(load_endpoint(other_config)), load_computes(other_config)
        if is_loopback(urlsplit(endpoint.endpoint).hostname or ""):
            raise ConfigError(
                f"{config.other_config}: aoai_endpoint is this machine, which no job can reach; name the deployment "
                "that a job will ask, or leave out --other-config",
                path=config.other_config,
                key="aoai_endpoint",
            )
    shutil.copytree(recorded, cassette)
    return Subject(config, dataset, program, examples, cassette, other_config, endpoint, computes)


def _words(config: RunConfig, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Options that are not as by default, as a command line has them."""
    for field in dataclasses.fields(RunConfig):
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if value == field.default or not wanted(field.name):
            continue
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield from (f"--{name}={each}" for each in (value if isinstance(value, tuple) else (value,)))


def _refuse_the_impossible(config: RunConfig) -> None:
    if config.backend not in ("local", "azureml"):
        raise ConfigError(
            f"--backend {config.backend}: what is rehearsed is a submission to AzureML; leave it out", key="backend"
        )
    for name in _IN_A_WORKSPACE:
        if getattr(config, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} names something in a workspace of yours, which a rehearsal knows nothing "
                "of; leave it out",
                key=name,
            )
    if config.output_dir is not None:
        raise ConfigError("--output-dir: a rehearsal leaves no run; --keep DIR keeps all of it", key="output_dir")
    if config.record_mode != "none":
        raise ConfigError("--record-mode: a rehearsal plays recordings and makes none; leave it out", key="record_mode")
