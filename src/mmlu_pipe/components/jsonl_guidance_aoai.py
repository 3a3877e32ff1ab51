"""Component 1: every line of a JSONL dataset through a guidance program on an Azure OpenAI deployment."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mmlu_pipe.components.component import Input, Output, component
from mmlu_pipe.config import AUTH_MODES, OUTPUT_ENCODINGS, RECORD_MODES, one_of
from mmlu_pipe.errors import ConfigError, DatasetError, RecordingError, RunCancelled, RunFolderError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.jsonl import JsonlWriter, list_problems, parse_line_numbers, parse_object, raw_lines, read_objects
from mmlu_pipe.plugins import hookimpl, notify
from mmlu_pipe.programs import load_program
from mmlu_pipe.records import ERROR_KEY, Endpoint, JsonObject, LineAnswer

if TYPE_CHECKING:
    from mmlu_pipe.endpoint.connect import Connection
    from mmlu_pipe.recording.cassette import Cassette

__all__ = ["jsonl_guidance_aoai"]


@component(name="jsonl_guidance_aoai", display_name="Run AOAI guidance on a JSONL dataset", deterministic=False)
def jsonl_guidance_aoai(
    *,
    guidance_program: Annotated[Path, Input("Python file with guidance_generation(lm, input) -> dict")],
    input_dataset: Annotated[Path, Input("JSONL dataset; every line goes through the program")],
    azure_openai_endpoint: Annotated[str | None, Input("base URL of the resource; empty to replay a cassette")] = None,
    azure_openai_deployment: Annotated[str | None, Input("deployment name")] = None,
    azure_openai_model: Annotated[str | None, Input("model name of the deployment")] = None,
    azure_openai_api_version: Annotated[str | None, Input("API version: a date, or v1")] = None,
    guidance_workers: Annotated[int, Input("lines in flight at once")] = 8,
    max_errors: Annotated[str, Input("failed lines that the run survives: a number or a percentage")] = "10",
    auth: Annotated[str, Input("key, entra or auto")] = "auto",
    select_strategy: Annotated[str, Input("how select works: auto, json_schema, logprob, text")] = "auto",
    require: Annotated[str | None, Input("fields that must be sent, separated by commas")] = None,
    seed: Annotated[int | None, Input("sampling seed")] = None,
    reasoning_effort: Annotated[str | None, Input("reasoning effort")] = None,
    stream: Annotated[bool, Input("ask for server-sent events")] = False,
    limit: Annotated[int | None, Input("evaluate only the first lines")] = None,
    lines: Annotated[str | None, Input("evaluate only the lines of these numbers, such as 3,17,20-24")] = None,
    output_encoding: Annotated[str, Input("utf-8, or utf-8-sig for a byte-order mark")] = "utf-8",
    cassette: Annotated[Path | None, Input("recordings to play from or record into", folder=True)] = None,
    record_mode: Annotated[str, Input("none, once, new_episodes or all")] = "none",
    record_note: Annotated[str | None, Input("free text for the provenance of a recording")] = None,
    output_dataset: Annotated[Path, Output("answered lines with the program's keys", file_name="output.jsonl")],
    error_dataset: Annotated[Path, Output("failed lines with the key _error", file_name="errors.jsonl")],
    calls_dataset: Annotated[Path, Output("a record for each model call", file_name="calls.jsonl")],
    run_facts: Annotated[Path | None, Output("what was settled and counted, as JSON", file_name="facts.json")] = None,
) -> None:
    """Run a guidance program on every line of a JSONL dataset.

    Lines keep their order and keys; the program's result is added as extra keys. A line without an answer goes to the
    error dataset, so every line ends in exactly one of the two.

    Raises:
        DatasetError, ProgramError, ConfigError: before any request is made.
        ErrorBudgetExceeded, RunCancelled, EndpointError: the run stopped; all lines are written.
    """
    endpoint = _endpoint(azure_openai_endpoint, azure_openai_deployment, azure_openai_model, azure_openai_api_version)
    for name, number in (("guidance_workers", guidance_workers), ("limit", limit)):
        if number is not None and number < 1:
            raise ConfigError(f"--{name} must be at least 1, not {number}", key=name)
    one_of("auth", auth, AUTH_MODES)
    one_of("output_encoding", output_encoding, OUTPUT_ENCODINGS)
    one_of("record_mode", record_mode, RECORD_MODES)
    if record_mode != "none" and (endpoint is None or cassette is None):
        raise ConfigError(
            f"--record_mode {record_mode} needs the endpoint (whom to ask) and --cassette (where to keep the answers)",
            key="record_mode",
        )
    if cassette is not None and record_mode == "none" and not any(cassette.glob("*.yaml")):
        raise RecordingError(f"{cassette}: holds no recordings; check the folder's name, or record some")
    if limit is not None and lines is not None:
        raise ConfigError("--limit and --lines exclude each other; give one of them", key="lines")
    wanted = None if lines is None else parse_line_numbers(lines)
    total = min(_check_lines(input_dataset, wanted), limit or sys.maxsize)
    program = load_program(guidance_program)

    from mmlu_pipe.endpoint.connect import ModelOptions, connect
    from mmlu_pipe.engine.budget import ErrorBudget
    from mmlu_pipe.engine.evaluate import Tally, evaluate

    budget = ErrorBudget.parse(max_errors, total)
    options = ModelOptions(
        auth=auth,
        workers=guidance_workers,
        cassette=cassette,
        record_mode=record_mode,
        select_strategy=select_strategy,
        require=tuple(part.strip() for part in (require or "").split(",") if part.strip()),
        seed=seed,
        reasoning_effort=reasoning_effort,
        stream=stream,
    )
    facts: JsonObject = {
        "dataset": {"file": input_dataset.name, "sha256": sha256_file(input_dataset), "lines": total},
        "program": {"file": guidance_program.name, "sha256": program.sha256},
    }
    status = "failed"
    tally = Tally()
    with connect(endpoint, options) as connection, contextlib.ExitStack() as files:
        bom = output_encoding == "utf-8-sig"
        write = _writer(files, output_dataset, error_dataset, calls_dataset, bom=bom)
        client = connection.client
        notify("run_started", dataset=input_dataset.name, total=total)
        try:
            evaluate(
                itertools.islice(_lines(input_dataset, wanted), limit),
                program,
                connection.model,
                workers=guidance_workers,
                budget=budget,
                write=write,
                tally=tally,
                stop_waiting=client.stop if client else lambda: None,
            )
            status = "completed"
        except RunCancelled:
            status = "cancelled"
            raise
        finally:
            facts |= tally.to_json() | connection.facts
            if connection.cassette is not None:
                facts["recordings"] = {"used": connection.cassette.used, "in_cassette": len(connection.cassette)}
            notify("run_finished", status=status)
            if connection.records and connection.cassette is not None:
                _write_provenance(connection.cassette, connection, facts, record_note)
            if run_facts is not None:
                _write_json(run_facts, facts)


@hookimpl
def register_components(register: Callable[[str, Any], None]) -> None:
    """Component 1 comes with the package."""
    register(jsonl_guidance_aoai.name, jsonl_guidance_aoai)


def _check_lines(dataset: Path, wanted: frozenset[int] | None) -> int:
    """How many lines will be evaluated, once every line is known to be a JSON object.

    Raises:
        DatasetError: listing all bad lines, or naming a wanted line that is not there.
    """
    count = 0
    absent = set(wanted or ())

    def problems() -> Iterator[tuple[int, str]]:
        nonlocal count
        for number, raw in raw_lines(dataset):
            count += wanted is None or number in wanted
            absent.discard(number)
            try:
                parse_object(raw)
            except ValueError as error:
                yield number, str(error)

    list_problems(dataset, problems())
    if absent:
        raise DatasetError(f"{dataset}: has no line {min(absent)}; see --lines", path=dataset)
    if count == 0:
        raise DatasetError(f"{dataset}: is empty; a dataset has at least one line", path=dataset)
    return count


def _lines(dataset: Path, wanted: frozenset[int] | None) -> Iterator[tuple[int, JsonObject]]:
    """The lines to evaluate; an errors file read again as a dataset loses its reserved key."""
    for number, line in read_objects(dataset):
        if wanted is None or number in wanted:
            line.pop(ERROR_KEY, None)
            yield number, line


def _endpoint(*values: str | None) -> Endpoint | None:
    given = [value.strip() for value in values if value and value.strip()]
    if not given:
        return None
    if len(given) < len(values):
        names = "azure_openai_endpoint, azure_openai_deployment, azure_openai_model and azure_openai_api_version"
        raise ConfigError(f"{names} belong together; give all four, or none to replay a cassette")
    return Endpoint(*given)


def _writer(
    files: contextlib.ExitStack, output: Path, errors: Path, calls: Path, *, bom: bool
) -> Callable[[LineAnswer], None]:
    to_output = files.enter_context(JsonlWriter(output, bom=bom))
    to_errors = files.enter_context(JsonlWriter(errors, bom=bom))
    to_calls = files.enter_context(JsonlWriter(calls))

    def write(answer: LineAnswer) -> None:
        for call in answer.calls:
            to_calls.write(call.to_json())
        if answer.error is None:
            to_output.write(answer.line | (answer.outputs or {}))
        else:
            to_errors.write(answer.line | {ERROR_KEY: answer.error.to_json()})

    return write


def _write_provenance(cassette: Cassette, connection: Connection, facts: JsonObject, note: str | None) -> None:
    """Say whose answers the cassette holds, unless nothing came to those that say it already."""
    from mmlu_pipe.recording.provenance import provenance_of, read_provenance, write_provenance

    old = read_provenance(cassette.folder)
    if not len(cassette) or (old and not cassette.recorded):
        return
    kept = {name: facts[name] for name in ("dataset", "program", "served_models", "fingerprints") if name in facts}
    value = provenance_of(
        endpoint=connection.endpoint,
        endpoint_kind=facts["endpoint_kind"],
        capabilities=facts.get("capabilities", {}),
        facts=kept | {"recordings": len(cassette)},
        note=note or (old or {}).get("note"),
    )
    write_provenance(cassette.folder, value)


def _write_json(path: Path, value: JsonObject) -> None:
    try:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror})", path=path) from error


if __name__ == "__main__":
    sys.exit(jsonl_guidance_aoai.main())
