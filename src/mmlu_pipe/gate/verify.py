"""Verify a program on a dataset: replay a part of its lines, render all the others, and keep a record of it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.bundled import examples_for
from mmlu_pipe.config import RunConfig, load_endpoint
from mmlu_pipe.errors import ConfigError, RecordingError
from mmlu_pipe.gate.choose import DEFAULT_GATE_LINES, GateLine, choose_lines, line_list, parse_gate_lines
from mmlu_pipe.gate.record import hashes_of, pinned_versions, write_verification
from mmlu_pipe.gate.result import Verification
from mmlu_pipe.jsonl import parse_object, raw_lines, read_objects
from mmlu_pipe.records import Endpoint, JsonObject

if TYPE_CHECKING:
    from mmlu_pipe.endpoint.connect import Connection
    from mmlu_pipe.gate.tally import Tally
    from mmlu_pipe.programs import Program

__all__ = ["verify"]

_DEFAULTS = RunConfig()


def verify(
    dataset: str | Path,
    guidance_program: str | Path,
    *,
    cassette: str | Path,
    examples: str | Path | None = None,
    program_option: str | Sequence[str] | Mapping[str, Any] = (),
    other_config: str | Path | None = None,
    gate_lines: int | str = DEFAULT_GATE_LINES,
    select_strategy: str = _DEFAULTS.select_strategy,
    seed: int | None = None,
    reasoning_effort: str | None = None,
    correct_key: str = _DEFAULTS.correct_key,
    data_dir: str | Path = _DEFAULTS.data_dir,
) -> Verification:
    """Show, without any network, that a program will go through a dataset, and write that down beside the cassette.

    A stratified part of the lines is replayed on the recordings. All others are rendered: the program runs on a stub
    that keeps to the form that is asked for, which tells of the program and its prompts, and nothing of answers.

    Args:
        dataset: a JSONL file, `sample`, or the name of a file in the data folder.
        guidance_program: a Python file, or the name of a bundled program.
        cassette: folder of recordings; the record `verification.json` is written into it.
        examples: a dataset like `dataset`, whose lines the program may show; None is `sample_dev` for `sample`.
        program_option: options of the program, each `KEY=VALUE`, or a mapping.
        other_config: the deployment that will be asked; only compared with what was recorded, never contacted. It is
            needed where the folder has no provenance, or does not exist yet.
        gate_lines: lines of each subject to replay (at least 20 in all), or `all`.
        select_strategy: this and the next two are part of what is asked, and mean what they mean to `run`.
        seed: sampling seed.
        reasoning_effort: reasoning effort.
        correct_key: key of the correct answer.
        data_dir: folder of datasets given by name.

    Returns:
        What was found, also where it did not pass.

    Raises:
        MmluPipeError: the input is refused (exit_code 2); nothing was written.
    """
    from mmlu_pipe.dataset.locate import locate
    from mmlu_pipe.dataset.schema import check_dataset
    from mmlu_pipe.endpoint.address import normalise
    from mmlu_pipe.endpoint.connect import ModelOptions, connect
    from mmlu_pipe.engine.contract import check_lines
    from mmlu_pipe.gate.tally import Tally
    from mmlu_pipe.programs import load_program, locate_program, option_texts, parse_options
    from mmlu_pipe.recording.provenance import read_provenance

    folder = Path(cassette)
    per_subject = parse_gate_lines(gate_lines)
    program_option = option_texts(program_option)
    asked = _Asked(
        dataset=str(dataset),
        guidance_program=str(guidance_program),
        examples=None if examples is None else str(examples),
        program_option=program_option,
        other_config=str(other_config or "FILE"),
        cassette=str(cassette),
        correct_key=correct_key,
        data_dir=str(data_dir),
        select_strategy=select_strategy,
        seed=seed,
        reasoning_effort=reasoning_effort,
    )
    asked_with = {"select_strategy": select_strategy, "seed": seed, "reasoning_effort": reasoning_effort}
    target = None if other_config is None else normalise(load_endpoint(Path(other_config)))
    path = locate(str(dataset), Path(data_dir))
    facts = check_dataset(path, correct_key=correct_key)
    shown = examples_for(asked.dataset, asked.examples)
    examples_path = None if shown is None else locate(shown, Path(data_dir))
    program = load_program(locate_program(str(guidance_program)), parse_options(program_option), examples_path)
    if program.examples is not None:
        check_dataset(program.examples, correct_key=correct_key)
    check_lines(program, read_objects(path), path.name)
    chosen = choose_lines(_gate_lines(path), per_subject)
    tally = Tally()
    with _recordings(folder, target) as recordings:
        options = ModelOptions(
            workers=1,
            cassette=recordings,
            select_strategy=select_strategy,
            seed=seed,
            reasoning_effort=reasoning_effort,
        )
        with connect(None if read_provenance(recordings) else target, options) as connection:
            assert connection.cassette is not None or connection.client is None
            _run_lines(path, program, connection, options.select_strategy, asked_with, chosen, tally)
            kept, used = (len(connection.cassette), connection.cassette.used) if connection.cassette else (0, 0)
            warnings = _differences(connection, target)
    problems = tally.problems()
    found = Verification(
        passed=not problems and not tally.missing_lines,
        dataset=path.name,
        program=program.path.name,
        cassette=folder.name,
        hashes=hashes_of(path, program.path, folder, program.examples),
        versions=pinned_versions(),
        asked_with=asked_with | {"program_options": dict(program.options) or None},
        gate_lines="all" if per_subject is None else str(per_subject),
        lines=facts.lines,
        covered=tuple(tally.covered),
        rendered=tally.rendered,
        calls_asked=tally.asked,
        calls_played=tally.asked - tally.missing,
        calls_missing=tally.missing,
        missing_lines=tuple(tally.missing_lines),
        misses_by_kind=dict(tally.misses_by_kind.most_common()),
        first_misses=tuple(tally.first_misses),
        problems=problems,
        warnings=(*warnings, *tally.warnings()),
        prompts=tally.prompts(),
        recordings=kept,
        unused=kept - used,
        model_recorded=connection.endpoint.model if kept else None,
        model_target=None if target is None else target.model,
        command=asked.record_command(tally.missing_lines, facts.lines) if tally.missing_lines else None,
        record=None,
        verified_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return dataclasses.replace(found, record=write_verification(folder, found)) if folder.is_dir() else found


@dataclass(frozen=True)
class _Asked:
    """The arguments as they were given, by the names of `run`, for the command that is named."""

    dataset: str
    guidance_program: str
    examples: str | None
    program_option: tuple[str, ...]
    other_config: str
    cassette: str
    correct_key: str
    data_dir: str
    select_strategy: str
    seed: int | None
    reasoning_effort: str | None

    def record_command(self, missing: list[int], lines: int) -> str:
        words = ["mmlu-pipe", "run"]
        for name, value in vars(self).items():
            needed = name in ("dataset", "guidance_program", "cassette")
            if needed or (value is not None and str(value) != str(getattr(_DEFAULTS, name))):
                for each in value if isinstance(value, tuple) else (value,):
                    words += [f"--{name.replace('_', '-')}", str(each)]
        words += ["--record-mode", "new_episodes"]
        if len(missing) < lines:
            words += ["--lines", line_list(missing)]
        return shlex.join(words)


@contextlib.contextmanager
def _recordings(folder: Path, target: Endpoint | None) -> Iterator[Path]:
    """The folder; where it does not exist yet, but it is known whom to record, an empty one."""
    if folder.exists() and not folder.is_dir():
        raise RecordingError(f"{folder}: is no folder of recordings")
    if folder.exists() or target is None:
        yield folder
    else:
        with tempfile.TemporaryDirectory() as empty:
            yield Path(empty)


def _gate_lines(dataset: Path) -> Iterator[GateLine]:
    from mmlu_pipe.gate.lines import subject_of

    for number, raw in raw_lines(dataset):
        yield number, subject_of(parse_object(raw)), hashlib.sha256(raw.strip()).hexdigest()


def _run_lines(
    dataset: Path,
    program: Program,
    connection: Connection,
    select_strategy: str,
    asked_with: dict[str, str | int | None],
    chosen: frozenset[int],
    tally: Tally,
) -> None:
    """Replay the chosen lines, then render the others."""
    from mmlu_pipe.gate.lines import run_line
    from mmlu_pipe.gate.stub import Stub

    if connection.client is None:
        raise ConfigError(
            "an installed plugin answers instead of the endpoint, so nothing can be replayed; set "
            "MMLU_PIPE_NO_PLUGINS=1"
        )
    for number, line in read_objects(dataset):
        if number in chosen:
            tally.replayed(run_line(program, connection.model, number, line))
    fields: JsonObject = {
        name: value for name, value in asked_with.items() if name != "select_strategy" and value is not None
    }
    stub = Stub(connection.client, select_strategy, fields, tally.texts)
    for number, line in read_objects(dataset):
        if number not in chosen:
            stub.begin_line()
            tally.stubbed(run_line(program, stub.model, number, line))


def _differences(connection: Connection, target: Endpoint | None) -> list[str]:
    """What tells the recorded deployment from the one that will be asked."""
    from mmlu_pipe.endpoint.capabilities import settle

    recorded = connection.endpoint
    if target is None or connection.client is None:
        return []
    if recorded.model != target.model:
        return [
            f"the answers are those of {recorded.model}, but {target.model} will be asked; record that one into a "
            "folder of its own"
        ]
    ours = dataclasses.asdict(connection.client.capabilities)
    try:
        theirs = dataclasses.asdict(settle(target.model, target.api_version))
    except ValueError as error:
        raise ConfigError(f"aoai_api_version: {error}", key="aoai_api_version") from error
    names = [name for name in ours if name not in ("api_version", "corrected") and ours[name] != theirs[name]]
    if not names:
        return []
    return [
        f"recorded with API version {recorded.api_version}; {target.api_version} takes other fields "
        f"({', '.join(names)}), so the requests may differ"
    ]
