"""`mmlu-pipe cassette check` and `mmlu-pipe cassette show`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from mmlu_pipe.errors import EndpointError, RecordingError
from mmlu_pipe.plugins import hookimpl

__all__ = ["cassette"]

_FOLDER = click.Path(path_type=Path)


@click.group()
def cassette() -> None:
    """Look after recordings: refuse leaks, and show what is in them."""


@cassette.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=_FOLDER)
@click.option("--also", multiple=True, metavar="TEXT", help="Header or text that must not be kept either; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def check(folders: tuple[Path, ...], also: tuple[str, ...], as_json: bool) -> int:
    """Look for credentials, hosts and ids in cassettes and run folders; show where they are, never what.

    Exits with 0 where there are none, 2 where there are some, or on bad usage or input.
    """
    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.recording.leaks import files_to_check, find_leaks, refuse_leaks

    counts = {str(folder): len(files_to_check(folder)) for folder in folders}
    for folder, files in counts.items():
        if not files:
            raise RecordingError(f"{folder}: holds no YAML, JSON or JSONL file, so there is nothing to check")
    leaks = sorted({leak for folder in folders for leak in find_leaks(folder, also=also)})
    if as_json:
        places = [{"file": str(leak.file), "line": leak.line, "kind": leak.kind} for leak in leaks]
        print_json({"clean": not leaks, "files": counts, "leaks": places})
        return 2 if leaks else 0
    refuse_leaks(leaks)
    for folder, files in counts.items():
        click.echo(f"{folder}: clean, {files} files")
    return 0


@cassette.command()
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def show(folder: Path, as_json: bool) -> int:
    """Show whose answers FOLDER holds and how they were made, with counts, tokens and finish reasons."""
    from mmlu_pipe.cli.root import print_json

    found = _summary(folder)
    if as_json:
        print_json(found)
    else:
        for name, text in _rows(found):
            click.echo(f"{name:<16}{text}".rstrip())
    return 0


@hookimpl
def register_commands(register: Callable[[str, Any], None]) -> None:
    """The command comes with the package."""
    register("cassette", cassette)


def _summary(folder: Path) -> dict[str, Any]:
    from mmlu_pipe.endpoint.wire import read_completion
    from mmlu_pipe.gate.record import read_verification
    from mmlu_pipe.recording.order import shard_paths
    from mmlu_pipe.recording.provenance import read_provenance
    from mmlu_pipe.recording.shards import read_shard

    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such cassette folder")
    shards: dict[str, int] = {}
    tokens, reasons, models, statuses = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    unread = passed_over = 0
    for stem, path in shard_paths(folder).items():
        shard = read_shard(path)
        shards[stem] = len(shard.items)
        passed_over += shard.passed_over
        for exchange, _ in shard.items:
            statuses[str(exchange.status)] += 1
            if exchange.status != 200:
                continue
            try:
                answer = read_completion(exchange.response_body.encode(), exchange.content_type)
            except EndpointError:  # such as a stream that tells of an error
                unread += 1
                continue
            tokens.update(_tokens(answer.usage or {}))
            reasons[answer.finish_reason or "none given"] += 1
            models[answer.served_model or "none given"] += 1
    if not any(shards.values()):
        raise RecordingError(f"{folder}: holds no recordings of chat completions")
    return {
        "folder": str(folder),
        "provenance": read_provenance(folder),
        "recordings": sum(shards.values()),
        "shards": shards,
        "tokens": dict(sorted(tokens.items())),
        "finish_reasons": dict(reasons.most_common()),
        "served_models": dict(models.most_common()),
        "statuses": dict(sorted(statuses.items())),
        "unreadable_answers": unread,
        "passed_over": passed_over,
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "verification": read_verification(folder),
    }


def _tokens(usage: Mapping[str, Any]) -> Counter[str]:
    """Token counts of one answer by name, those of the details too; none of 0."""
    found: Counter[str] = Counter()
    for name, value in usage.items():
        if isinstance(value, Mapping):
            found.update(_tokens(value))
        elif type(value) is int and value > 0:
            found[name] += value
    return found


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    made, verified = found["provenance"], found["verification"]
    yield "cassette", found["folder"]
    if made is None:
        yield "provenance", "none"
    else:
        yield "answers of", f"{made['model']}, API version {made['api_version']}"
        for name, key in (("endpoint", "endpoint_kind"), ("recorded at", "recorded_at"), ("command", "command")):
            if made.get(key):
                yield name, str(made[key])
        for name in ("dataset", "program"):
            if isinstance(made.get(name), Mapping):
                yield name, f"{made[name].get('file')}, SHA-256 {made[name].get('sha256')}"
        if isinstance(made.get("packages"), Mapping):
            yield "packages", ", ".join(f"{name} {version}" for name, version in made["packages"].items())
        if made.get("note"):
            yield "note", str(made["note"])
    yield "recordings", f"{found['recordings']:,} in {len(found['shards'])} shards, {found['bytes']:,} bytes on disk"
    yield "served models", _counts(found["served_models"])
    yield "statuses", _counts(found["statuses"])
    yield "finish reasons", _counts(found["finish_reasons"])
    yield "tokens", _counts(found["tokens"])
    if found["unreadable_answers"]:
        yield "unreadable", f"{found['unreadable_answers']} answers"
    if found["passed_over"]:
        yield "passed over", f"{found['passed_over']:,} recordings of something else than chat completions"
    if verified is not None:
        yield (
            "verification",
            f"{'passed' if verified.get('passed') is True else 'did not pass'}, {verified.get('verified_at')}",
        )
    for place, (name, count) in enumerate(found["shards"].items()):
        yield "by shard" if place == 0 else "", f"{name} {count:,}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
