"""A job's named outputs → the run folder: each written aside, checked, and then put in place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmlu_pipe.backends.azureml.history import JobState
from mmlu_pipe.backends.azureml.submission import output_uri
from mmlu_pipe.errors import AuthenticationFailed, DownloadFailed, JobFailed, MmluPipeError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.jsonl import raw_lines
from mmlu_pipe.records import JsonObject, Score

if TYPE_CHECKING:
    from mmlu_pipe.backends.azureml.client import WorkspaceClient

__all__ = ["FACTS", "OUTPUTS", "Fetched", "fetch_outputs"]

FACTS = "run_facts"
"""The port of what component 1 settled and counted."""

OUTPUTS: Mapping[str, str] = {
    FACTS: "facts.json",
    "output_dataset": "output.jsonl",
    "error_dataset": "errors.jsonl",
    "calls_dataset": "calls.jsonl",
    "score_dataset": "score.json",
}
"""Port → file name, in the order in which they are fetched: the facts tell the hashes of those that follow."""


@dataclass(frozen=True)
class Fetched:
    """What a job left.

    Attributes:
        facts: what component 1 settled and counted; empty where the job left none.
        files: the outputs that are there.
        missing: the file names of those that the job did not leave.
    """

    facts: JsonObject
    files: tuple[Path, ...]
    missing: tuple[str, ...]


def fetch_outputs(
    client: WorkspaceClient, state: JobState, folder: Path, *, inputs: Mapping[str, str], command: str
) -> Fetched:
    """Bring the outputs of a job that has ended; what is there already, and as it should be, stays.

    Args:
        client: the workspace.
        state: the job. One that completed has every output; of any other, those that are there are fetched.
        folder: the run folder, which exists.
        inputs: name → SHA-256 of what the folder's run was begun with, as far as it is known.
        command: the one that fetches into this folder.

    Raises:
        JobFailed: the job ran another dataset or program than the folder's run was begun with.
        DownloadFailed: an output is missing or did not arrive as the job wrote it, or another file is in its place.
            Nothing was put into the folder.
    """
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
        aside = Path(temporary)
        facts: JsonObject = {}
        fetched: list[Path] = []
        kept: list[Path] = []
        missing: list[str] = []
        for port, name in OUTPUTS.items():
            wanted: str | None = (facts.get("outputs") or {}).get(name)
            if wanted is not None and (folder / name).is_file() and sha256_file(folder / name) == wanted:
                kept.append(folder / name)
            elif not _fetch(client, state, port, aside / name, folder / name, command):
                missing.append(name)
            elif port == FACTS:
                facts = _facts(aside / name, state, folder / name, command)
                _check_inputs(facts, inputs, state)
            else:
                _check_hash(aside / name, wanted, state, folder / name, command)
                fetched.append(aside / name)
        if missing and state.status == "completed":
            raise DownloadFailed(
                f"{folder / missing[0]}: the job {state.name} completed, and {_list(missing)} cannot be found where it "
                "leaves its outputs; look for the job's outputs in the studio, or run it again with "
                f"--resume-from {state.name}",
                path=folder / missing[0],
            )
        found = {path.name: path for path in (*kept, *fetched)}
        if state.status == "completed":
            _check_score(found, state, folder / "score.json", command)
        for path in fetched:
            _refuse_another(path, folder / path.name, state)
        for path in fetched:
            path.replace(folder / path.name)
    return Fetched(facts, tuple(folder / name for name in OUTPUTS.values() if name in found), tuple(missing))


def _fetch(client: WorkspaceClient, state: JobState, port: str, target: Path, shown: Path, command: str) -> bool:
    """Download one output; whether there is one."""
    try:
        try:
            return _download(client, state, port, target)
        except AuthenticationFailed:  # of a token that was refused the SDK knows by now
            return _download(client, state, port, target)
    except (MmluPipeError, ValueError) as error:
        raise DownloadFailed(
            f"{shown}: could not be fetched from the job {state.name}: {error}\n"
            f"  the job keeps its outputs; to try again: {command}",
            path=shown,
        ) from error


def _download(client: WorkspaceClient, state: JobState, port: str, target: Path) -> bool:
    from mmlu_pipe.backends.azureml.blobs import download_blob

    uri = _locate(client, state.outputs.get(port) or output_uri(state.name, port, target.name), target.name)
    if uri is not None:
        download_blob(client, uri, target)
    return uri is not None


def _locate(client: WorkspaceClient, uri: str, name: str) -> str | None:
    """The file of an output: where it should be, or else the one file in its folder, under whatever name."""
    from mmlu_pipe.backends.azureml.blobs import find_blobs

    for place in (uri, uri.rpartition("/")[0]) if uri.endswith(f"/{name}") else (uri,):
        found = find_blobs(client, place)
        own = [blob for blob in found if blob == uri or blob.endswith(f"/{name}")] or found
        if len(own) > 1:
            raise ValueError(f"there are {len(own)} files at {place}, and it cannot be told which is {name}")
        if own:
            return own[0]
    return None


def _facts(path: Path, state: JobState, shown: Path, command: str) -> JsonObject:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    if state.status == "completed":
        raise _changed(shown, state, "is no JSON object", command)
    return {}  # the step was stopped while it wrote


def _check_inputs(facts: JsonObject, inputs: Mapping[str, str], state: JobState) -> None:
    """The job ran what the run was begun with, and not what somebody saved or registered meanwhile."""
    for fact, name in (("dataset", "dataset"), ("program", "guidance_program"), ("examples", "examples")):
        ran, begun = (facts.get(fact) or {}).get("sha256"), inputs.get(name)
        if None not in (ran, begun) and ran != begun:
            raise JobFailed(
                f"the job {state.name} ran another {name.replace('_', ' ')} than this run was begun with (SHA-256 "
                f"{str(ran)[:16]}…, and not {str(begun)[:16]}…); its outputs were not fetched: run it again; or see "
                f"them with mmlu-pipe fetch {state.name} --output-dir NEW_FOLDER",
                job=state.name,
            )


def _check_hash(path: Path, wanted: str | None, state: JobState, shown: Path, command: str) -> None:
    if wanted is not None and sha256_file(path) != wanted:
        raise _changed(shown, state, "does not have the hash that the job noted when it wrote it", command)


def _check_score(found: Mapping[str, Path], state: JobState, shown: Path, command: str) -> None:
    """The score can be read, and is that of the lines beside it."""
    try:
        score = Score.from_json(json.loads(found["score.json"].read_text(encoding="utf-8")))
    except (ValueError, MmluPipeError) as error:
        raise _changed(shown, state, "cannot be read as a score", command) from error
    lines = sum(1 for name in ("output.jsonl", "errors.jsonl") for _ in raw_lines(found[name]))
    if score.count != lines:
        raise _changed(shown, state, f"tells of {score.count} lines, and the outputs beside it have {lines}", command)


def _refuse_another(path: Path, target: Path, state: JobState) -> None:
    if target.exists() and (not target.is_file() or sha256_file(target) != sha256_file(path)):
        raise DownloadFailed(
            f"{target}: is there already and differs from the output of the job {state.name}; move it away, or give "
            "--output-dir a new folder",
            path=target,
        )


def _changed(shown: Path, state: JobState, how: str, command: str) -> DownloadFailed:
    return DownloadFailed(
        f"{shown}: what arrived from the job {state.name} {how}; something has changed it since, or it was cut on its "
        f"way: try again with {command}, or run it again with --resume-from {state.name}",
        path=shown,
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
