"""Component 1: every line of a JSONL dataset through a guidance program on an Azure OpenAI deployment."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mmlu_pipe.components.component import Input, Output, component
from mmlu_pipe.config import AUTH_MODES, CONTENT_FILTER_MODES, IDENTITIES, OUTPUT_ENCODINGS, RECORD_MODES, one_of
from mmlu_pipe.engine.lines import Lines
from mmlu_pipe.errors import ConfigError, RecordingError, RunCancelled, RunFolderError
from mmlu_pipe.hashing import sha256_file, sha256_folder
from mmlu_pipe.jsonl import parse_line_numbers, parse_object
from mmlu_pipe.manifest import deployment_digest
from mmlu_pipe.plugins import hookimpl, notify
from mmlu_pipe.programs import load_program, option_texts
from mmlu_pipe.records import Endpoint, JsonObject
from mmlu_pipe.runfolder import unwritable

if TYPE_CHECKING:
    from mmlu_pipe.endpoint.connect import Connection
    from mmlu_pipe.recording.cassette import Cassette

__all__ = ["jsonl_guidance_aoai"]


@component(name="jsonl_guidance_aoai", display_name="Run AOAI guidance on a JSONL dataset", deterministic=False)
def jsonl_guidance_aoai(
    *,
    guidance_program: Annotated[Path, Input("Python file with guidance_generation(lm, input) -> dict")],
    input_dataset: Annotated[Path, Input("JSONL dataset; every line goes through the program")],
    examples_dataset: Annotated[Path | None, Input("JSONL dataset of examples, for a program that shows some")] = None,
    program_options: Annotated[str | None, Input("options of the program, as a JSON object")] = None,
    azure_openai_endpoint: Annotated[str | None, Input("base URL of the resource; empty to replay a cassette")] = None,
    azure_openai_deployment: Annotated[str | None, Input("deployment name")] = None,
    azure_openai_model: Annotated[str | None, Input("model name of the deployment")] = None,
    azure_openai_api_version: Annotated[str | None, Input("API version: a date, or v1")] = None,
    guidance_workers: Annotated[int, Input("lines in flight at once")] = 8,
    requests_per_minute: Annotated[int | None, Input("requests a minute, at most")] = None,
    tokens_per_minute: Annotated[int | None, Input("tokens a minute, at most")] = None,
    timeout: Annotated[float, Input("seconds without a byte after which a request is asked again")] = 300.0,
    max_wait: Annotated[float, Input("seconds of waiting that the endpoint may ask for; longer stops the run")] = 300.0,
    max_errors: Annotated[str, Input("failed lines that the run survives: a number or a percentage")] = "10",
    on_content_filter: Annotated[str, Input("whether filtered lines count there: unanswered or count")] = "unanswered",
    retry_errors: Annotated[bool, Input("ask the failed lines of the ledger again")] = False,
    auth: Annotated[str, Input("key, entra or auto; in a job also managed or user, its identity")] = "auto",
    identity_client_id: Annotated[str | None, Input("client id of a user-assigned managed identity")] = None,
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
    checkpoint_every: Annotated[int, Input("finished lines between one checkpoint and the next")] = 100,
    resume_from: Annotated[Path | None, Input("checkpoints of an earlier job, to go on from", folder=True)] = None,
    output_dataset: Annotated[Path, Output("answered lines with the program's keys", file_name="output.jsonl")],
    error_dataset: Annotated[Path, Output("failed lines with the key _error", file_name="errors.jsonl")],
    calls_dataset: Annotated[Path, Output("a record for each model call", file_name="calls.jsonl")],
    run_facts: Annotated[Path | None, Output("what was settled and counted, as JSON", file_name="facts.json")] = None,
    checkpoints: Annotated[Path | None, Output("copies of the ledger, for a node that is lost", folder=True)] = None,
    ledger: Annotated[
        Path | None, Output("finished lines, on local disk only", file_name="ledger.jsonl", local=True)
    ] = None,
) -> None:
    """Run a guidance program on every line of a JSONL dataset.

    Lines keep their order and keys; the program's result is added as extra keys. A line without an answer goes to the
    error dataset, so every line ends in exactly one of the two.

    Raises:
        DatasetError, ProgramError, ConfigError: before any request is made.
        ErrorBudgetExceeded, RunCancelled, EndpointError: the run stopped; all lines are written.
    """
    endpoint = _endpoint(azure_openai_endpoint, azure_openai_deployment, azure_openai_model, azure_openai_api_version)
    for name, number in (
        ("guidance_workers", guidance_workers),
        ("limit", limit),
        ("checkpoint_every", checkpoint_every),
    ):
        if number is not None and number < 1:
            raise ConfigError(f"--{name} must be at least 1, not {number}", key=name)
    one_of("auth", auth, (*AUTH_MODES, *IDENTITIES))
    if identity_client_id is not None and auth != "managed":
        raise ConfigError("--identity_client_id belongs to --auth managed", key="identity_client_id")
    one_of("output_encoding", output_encoding, OUTPUT_ENCODINGS)
    one_of("record_mode", record_mode, RECORD_MODES)
    one_of("on_content_filter", on_content_filter, CONTENT_FILTER_MODES)
    if record_mode != "none" and (endpoint is None or cassette is None):
        raise ConfigError(
            f"--record_mode {record_mode} needs the endpoint (whom to ask) and --cassette (where to keep the answers)",
            key="record_mode",
        )
    if cassette is not None and record_mode == "none" and not any(cassette.glob("*.yaml")):
        raise RecordingError(f"{cassette}: holds no recordings; check the folder's name, or record some")
    if ledger is not None and checkpoints is not None:
        raise ConfigError("--ledger and --checkpoints exclude each other: a disk stays, or it does not", key="ledger")
    if limit is not None and lines is not None:
        raise ConfigError("--limit and --lines exclude each other; give one of them", key="lines")
    data = Lines(input_dataset, None if lines is None else parse_line_numbers(lines), limit)
    program = load_program(guidance_program, _options(program_options), examples_dataset)

    from mmlu_pipe.endpoint.connect import ModelOptions, connect
    from mmlu_pipe.engine.book import Book
    from mmlu_pipe.engine.budget import ErrorBudget
    from mmlu_pipe.engine.contract import check_lines
    from mmlu_pipe.engine.evaluate import evaluate
    from mmlu_pipe.engine.publish import Outputs

    check_lines(program, data.read(), input_dataset.name)
    budget = ErrorBudget.parse(max_errors, len(data), filtered_count=on_content_filter == "count")
    options = ModelOptions(
        auth=auth,
        identity_client_id=identity_client_id,
        workers=guidance_workers,
        rpm=requests_per_minute,
        tpm=tokens_per_minute,
        timeout=timeout,
        max_wait=max_wait,
        cassette=cassette,
        record_mode=record_mode,
        select_strategy=select_strategy,
        require=tuple(part.strip() for part in (require or "").split(",") if part.strip()),
        seed=seed,
        reasoning_effort=reasoning_effort,
        stream=stream,
    )
    facts: JsonObject = {
        "dataset": {"file": input_dataset.name, "sha256": sha256_file(input_dataset), "lines": len(data)},
        "program": {"file": guidance_program.name, "sha256": program.sha256},
    }
    if program.examples is not None:
        facts["examples"] = {"file": program.examples.name, "sha256": sha256_file(program.examples)}
    if program.options:
        facts["program_options"] = dict(program.options)
    outputs = Outputs(output_dataset, error_dataset, calls_dataset, bom=output_encoding == "utf-8-sig")
    decides: JsonObject = {
        "dataset": facts["dataset"]["sha256"],
        "guidance_program": program.sha256,
        "examples": facts.get("examples", {}).get("sha256"),
        "program_option": list(option_texts(program.options)),
        "select_strategy": select_strategy,
        "require": require,
        "seed": seed,
        "reasoning_effort": reasoning_effort,
        "stream": stream,
        "limit": limit,
        "lines": lines,
        "cassette": "recorded" if record_mode != "none" else cassette and sha256_folder(cassette, "*.yaml"),
    }
    with (
        connect(endpoint, options) as connection,
        Book(
            data,
            lambda salt: decides | deployment_digest(connection.endpoint, salt),
            outputs,
            ledger=ledger,
            checkpoints=checkpoints,
            checkpoint_every=checkpoint_every,
            resume_from=resume_from,
            retry_errors=retry_errors,
        ) as book,
    ):
        client = connection.client
        status = "failed"
        before = book.tally.answered + book.tally.failed

        def stop_waiting() -> None:
            if client is not None:
                client.stop()
            book.save()

        def concurrency() -> int | None:
            return client.limiter.concurrency if client is not None and client.limiter is not None else None

        notify("run_started", dataset=input_dataset.name, total=len(data), done=before)
        try:
            with book.closing():
                evaluate(
                    book.left(),
                    program,
                    connection.model,
                    workers=guidance_workers,
                    budget=budget,
                    keep=book.keep,
                    tally=book.tally,
                    stop_waiting=stop_waiting,
                    concurrency=concurrency,
                )
            status = "completed"
        except (RunCancelled, KeyboardInterrupt):
            status = "cancelled"
            raise
        finally:
            notify("run_finished", status=status)
            facts |= book.tally.to_json() | connection.facts
            if book.published:
                published = {
                    "output.jsonl": output_dataset,
                    "errors.jsonl": error_dataset,
                    "calls.jsonl": calls_dataset,
                }
                facts["outputs"] = {name: sha256_file(path) for name, path in published.items()}
            if connection.cassette is not None:
                facts["recordings"] = _recordings(connection.cassette, goes_on=before > 0)
            if connection.records and connection.cassette is not None:
                asked = dataclasses.asdict(options) | {
                    "dataset": input_dataset,
                    "guidance_program": guidance_program,
                    "examples": program.examples,
                    "program_option": option_texts(program.options),
                    "max_errors": max_errors,
                    "on_content_filter": on_content_filter,
                    "limit": limit,
                    "lines": lines,
                    "output_encoding": output_encoding,
                }
                _write_provenance(connection.cassette, connection, facts, record_note, asked)
            if run_facts is not None:
                with contextlib.suppress(*(() if status == "completed" else (RunFolderError,))):  # the stop comes first
                    _write_json(run_facts, facts)
            notify("run_settled", facts=facts, options=decides)


@hookimpl
def register_components(register: Callable[[str, Any], None]) -> None:
    """Component 1 comes with the package."""
    register(jsonl_guidance_aoai.name, jsonl_guidance_aoai)


def _recordings(cassette: Cassette, *, goes_on: bool) -> JsonObject:
    """What this process has used of a cassette; what is unused is not known where others did a part."""
    if goes_on:
        return {"used": cassette.used, "in_cassette": len(cassette)}
    unused = cassette.unused()
    first = [f"{name}, item {number}" for name, number in unused.first]
    return {"used": cassette.used, "in_cassette": len(cassette), "unused": unused.count, "first_unused": first}


def _options(text: str | None) -> JsonObject:
    try:
        found = parse_object(text or "{}")
    except ValueError as error:
        raise ConfigError(f"--program_options {error}", key="program_options") from error
    return found


def _endpoint(*values: str | None) -> Endpoint | None:
    given = [value.strip() for value in values if value and value.strip()]
    if not given:
        return None
    if len(given) < len(values):
        names = "azure_openai_endpoint, azure_openai_deployment, azure_openai_model and azure_openai_api_version"
        raise ConfigError(f"{names} belong together; give all four, or none to replay a cassette")
    return Endpoint(*given)


def _write_provenance(
    cassette: Cassette, connection: Connection, facts: JsonObject, note: str | None, ports: JsonObject
) -> None:
    """Say whose answers the cassette holds, and which command made it; `ports` are named as the command's options."""
    from mmlu_pipe.recording.provenance import keep_provenance, run_command

    command = run_command(ports | {"other_config": "FILE"})
    keep_provenance(cassette, endpoint=connection.endpoint, facts=facts, command=command, note=note)


def _write_json(path: Path, value: JsonObject) -> None:
    try:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise unwritable(path, error.strerror) from error


if __name__ == "__main__":
    sys.exit(jsonl_guidance_aoai.main())
