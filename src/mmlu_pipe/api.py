"""What scripts call, and what the command line prints."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmlu_pipe.bundled import bundled_cassette, bundled_program
from mmlu_pipe.config import RunConfig, load_endpoint
from mmlu_pipe.errors import BackendNotInstalled, ConfigError, SubmissionBlocked
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.plugins import objections_to, registry
from mmlu_pipe.records import Score
from mmlu_pipe.runfolder import RunFolder

if TYPE_CHECKING:
    from mmlu_pipe.backends.base import Backend, Run
    from mmlu_pipe.dataset.mmlu import CreatedDataset
    from mmlu_pipe.records import Endpoint

__all__ = ["create_dataset", "run", "score", "start"]

PathLike = str | Path


def run(
    dataset: PathLike = "sample",
    guidance_program: PathLike = "zero_shot",
    *,
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
) -> Run:
    """Evaluate a dataset with a guidance program; the arguments are the fields of `RunConfig`.

    Without arguments the bundled sample is evaluated on the bundled recordings, with no network. Works inside a
    running event loop and in notebooks.

    Returns:
        The completed run, with `.score`, `.outputs` and `.run_dir`.

    Raises:
        MmluPipeError: the input was refused (exit_code 2), or the run failed.
    """
    config = RunConfig(
        dataset=str(dataset),
        guidance_program=str(guidance_program),
        backend=backend,
        other_config=_path(other_config),
        workspace_config=Path(workspace_config),
        cassette=_path(cassette),
        record_mode=record_mode,
        record_note=record_note,
        select_strategy=select_strategy,
        output_dir=_path(output_dir),
        limit=limit,
        lines=lines,
        workers=workers,
        rpm=rpm,
        tpm=tpm,
        timeout=timeout,
        max_wait=max_wait,
        max_errors=str(max_errors),
        on_content_filter=on_content_filter,
        retry_errors=retry_errors,
        correct_key=correct_key,
        response_key=response_key,
        auth=auth,
        require=(require,) if isinstance(require, str) else tuple(require),
        seed=seed,
        reasoning_effort=reasoning_effort,
        stream=stream,
        output_encoding=output_encoding,
        data_dir=Path(data_dir),
    )
    return start(config).wait()


def start(config: RunConfig) -> Run:
    """Check everything that can be checked, then submit; what fails after that is the run's error.

    Raises:
        MmluPipeError: the input is refused; nothing was written.
    """
    from mmlu_pipe.dataset.locate import locate
    from mmlu_pipe.dataset.schema import check_dataset
    from mmlu_pipe.pipeline import mmlu_pipeline
    from mmlu_pipe.programs import load_program, locate_program

    config.check()
    backend = _backend(config.backend)
    dataset = locate(config.dataset, config.data_dir)
    program = locate_program(config.guidance_program)
    endpoint, cassette = _answers(config, program)
    facts = check_dataset(dataset, correct_key=config.correct_key)
    load_program(program)
    pipeline = mmlu_pipeline(
        config, dataset=dataset, program=program, endpoint=endpoint, cassette=cassette, dataset_keys=facts.keys
    )
    plan = {
        "pipeline": pipeline.name,
        "backend": config.backend,
        "demands_verification": backend.demands_verification,
        "dataset": dataset,
        "program": program,
        "lines": facts.lines,
        "cassette": cassette,
        "asked_with": {name: getattr(config, name) for name in ("select_strategy", "seed", "reasoning_effort")},
    }
    if objections := objections_to(plan):
        raise SubmissionBlocked("not submitted:\n" + "\n".join(f"  {text}" for text in objections), objections)
    inputs = {"dataset": dataset, "guidance_program": program}
    if cassette is not None and cassette.is_dir():
        inputs["cassette"] = cassette
    with RunFolder.open(config.output_dir, f"{dataset.stem}-{program.stem}") as folder:
        return backend.submit(pipeline, folder, Manifest(folder.manifest, config, inputs, endpoint))


def score(
    output_dataset: PathLike,
    *,
    error_dataset: PathLike | None = None,
    calls_dataset: PathLike | None = None,
    correct_key: str = "correct_answer",
    response_key: str | None = None,
    score_dataset: PathLike | None = None,
) -> Score:
    """Score answered lines: those of a run folder, or of a JSONL file.

    Args:
        output_dataset: a run folder (its errors and calls are found), or a file of answered lines.
        error_dataset: lines without an answer; they count as wrong.
        calls_dataset: model calls.
        correct_key: key of the correct answer.
        response_key: key of the response; None finds `zero_shot_choice` or else the one new key.
        score_dataset: where to write the score as JSON; nothing is written by default, nothing overwritten ever.

    Raises:
        MmluPipeError: a file cannot be read, or a line cannot be scored.
    """
    answered = Path(output_dataset)
    errors = Path(error_dataset) if error_dataset else None
    calls = Path(calls_dataset) if calls_dataset else None
    if answered.is_dir():
        folder = RunFolder(answered)
        answered = folder.output
        errors = errors or (folder.errors if folder.errors.is_file() else None)
        calls = calls or (folder.calls if folder.calls.is_file() else None)
    if score_dataset is not None and Path(score_dataset).exists():
        raise ConfigError(f"{score_dataset}: exists already; give another name", path=Path(score_dataset))
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(score_dataset) if score_dataset else Path(temporary) / "score.json"
        registry("components")["jsonl_score_multiplechoice"](
            input_dataset=answered,
            error_dataset=errors,
            calls_dataset=calls,
            correct_key=correct_key,
            response_key=response_key,
            score_dataset=target,
        )
        return Score.from_json(json.loads(target.read_text(encoding="utf-8")))


def create_dataset(
    mmlu_dataset: str,
    *,
    split: str = "validation",
    source: str | None = None,
    revision: str | None = None,
    output_dir: PathLike = "data",
    overwrite: bool = False,
) -> CreatedDataset:
    """Fetch a subject of MMLU (or `all`) and write it as `mmlu_<SUBJECT>_<SPLIT>.jsonl` into the data folder.

    Args:
        mmlu_dataset: subject, or `all`.
        split: `test`, `validation` or `dev`.
        source: hub id, folder of the original CSV files, or JSONL file; None is the pinned default.
        revision: revision of a hub dataset.
        output_dir: the data folder.
        overwrite: replace an existing file that differs.

    Raises:
        MmluPipeError: the source cannot be read, or holds a bad row.
    """
    from mmlu_pipe.dataset import mmlu

    return mmlu.create_dataset(
        mmlu_dataset=mmlu_dataset,
        split=split,
        source=source or mmlu.DEFAULT_SOURCE,
        revision=revision,
        output_dir=Path(output_dir),
        overwrite=overwrite,
    )


def _backend(name: str) -> Backend:
    backends: dict[str, Backend] = registry("backends")
    if name not in backends:
        raise BackendNotInstalled(f"there is no backend {name!r}; installed are {', '.join(backends)}")
    return backends[name]


def _answers(config: RunConfig, program: Path) -> tuple[Endpoint | None, Path | None]:
    """Where the answers come from: an endpoint, a cassette, or both."""
    from mmlu_pipe.endpoint.address import normalise

    endpoint = None if config.other_config is None else normalise(load_endpoint(config.other_config))
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


def _path(value: PathLike | None) -> Path | None:
    return None if value is None else Path(value)
