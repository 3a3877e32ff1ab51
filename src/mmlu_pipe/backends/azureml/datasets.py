"""Datasets as data assets of the workspace: registered from a file, brought back to one."""

from __future__ import annotations

import difflib
import logging
import re
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.blobs import download_blob
from mmlu_pipe.backends.azureml.client import WorkspaceClient
from mmlu_pipe.backends.azureml.failures import scrubbed, translated
from mmlu_pipe.backends.azureml.register import register_asset
from mmlu_pipe.backends.azureml.render import data_asset, versions
from mmlu_pipe.dataset.locate import advice, locate
from mmlu_pipe.errors import DatasetError, WorkspaceRejected
from mmlu_pipe.hashing import sha256_file

__all__ = ["fetch_dataset", "register_dataset"]

_log = logging.getLogger("mmlu_pipe.backends")

_SPEC = re.compile(r"(?P<name>[A-Za-z0-9_][\w.-]*)(:(?P<version>[A-Za-z0-9_][\w.-]*)|@latest)?", re.ASCII)
_MOST_NAMES = 1000


def register_dataset(client: WorkspaceClient, path: Path, *, version_scheme: str = "content") -> tuple[str, bool]:
    """Register a file as a data asset of its name.

    Args:
        client: the workspace.
        path: the file.
        version_scheme: `content`, so that the same content is registered once, or `epoch` for the second.

    Returns:
        The exact reference, and whether it was created now.

    Raises:
        WorkspaceRejected: this version is there with other content.
        AuthenticationFailed, WorkspaceUnavailable: see `translated`.
    """
    asset = data_asset(path, versions(version_scheme))
    with tempfile.TemporaryDirectory(prefix="mmlu-pipe-") as folder:
        return asset.reference, register_asset(client, asset, Path(folder))


def fetch_dataset(connect: Callable[[], WorkspaceClient], spec: str, data_dir: Path) -> Path:
    """The file of a dataset: one of this machine, or that of a data asset, which is downloaded once.

    Args:
        connect: reaches the workspace; called only where it is needed.
        spec: what `locate` takes, `NAME:VERSION`, or `NAME@latest`.
        data_dir: the data folder; an asset goes to `assets/NAME/VERSION/NAME.jsonl` in it.

    Raises:
        DatasetError: it is neither here nor there, or what arrived is not what was registered.
        MmluPipeError: the workspace cannot be asked.
    """
    try:
        return locate(spec, data_dir)
    except DatasetError:
        found = _SPEC.fullmatch(spec)
        if found is None:
            raise
    name, version = found["name"], found["version"]
    if version is not None and (target := _place(data_dir, name, version)).is_file():
        return target
    with connect() as client:
        data = _asset(client, name, version)
        if data is None:
            raise DatasetError(f"dataset {spec!r}: {_nowhere(client, name, version)}{advice(name, data_dir)}")
        target = _place(data_dir, name, str(data.version))
        if not target.is_file():
            _bring(client, data, target)
    _log.info("dataset     %s:%s of %s", name, data.version, client.shown)
    return target


def _place(data_dir: Path, name: str, version: str) -> Path:
    return data_dir / "assets" / name / version / f"{name}.jsonl"


def _asset(client: WorkspaceClient, name: str, version: str | None) -> Any:
    """The data asset, by default its latest version; None where there is none."""
    chosen = {"label": "latest"} if version is None else {"version": version}
    try:
        with translated(f"look up the data asset {name} in {client.shown}"):
            return client.ml.data.get(name, **chosen)
    except WorkspaceRejected as error:
        if error.status == 404:
            return None
        raise


def _bring(client: WorkspaceClient, data: Any, target: Path) -> None:
    shown = f"data asset {data.name}:{data.version}"
    if str(data.type) != "uri_file":
        raise DatasetError(f"{shown}: is a {data.type}, not a uri_file; a dataset is one JSONL file", path=target)
    expected = (data.tags or {}).get("sha256")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        arrived = Path(folder) / target.name
        try:
            download_blob(client, str(data.path), arrived)
        except ValueError as error:
            raise DatasetError(
                f"{shown}: its file cannot be fetched ({scrubbed(str(error))}); bring it here by hand, and give "
                "--dataset the file",
                path=target,
            ) from error
        if expected is not None and sha256_file(arrived) != expected:
            raise DatasetError(
                f"{shown}: its file is not the one that was registered (its SHA-256 is not that of the tag); register "
                "it again under another version",
                path=target,
            )
        arrived.replace(target)
    if expected is None:
        _log.info("%s has no tag `sha256`, so its file could not be checked", shown)


def _nowhere(client: WorkspaceClient, name: str, version: str | None) -> str:
    """That there is no such asset, with what comes close."""
    with translated(f"list the data assets of {client.shown}"):
        if version is not None and (known := [str(data.version) for data in islice(client.ml.data.list(name), 5)]):
            return f"{client.shown} has no version {version} of it; the newest are {', '.join(known)}"
        names = [str(data.name) for data in islice(client.ml.data.list(), _MOST_NAMES)]
    close = difflib.get_close_matches(name, names)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"neither here nor a data asset of {client.shown}{hint}"
