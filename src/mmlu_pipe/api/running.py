"""Running an evaluation, and seeing beforehand what it would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.bundled import bundled_cassette, bundled_program, examples_for
from mmlu_pipe.config import RunConfig, load_endpoint
from mmlu_pipe.errors import BackendNotInstalled, ConfigError, SubmissionBlocked
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.jsonl import parse_line_numbers
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.plugins import objections_to, registry
from mmlu_pipe.programs import load_program, locate_program, option_texts, parse_options
from mmlu_pipe.records import JsonObject
from mmlu_pipe.runfolder import RunFolder

if TYPE_CHECKING:
    from mmlu_pipe.backends.base import Backend, Description, Run
    from mmlu_pipe.forecast.figures import Estimate
    from mmlu_pipe.pipeline import Pipeline
    from mmlu_pipe.programs import Program
    from mmlu_pipe.records import Endpoint

__all__ = ["Plan", "Ready", "config_of", "plan", "plan_of", "prepare", "run", "start"]

PathLike = str | Path


def run(
    dataset: PathLike = "sample",
    guidance_program: PathLike = "zero_shot",
    *,
    examples: PathLike | None = None,
    program_option: str | Sequence[str] | Mapping[str, Any] = (),
    backend: str = "local",
    other_config: PathLike | None = None,
    workspace_config: PathLike = "config.json",
    cassette: PathLike | None = None,
    record_mode: str = "none",
    record_note: str | None = None,
    select_strategy: str = "auto",
    output_dir: PathLike | None = None,
    limit: int | None = None,
    lines: str | None = None,
    workers: int = 8,
    rpm: int | None = None,
    tpm: int | None = None,
    timeout: float = 300.0,
    max_wait: float = 300.0,
    max_errors: int | str = "10",
    on_content_filter: str = "unanswered",
    retry_errors: bool = False,
    correct_key: str = "correct_answer",
    response_key: str | None = None,
    auth: str = "auto",
    require: str | Sequence[str] = (),
    seed: int | None = None,
    reasoning_effort: str | None = None,
    stream: bool = False,
    output_encoding: str = "utf-8",
    data_dir: PathLike = "data",
    identity: str = "managed",
    environment: str | None = None,
    extra_package: str | Sequence[str] = (),
    components: str | None = None,
    version_scheme: str = "content",
    gate: bool = True,
    resume_from: str | None = None,
) -> Run:
    """Evaluate a dataset with a guidance program; the arguments are the fields of `RunConfig`.

    Without arguments the bundled sample is evaluated on the bundled recordings, with no network. Works inside a
    running event loop and in notebooks.

    Returns:
        The run, with `.score`, `.outputs` and `.run_dir`: completed on the local backend, and submitted on a cloud's,
        where `.wait()` waits for it.

    Raises:
        MmluPipeError: the input was refused (exit_code 2), or the run failed.
    """
    found = start(config_of(**locals()))
    return found if found.status == "running" else found.wait()


def config_of(**options: Any) -> RunConfig:
    """The options of `run` as Python gives them: paths as text, one text where several are possible."""
    for name in ("dataset", "guidance_program", "examples", "max_errors"):
        if options.get(name) is not None:
            options[name] = str(options[name])
    if "program_option" in options:
        options["program_option"] = option_texts(options["program_option"])
    for name in ("other_config", "workspace_config", "cassette", "output_dir", "data_dir"):
        if options.get(name) is not None:
            options[name] = Path(options[name])
    for name in ("require", "extra_package"):
        if name in options:
            options[name] = (options[name],) if isinstance(options[name], str) else tuple(options[name])
    return RunConfig(**options)


def start(config: RunConfig) -> Run:
    """Check everything that can be checked, then submit; what fails after that is the run's error.

    Raises:
        MmluPipeError: the input is refused; nothing was written.
    """
    ready = prepare(config)
    if objections := ready.objections:
        raise SubmissionBlocked("not submitted:\n" + "\n".join(f"  {text}" for text in objections), objections)
    config = ready.config
    with RunFolder.open(config.output_dir, f"{ready.dataset.stem}-{ready.program.path.stem}") as folder:
        manifest = Manifest(folder.manifest, config, ready.inputs, ready.endpoint)
        return ready.backend.submit(ready.pipeline, config, folder, manifest)


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        backend: where it would run.
        pipeline: name of the pipeline, and of the experiment.
        lines: lines of the dataset.
        description: assets, commands and documents.
        estimate: tokens, time and money, learnt from the recordings; None without any.
        objections: why it would not be submitted; empty if it would.
    """

    backend: str
    pipeline: str
    lines: int
    description: Description
    estimate: Estimate | None
    objections: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """One JSON object."""
        return {
            "backend": self.backend,
            "pipeline": self.pipeline,
            "lines": self.lines,
            **asdict(self.description),
            "estimate": self.estimate and self.estimate.to_json(),
            "objections": list(self.objections),
        }


def plan(*, check_workspace: bool = False, prices: PathLike | None = None, **options: Any) -> Plan:
    """What `run` with these options would do: assets, commands, documents, the estimate, and what stands against it.

    Args:
        check_workspace: ask the service what is there already; without it nothing is asked.
        prices: prices file that the user wrote, for the estimate.
        **options: those of `run`.

    Raises:
        MmluPipeError: the input is refused.
    """
    return plan_of(config_of(**options), check_workspace=check_workspace, prices=prices)


def plan_of(config: RunConfig, *, check_workspace: bool = False, prices: PathLike | None = None) -> Plan:
    """`plan` of options that are together already.

    Raises:
        MmluPipeError: the input is refused.
    """
    from mmlu_pipe.forecast.estimate import estimate
    from mmlu_pipe.gate.record import verification_note

    ready = prepare(config, offline=not check_workspace, ask_service=check_workspace)
    description, forecast = ready.description, None
    if ready.cassette is not None and ready.cassette.is_dir():
        chosen = len(parse_line_numbers(config.lines)) if config.lines else config.limit
        lines = min(ready.lines, chosen or ready.lines)
        forecast = estimate(cassette=ready.cassette, lines=lines, rpm=config.rpm, tpm=config.tpm, prices=prices)
        notes = (verification_note(ready.cassette), _recorded_otherwise(ready.cassette, ready.program))
        description = replace(description, notes=[*description.notes, *filter(None, notes)])
    return Plan(config.backend, ready.pipeline.name, ready.lines, description, forecast, tuple(ready.objections))


def _recorded_otherwise(cassette: Path, program: Program) -> str | None:
    """What an estimate from recordings of other prompts would keep to itself."""
    from mmlu_pipe.recording.provenance import read_provenance

    recorded = read_provenance(cassette) or {}
    then, now = recorded.get("program_options") or {}, dict(program.options)
    if recorded.get("program", {}).get("sha256") == program.sha256 and then != now:
        return f"the estimate is of recordings with {_told(then)}; the run would be with {_told(now)}"
    return None


def _told(options: Mapping[str, Any]) -> str:
    return ", ".join(option_texts(options)) or "no options"


@dataclass(frozen=True)
class Ready:
    """A run for which everything was found and checked; its options tell what is settled by now."""

    config: RunConfig
    backend: Backend
    dataset: Path
    program: Program
    endpoint: Endpoint | None
    cassette: Path | None
    lines: int
    pipeline: Pipeline
    description: Description

    @property
    def inputs(self) -> dict[str, Path]:
        """Name → file or folder of recordings, as the manifest has them."""
        named = {"dataset": self.dataset, "guidance_program": self.program.path, "examples": self.program.examples}
        found = {name: path for name, path in named.items() if path is not None}
        if self.cassette is not None and self.cassette.is_dir():
            found["cassette"] = self.cassette
        return found

    @property
    def objections(self) -> list[str]:
        """What the backend and the plugins, the gate among them, have against it."""
        config = self.config
        plan = {
            "pipeline": self.pipeline.name,
            "backend": config.backend,
            "demands_verification": self.backend.demands_verification and config.gate,
            "dataset": self.dataset,
            "program": self.program.path,
            "examples": self.program.examples,
            "lines": self.lines,
            "cassette": self.cassette,
            "model": self.endpoint and self.endpoint.model,
            "asked_with": {name: getattr(config, name) for name in ("select_strategy", "seed", "reasoning_effort")}
            | {"program_options": dict(self.program.options) or None},
            "assets": self.description.assets,
            "commands": self.description.commands,
            "documents": self.description.documents,
        }
        return [*self.description.objections, *objections_to(plan)]


def prepare(config: RunConfig, *, offline: bool = False, ask_service: bool = False) -> Ready:
    """Find and check everything that a run needs; nothing is written.

    Raises:
        MmluPipeError: the input is refused.
    """
    from mmlu_pipe.dataset.schema import check_dataset
    from mmlu_pipe.endpoint.capabilities import parse_requirements
    from mmlu_pipe.engine.budget import ErrorBudget
    from mmlu_pipe.engine.contract import check_lines
    from mmlu_pipe.engine.lines import Lines
    from mmlu_pipe.pipeline import mmlu_pipeline

    config.check()
    backend = _backend(config.backend)
    path = locate_program(config.guidance_program)
    endpoint, cassette = _answers(config, path, backend)
    dataset = backend.locate(config, ask_service=not offline)
    facts = check_dataset(dataset, correct_key=config.correct_key)
    name = examples_for(config.dataset, config.examples)
    examples = None if name is None else backend.locate(replace(config, dataset=name), ask_service=not offline)
    program = load_program(path, parse_options(config.program_option), examples)
    if program.examples is not None:
        check_dataset(program.examples, correct_key=config.correct_key)
    chosen = facts.lines if config.limit is None else min(facts.lines, config.limit)
    if program.check is not None or config.lines is not None:
        wanted = None if config.lines is None else parse_line_numbers(config.lines)
        lines = Lines(dataset, wanted, config.limit)
        check_lines(program, lines.read(), dataset.name)
        chosen = len(lines)
    ErrorBudget.parse(config.max_errors, chosen)
    parse_requirements(config.require)
    if config.select_strategy != "auto":
        from mmlu_pipe.endpoint.select import Selector  # it loads openai, for which a plan need not wait

        Selector(config.select_strategy)
    config = replace(config, examples=name if program.examples else None, program_option=option_texts(program.options))
    pipeline = mmlu_pipeline(
        config,
        dataset=dataset,
        program=path,
        endpoint=endpoint,
        cassette=None if backend.asks_live else cassette,
        examples=program.examples,
        program_options=program.options,
        dataset_keys=facts.keys,
    )
    description = backend.describe(pipeline, config, ask_service=ask_service)
    return Ready(config, backend, dataset, program, endpoint, cassette, facts.lines, pipeline, description)


def _backend(name: str) -> Backend:
    backends: dict[str, Backend] = registry("backends")
    if name not in backends:
        raise BackendNotInstalled(f"there is no backend {name!r}; installed are {', '.join(backends)}")
    return backends[name]


def _answers(config: RunConfig, program: Path, backend: Backend) -> tuple[Endpoint | None, Path | None]:
    """Where the answers come from: an endpoint, a cassette, or both; a cassette may be the proof alone."""
    from mmlu_pipe.endpoint.address import normalise

    endpoint = None if config.other_config is None else normalise(load_endpoint(config.other_config))
    if backend.asks_live:
        if endpoint is None:
            raise ConfigError(
                f"the backend {config.backend!r} asks a deployment; name it with --other-config FILE",
                key="other_config",
            )
        return endpoint, config.cassette
    if config.answer_source != "bundled":
        return endpoint, config.cassette
    cassette = bundled_cassette(config.dataset, program.stem)
    recorded = bundled_program(program.stem)
    if recorded is not None and sha256_file(recorded) != sha256_file(program):
        raise ConfigError(
            f"{program}: is not the bundled program of that name, whose recordings ship; name a deployment with "
            "--other-config FILE, or recordings with --cassette DIR",
            key="other_config",
        )
    if not cassette.is_dir():
        raise ConfigError(
            f"no recordings are bundled for the dataset {config.dataset!r} with the program {program.stem!r}; name a "
            "deployment with --other-config FILE, or recordings with --cassette DIR",
            key="other_config",
        )
    return None, cassette
