"""The verification record beside a cassette, and what a backend that costs money asks of it (no replay)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import RecordingError
from mmlu_pipe.gate.result import Verification
from mmlu_pipe.hashing import sha256_file, sha256_folder
from mmlu_pipe.programs import option_texts
from mmlu_pipe.recording.provenance import package_versions
from mmlu_pipe.records import JsonObject

__all__ = [
    "FILE_NAME",
    "check_verification",
    "hashes_of",
    "pinned_versions",
    "read_verification",
    "verification_note",
    "write_verification",
]

FILE_NAME = "verification.json"
FORMAT = 1
_PINNED = ("mmlu-pipe", "guidance", "openai")


def hashes_of(dataset: Path, program: Path, cassette: Path, examples: Path | None = None) -> dict[str, str]:
    """SHA-256 of what a verification speaks of."""
    return {
        "dataset": sha256_file(dataset),
        "program": sha256_file(program),
        "recordings": sha256_folder(cassette, "*.yaml"),
    } | ({} if examples is None else {"examples": sha256_file(examples)})


def pinned_versions() -> dict[str, str]:
    """The installed versions that decide what is asked, and that a job pins."""
    versions = package_versions()
    return {name: versions[name] for name in _PINNED}


def record_of(found: Verification) -> JsonObject:
    """The content of the record: what was shown, and nothing that names a place on this machine."""
    return {
        "format": FORMAT,
        "passed": found.passed,
        "verified_at": found.verified_at,
        "hashes": dict(found.hashes),
        "versions": dict(found.versions),
        "asked_with": dict(found.asked_with),
        "dataset": found.dataset,
        "program": found.program,
        "model": {"recorded": found.model_recorded, "target": found.model_target},
        "lines": {
            "in_dataset": found.lines,
            "gate_lines": found.gate_lines,
            "covered": len(found.covered),
            "rendered": found.rendered,
            "missing": len(found.missing_lines),
        },
        "calls": {"asked": found.calls_asked, "played": found.calls_played, "missing": found.calls_missing},
        "recordings": {"in_cassette": found.recordings, "unused": found.unused},
        "prompts": vars(found.prompts),
        "problems": [vars(problem) for problem in found.problems],
        "warnings": list(found.warnings),
    }


def write_verification(cassette: Path, found: Verification) -> Path:
    """Write the record beside the shards, as a whole; an older one is replaced.

    Raises:
        RecordingError: it cannot be written; the old one is as before.
    """
    path = cassette / FILE_NAME
    temporary = cassette / f".{FILE_NAME}.new"
    text = json.dumps(record_of(found), indent=2, ensure_ascii=False) + "\n"
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        raise RecordingError(f"{path}: the verification cannot be written ({error.strerror})") from error
    return path


def read_verification(cassette: Path) -> JsonObject | None:
    """The record of a cassette, None where there is none.

    Raises:
        RecordingError: the file is there, and is no record of this format.
    """
    path = cassette / FILE_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: is no verification record ({type(error).__name__})") from error
    objects = ("hashes", "versions", "asked_with", "calls", "lines")
    if (
        not isinstance(value, dict)
        or value.get("format") != FORMAT
        or not all(isinstance(value.get(name), dict) for name in objects)
    ):
        raise RecordingError(f"{path}: is no verification record of format {FORMAT}")
    found: JsonObject = value
    return found


def verification_note(cassette: Path) -> str | None:
    """What a record says of the lines, for people; None where there is no record.

    Raises:
        RecordingError: the file is there, and is no record.
    """
    record = read_verification(cassette)
    if record is None:
        return None
    lines = record["lines"]
    return (
        f"verified {record.get('verified_at')}: of {lines.get('in_dataset')} lines {lines.get('covered')} were played, "
        f"{lines.get('rendered')} only rendered"
    )


def check_verification(
    cassette: Path,
    program: Path,
    dataset: Path,
    examples: Path | None = None,
    *,
    asked_with: Mapping[str, Any] | None = None,
    model: str | None = None,
) -> list[str]:
    """What stands against asking a real endpoint this program's questions on this dataset; nothing is replayed.

    Args:
        cassette: the folder with the record.
        program: the program that will run.
        dataset: the dataset that it will run on.
        examples: the examples that it will show, if any.
        asked_with: `select_strategy`, `seed`, `reasoning_effort` and `program_options` of the run; None does not
            compare them.
        model: the model that would be asked; None does not compare it.

    Returns:
        Objections, the last with the command that mends them; empty where the record holds.
    """
    asked = asked_with or {}
    objections = _objections(cassette, program, dataset, examples, asked, model)
    if objections:
        command = verify_command(dataset, program, cassette, examples, asked)
        objections[-1] += f"; to verify: {command}"
    return objections


def verify_command(
    dataset: object,
    program: object,
    cassette: object,
    examples: object | None = None,
    asked_with: Mapping[str, Any] | None = None,
) -> str:
    """The command that verifies, as a person types it."""
    words = [("--dataset", dataset), ("--guidance-program", program), ("--cassette", cassette)]
    if examples is not None:
        words.append(("--examples", examples))
    asked = dict(asked_with or {})
    words += [("--program-option", text) for text in option_texts(asked.pop("program_options", None) or {})]
    words += [(f"--{name.replace('_', '-')}", value) for name, value in asked.items() if value not in (None, "auto")]
    return shlex.join(["mmlu-pipe", "verify", *(str(part) for pair in words for part in pair)])


def _objections(
    cassette: Path,
    program: Path,
    dataset: Path,
    examples: Path | None,
    asked_with: Mapping[str, Any],
    model: str | None,
) -> list[str]:
    try:
        record = read_verification(cassette)
        current = hashes_of(dataset, program, cassette, examples)
    except RecordingError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename}: cannot be read ({error.strerror})"]
    if record is None:
        return [f"{cassette}: holds no verification of this program and dataset"]
    names = {"dataset": dataset.name, "program": program.name, "recordings": cassette.name}
    names |= {} if examples is None else {"examples": examples.name}
    found = [
        f"the {what} {name} changed since the verification of {record.get('verified_at')}"
        for what, name in names.items()
        if record["hashes"].get(what) != current[what]
    ]
    if examples is None and "examples" in record["hashes"]:
        found.append("the examples of the verification are not those of the run, which has none")
    found += [
        f"verified with {name} {record['versions'].get(name)}, but {version} would run"
        for name, version in pinned_versions().items()
        if record["versions"].get(name) != version
    ]
    found += [
        f"verified with {name} {record['asked_with'].get(name)}, but {value} would be asked"
        for name, value in asked_with.items()
        if record["asked_with"].get(name) != value
    ]
    models = record.get("model")
    known = [models.get("recorded"), models.get("target")] if isinstance(models, dict) else []
    if model is not None and model not in known:
        found.append(
            f"verified on answers of {known[0] if known else 'an unknown model'}, but {model} would be asked; record "
            "some lines of that one, or verify with its --other-config"
        )
    if record.get("passed") is not True:
        found.append(f"the verification of {record.get('verified_at')} did not pass")
    return found
