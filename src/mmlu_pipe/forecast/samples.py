"""Recorded usage: that of a run folder, line by line, or that of a cassette, call by call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from mmlu_pipe.config import load_json_object
from mmlu_pipe.engine.tally import NOT_RUN
from mmlu_pipe.errors import ConfigError, EndpointError, RecordingError
from mmlu_pipe.forecast.figures import Sample, Usage
from mmlu_pipe.gate.record import read_verification
from mmlu_pipe.hashing import sha256_folder
from mmlu_pipe.jsonl import read_objects
from mmlu_pipe.records import ERROR_KEY, JsonObject
from mmlu_pipe.runfolder import RunFolder

__all__ = ["sample_of_cassette", "sample_of_run"]

_NOTHING = Usage(0, 0, 0, 0, 0)


def sample_of_run(path: Path) -> Sample:
    """The usage of each line that a run came to.

    Raises:
        ConfigError: the folder is none of a run, or no line of it was run.
        DatasetError: a file in it cannot be read.
    """
    folder = RunFolder(path)
    if not folder.manifest.is_file() or not folder.calls.is_file():
        raise ConfigError(f"{path}: is no run folder (it needs manifest.json and calls.jsonl)", path=path, key="run")
    run = load_json_object(folder.manifest, "the manifest").get("run")
    facts: JsonObject = run if isinstance(run, dict) else {}
    answered = sum(1 for _ in read_objects(folder.output)) if folder.output.is_file() else 0
    errors = list(read_objects(folder.errors)) if folder.errors.is_file() else []
    failed = [found if isinstance(found := line.get(ERROR_KEY), dict) else {} for _, line in errors]
    skipped = {error.get("line_number") for error in failed if error.get("kind") == NOT_RUN}
    lines: dict[int, Usage] = {}
    latencies = []
    for number, call in read_objects(folder.calls):
        line, latency = call.get("line_number"), call.get("latency_s")
        if not isinstance(line, int):
            raise ConfigError(f"{folder.calls}:{number}: is no model call (line_number)", path=folder.calls)
        if line not in skipped:
            lines[line] = _sum(lines.get(line, _NOTHING), usage_of(call.get("usage")))
            latencies += [latency] if isinstance(latency, int | float) else []
    silent = answered + len(failed) - len(skipped) - len(lines)
    rows = (*lines.values(), *(_NOTHING,) * max(silent, 0))
    if not rows:
        raise ConfigError(f"{path}: no line of this run was run", path=path, key="run")
    live = facts.get("endpoint_kind") != "recorded"
    return Sample(
        source="run",
        unit="line",
        rows=rows,
        units_per_line=1.0,
        models=_models(facts.get("model"), facts.get("served_models")),
        latency_s=fmean(latencies) if live and latencies else None,
    )


def sample_of_cassette(folder: Path) -> Sample:
    """The usage of each recorded call; how many a line makes is known where the cassette was verified as it is.

    Raises:
        RecordingError: the folder holds no recordings, or some that cannot be read.
    """
    from mmlu_pipe.endpoint.wire import read_completion
    from mmlu_pipe.recording.order import shard_paths
    from mmlu_pipe.recording.provenance import read_provenance
    from mmlu_pipe.recording.shards import read_shard

    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such cassette folder")
    rows: list[Usage] = []
    served: Counter[str] = Counter()
    for path in shard_paths(folder).values():
        for exchange, _ in read_shard(path).items:
            try:
                seen = read_completion(exchange.response_body.encode(), exchange.content_type)
            except EndpointError:  # such as a prompt that the content filter blocked
                rows.append(usage_of(None))
                continue
            rows.append(usage_of(seen.usage))
            served[seen.served_model or "unknown"] += 1
    if not rows:
        raise RecordingError(f"{folder}: holds no recordings")
    provenance = read_provenance(folder) or {}
    per_line, note = _calls_per_line(folder, provenance)
    return Sample("cassette", "call", tuple(rows), per_line, _models(provenance.get("model"), served), notes=note)


def usage_of(value: Any) -> Usage:
    """The tokens of one call as the endpoint told them."""
    told = value if isinstance(value, Mapping) else {}
    prompt, completion = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if prompt is None or completion is None:
        return Usage(1, 0, 0, 0, 0, known=False)
    return Usage(
        calls=1,
        prompt_tokens=prompt,
        completion_tokens=completion,
        reasoning_tokens=_detail(told, "completion_tokens_details", "reasoning_tokens"),
        cached_tokens=_detail(told, "prompt_tokens_details", "cached_tokens"),
    )


def _detail(told: Mapping[str, Any], group: str, name: str) -> int:
    found = told.get(group)
    return (_count(found.get(name)) or 0) if isinstance(found, Mapping) else 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.calls + other.calls,
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.cached_tokens + other.cached_tokens,
        one.known and other.known,
    )


def _models(declared: Any, served: Any) -> tuple[str, ...]:
    names: Iterable[str] = sorted(served, key=lambda name: -served[name]) if isinstance(served, Mapping) else ()
    return tuple(dict.fromkeys(name for name in (declared, *names) if isinstance(name, str))) or ("unknown",)


def _calls_per_line(folder: Path, provenance: JsonObject) -> tuple[float, tuple[str, ...]]:
    """As the verification of these very recordings counted them, or else the run that made them.

    Equal questions share a recording, so that recordings by lines are no measure.
    """
    record = read_verification(folder)
    if record and record["hashes"].get("recordings") == sha256_folder(folder, "*.yaml"):
        asked, covered = record["calls"].get("asked"), record["lines"].get("covered")
        if record.get("passed") is True and _count(asked) and _count(covered):
            return asked / covered, ()
    made = {name: _count(provenance.get(name)) or 0 for name in ("calls", "answered", "failed")}
    if made["calls"] and (lines := made["answered"] + made["failed"]):
        return made["calls"] / lines, ()
    return 1.0, ("calls per line are not known, 1 is assumed; verify the cassette, or estimate from a run",)
