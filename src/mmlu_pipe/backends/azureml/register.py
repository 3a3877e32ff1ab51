"""Brings a submission into the workspace: what is there stays as it is, the rest is created, the job started."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mmlu_pipe.backends.azureml.blobs import probe_write
from mmlu_pipe.backends.azureml.client import RegistryClient, WorkspaceClient, connect_registry
from mmlu_pipe.backends.azureml.failures import translated
from mmlu_pipe.backends.azureml.snapshot import write_snapshot
from mmlu_pipe.backends.azureml.submission import Asset, Submission
from mmlu_pipe.errors import MmluPipeError, WorkspaceRejected
from mmlu_pipe.records import JsonObject

__all__ = ["Job", "Registered", "look_up", "register", "register_asset", "submit"]

_OPERATIONS = {"data": "data", "environment": "environments", "component": "components"}
"""Kind → attribute of the SDK's client."""

_IN_REGISTRY = re.compile(r"azureml://registries/([^/]+)/(environment|component)s/([^/]+)/versions/([^/]+)")


@dataclass(frozen=True)
class Registered:
    """What became of the assets of a submission, as references in their order.

    Attributes:
        created: registered now.
        reused: were there, with exactly this content.
    """

    created: tuple[str, ...]
    reused: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A job that was submitted.

    Attributes:
        name: its name.
        studio_url: its page in the studio; for terminals only, since it names the workspace.
    """

    name: str
    studio_url: str | None


def look_up(client: WorkspaceClient, submission: Submission) -> dict[str, bool]:
    """What of a submission is there: references of assets and of what it uses, and names of computes.

    Raises:
        AuthenticationFailed, WorkspaceRejected, WorkspaceUnavailable: it cannot be looked up.
    """
    assets = {asset.reference: _find(client, asset.kind, asset.name, asset.version) for asset in submission.assets}
    found = {reference: version is not None for reference, version in assets.items()}
    return found | dict(_needed(client, submission))


def register(client: WorkspaceClient, submission: Submission, folder: Path) -> Registered:
    """Create the assets that are not there yet, in order.

    Args:
        client: the workspace.
        submission: what is sent.
        folder: an empty one; documents, files and code are written to it, and sent from there.

    Raises:
        WorkspaceRejected: something it uses is not there, or a version is there with other content.
        AuthenticationFailed, WorkspaceUnavailable: see `translated`.
    """
    missing = [reference for reference, is_there in _needed(client, submission) if not is_there]
    if missing:
        raise WorkspaceRejected(
            f"{client.shown} has no {', no '.join(missing)}\n"
            "  nothing was registered; check the names, and that they are of this workspace",
            status=404,
        )
    new = [asset for asset in submission.assets if not _is_registered(client, asset)]
    if any(asset.source or asset.code for asset in new):
        probe_write(client)
    created: list[str] = []
    for asset in new:
        if _create(client, asset, folder, created):
            created.append(asset.reference)
    references = [asset.reference for asset in submission.assets]
    return Registered(tuple(created), tuple(reference for reference in references if reference not in created))


def register_asset(client: WorkspaceClient | RegistryClient, asset: Asset, folder: Path) -> bool:
    """Create one version, unless it is there with exactly this content.

    Args:
        client: the workspace or the registry.
        asset: the version.
        folder: its document, file and code are written to it.

    Returns:
        Whether it was created.

    Raises:
        WorkspaceRejected: this version is there with other content.
        AuthenticationFailed, WorkspaceUnavailable: see `translated`.
    """
    if _is_registered(client, asset):
        return False
    if isinstance(client, WorkspaceClient) and (asset.source or asset.code):
        probe_write(client)
    return _create(client, asset, folder)


def submit(client: WorkspaceClient, submission: Submission, folder: Path) -> Job:
    """Start the job; all that it uses is registered.

    Raises:
        WorkspaceRejected: the service refuses it.
        AuthenticationFailed, WorkspaceUnavailable: see `translated`; it is certain then that no job was seen.
    """
    from azure.ai.ml import load_job

    references = [asset.reference for asset in submission.assets]
    path = _written(submission.job, folder / "job.yml")
    try:
        with translated(f"submit job {submission.job_name} to {client.shown}", references), _quiet():
            job = client.ml.jobs.create_or_update(load_job(path))
    except MmluPipeError:
        job = _started(client, submission.job_name)  # the answer may have been lost on its way
        if job is None:
            raise
    return Job(str(job.name), job.studio_url)


def _started(client: WorkspaceClient, job_name: str) -> Any:
    with contextlib.suppress(MmluPipeError), translated(f"look up job {job_name}"), _quiet():
        return client.ml.jobs.get(job_name)
    return None


def _needed(client: WorkspaceClient, submission: Submission) -> Iterator[tuple[str, bool]]:
    """What a submission uses and never creates, each with whether it is there."""
    registries: dict[str, RegistryClient] = {}
    environments = {asset.document.get("environment") for asset in submission.assets}
    for reference in submission.uses:
        where: WorkspaceClient | RegistryClient = client
        if found := _IN_REGISTRY.fullmatch(reference):
            where = registries.get(found[1]) or registries.setdefault(found[1], connect_registry(found[1]))
            kind, name, version = found[2], found[3], found[4]
        else:
            kind = "environment" if reference in environments else "data"
            name, _, version = reference.removeprefix("azureml:").rpartition(":")
        yield reference, _find(where, kind, name, version) is not None
    for name in submission.computes:
        yield name, _there(f"look up compute {name}", partial(client.ml.compute.get, name)) is not None


def _find(
    client: WorkspaceClient | RegistryClient, kind: str, name: str, version: str, registered: Sequence[str] = ()
) -> Any:
    """The version of an asset, or None."""
    operations = getattr(client.ml, _OPERATIONS[kind])
    return _there(f"look up {name}:{version} in {client.shown}", partial(operations.get, name, version), registered)


def _there(doing: str, get: Callable[[], Any], registered: Sequence[str] = ()) -> Any:
    try:
        with translated(doing, registered):
            return get()
    except WorkspaceRejected as error:
        if error.status == 404:
            return None
        raise


def _is_registered(client: WorkspaceClient | RegistryClient, asset: Asset, registered: Sequence[str] = ()) -> bool:
    found = _find(client, asset.kind, asset.name, asset.version, registered)
    if found is not None and (found.tags or {}).get("sha256") != asset.sha256:
        raise WorkspaceRejected(
            f"{client.shown} has {asset.name}:{asset.version} already, with other content (its tag `sha256` is not "
            f"{asset.sha256[:16]}…)\n  a version never changes: use another name or version",
            status=409,
            registered=registered,
        )
    return found is not None


def _create(
    client: WorkspaceClient | RegistryClient, asset: Asset, folder: Path, registered: Sequence[str] = ()
) -> bool:
    """Create a version; False where somebody else was quicker, with the same content."""
    from azure.core.exceptions import HttpResponseError

    with translated(f"register {asset.reference} in {client.shown}", registered):
        try:
            _send(client.ml, asset, folder)
        except HttpResponseError as error:
            if error.status_code not in (400, 409) or not _is_registered(client, asset, registered):
                raise
            return False
    return True


def _send(ml: Any, asset: Asset, folder: Path) -> None:
    from azure.ai.ml import load_component, load_data, load_environment

    load = {"data": load_data, "environment": load_environment, "component": load_component}[asset.kind]
    if asset.source is not None:
        shutil.copyfile(asset.source, folder / Path(str(asset.document["path"])).name)
    if asset.code and not (folder / "code").exists():
        write_snapshot(folder / "code")
    path = _written(asset.document, folder / f"{asset.kind}-{asset.name}.yml")
    with _quiet():
        getattr(ml, _OPERATIONS[asset.kind]).create_or_update(load(path))


def _written(document: JsonObject, path: Path) -> Path:
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the SDK's progress bars and blank lines."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
