"""Whose answers a cassette holds, and how they were made: `provenance.json` beside the shards."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe import __version__
from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import RecordingError
from mmlu_pipe.recording.scrub import PLACEHOLDER_DEPLOYMENT
from mmlu_pipe.records import Endpoint, JsonObject

if TYPE_CHECKING:
    from mmlu_pipe.recording.cassette import Cassette

__all__ = ["FILE_NAME", "keep_provenance", "package_versions", "provenance_of", "read_provenance"]
__all__ += ["recorded_endpoint", "run_command", "write_provenance"]

FILE_NAME = "provenance.json"
_PACKAGES = ("guidance", "openai", "vcrpy")
_FACTS = ("dataset", "program", "examples", "program_options", "served_models", "fingerprints")
_COUNTS = ("answered", "failed", "calls")


def package_versions() -> dict[str, str]:
    """The versions that decide what is asked and how it is recorded."""
    return {"mmlu-pipe": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}


def run_command(options: Mapping[str, Any]) -> str:
    """The `mmlu-pipe run` that these options equal, without those that are as by default.

    Args:
        options: by their names in config.RunConfig. Of a path only the name is shown; what is not to be shown, such as
            the file that names the deployment, is given in other words.
    """
    words = ["mmlu-pipe", "run"]
    for field in dataclasses.fields(RunConfig):
        value = options.get(field.name, field.default)
        name = f"--{field.name.replace('_', '-')}"
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(name if value else name.replace("--", "--no-", 1))
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [name, each.absolute().name if isinstance(each, Path) else str(each)]
    return shlex.join(words)


def keep_provenance(
    cassette: Cassette, *, endpoint: Endpoint, facts: Mapping[str, Any], command: str, note: str | None = None
) -> None:
    """Say whose answers a cassette holds, unless nothing came to those that say it already.

    Args:
        cassette: the recordings; what an earlier recording said and this one does not is left as it is.
        endpoint: whom the answers came from.
        facts: what the connection and the run say of themselves.
        command: what made the recording, without host, deployment name, path or credential.
        note: free text; without it, the earlier one stays.

    Raises:
        RecordingError: the provenance cannot be read or written.
    """
    old = read_provenance(cassette.folder) or {}
    if not len(cassette) or (old and not cassette.recorded):
        return
    value = provenance_of(
        endpoint=endpoint,
        endpoint_kind=facts["endpoint_kind"],
        capabilities=facts.get("capabilities", {}),
        facts={name: facts[name] for name in (*_FACTS, *_COUNTS) if name in facts} | {"recordings": len(cassette)},
        note=note or old.get("note"),
        command=command,
    )
    write_provenance(cassette.folder, old | value)


def provenance_of(
    *,
    endpoint: Endpoint,
    endpoint_kind: str,
    capabilities: Mapping[str, Any],
    facts: Mapping[str, Any],
    note: str | None,
    command: str | None = None,
) -> JsonObject:
    """The provenance of a recording that ends now; holds no host, deployment name or credential.

    Args:
        endpoint: whom the answers came from; only model and API version are kept.
        endpoint_kind: the kind of host (endpoint/address.py).
        capabilities: what was settled, so that a replay asks in the same words.
        facts: dataset and program hashes, served models and counts of the run; a served model that is the
            deployment's name, as a gateway may say, is not kept.
        note: free text of the person who records, such as where the weights came from.
        command: what made the recording.
    """
    served = {
        PLACEHOLDER_DEPLOYMENT if name == endpoint.deployment != endpoint.model else name: calls
        for name, calls in facts.get("served_models", {}).items()
    }
    return {
        "format": 1,
        "model": endpoint.model,
        "api_version": endpoint.api_version,
        "endpoint_kind": endpoint_kind,
        "capabilities": dict(capabilities),
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "packages": package_versions(),
        "note": note,
        **facts,
        "served_models": served,
    }


def write_provenance(folder: Path, value: JsonObject) -> None:
    """Write the file beside the shards, as a whole.

    Raises:
        RecordingError: it cannot be written; the old one is as before.
    """
    temporary = folder / f".{FILE_NAME}.new"
    try:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        temporary.replace(folder / FILE_NAME)
    except OSError as error:
        raise RecordingError(f"{folder.name}/{FILE_NAME}: cannot be written ({error.strerror})") from error


def read_provenance(folder: Path) -> JsonObject | None:
    """The provenance of a cassette, None where it has none.

    Raises:
        RecordingError: the file is there and is not readable as provenance.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value["model"], str) or not isinstance(value["api_version"], str):
            raise TypeError("model and api_version must be texts")
        if not isinstance(value.get("capabilities", {}), dict):
            raise TypeError("capabilities must be an object")
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise RecordingError(f"{path}: is not readable as provenance ({type(error).__name__}: {error})") from error
    found: JsonObject = value
    return found


def recorded_endpoint(folder: Path) -> Endpoint:
    """The endpoint facts that a replay needs.

    Raises:
        RecordingError: the folder is missing, or has no provenance.
    """
    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such cassette folder")
    value = read_provenance(folder)
    if value is None:
        raise RecordingError(
            f"{folder}: has no {FILE_NAME}, so the model is unknown; name the deployment it was recorded on with "
            "--other-config FILE"
        )
    return Endpoint("https://aoai.invalid", "recorded", value["model"], value["api_version"])
