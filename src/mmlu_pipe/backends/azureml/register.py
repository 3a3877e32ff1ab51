"""Brings a submission into the workspace: what is there stays as it is, the rest is created, the job started."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.blobs import probe_write
from mmlu_pipe.backends.azureml.client import RegistryClient, WorkspaceClient, connect_registry
from mmlu_pipe.backends.azureml.failures import already, translated
from mmlu_pipe.backends.azureml.staging import changed, stage, written
from mmlu_pipe.backends.azureml.submission import Asset, BoundFile, Submission
from mmlu_pipe.errors import MmluPipeError, SubmissionBlocked, WorkspaceRejected

__all__ = ["Job", "Registered", "look_up", "refuse_changed_inputs", "register", "register_asset", "submit"]

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


def refuse_changed_inputs(submission: Submission, checked: Mapping[str, str]) -> None:
    """Refuse to send a file that was saved since it was checked.

    Args:
        submission: what is to be sent.
        checked: name of an input → hex SHA-256 of what was checked.

    Raises:
        SubmissionBlocked: naming the first of them.
    """
    for file in submission.files:
        if file.sha256 not in checked.values():
            raise changed(file.path)


def look_up(client: WorkspaceClient, submission: Submission) -> dict[str, bool]:
    """What of a submission is there: references of assets and of what it uses, and names of computes.

    Raises:
        WorkspaceRejected: a dataset that came from a workspace is there with other content, or may not be looked up.
        AuthenticationFailed, WorkspaceUnavailable: see `translated`.
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
        SubmissionBlocked: a file has changed, or one cannot be read or written.
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


def register_asset(
    client: WorkspaceClient | RegistryClient, asset: Asset, folder: Path, registered: Sequence[str] = ()
) -> bool:
    """Create one version, unless it is there with exactly this content.

    Args:
        client: the workspace or the registry.
        asset: the version.
        folder: its document, file and code are written to it.
        registered: references of what was registered before; told when it fails.

    Returns:
        Whether it was created.

    Raises:
        WorkspaceRejected: this version is there with other content.
        SubmissionBlocked: the file has changed, or one cannot be read or written.
        AuthenticationFailed, WorkspaceUnavailable: see `translated`.
    """
    if _is_registered(client, asset, registered):
        return False
    if isinstance(client, WorkspaceClient) and (asset.source or asset.code):
        probe_write(client)
    return _create(client, asset, folder, registered)


def submit(client: WorkspaceClient, submission: Submission, folder: Path) -> Job:
    """Start the job; all that it uses is registered.

    Raises:
        WorkspaceRejected: the service refuses it.
        SubmissionBlocked: its document cannot be written.
        AuthenticationFailed, WorkspaceUnavailable: see `translated`; it is certain then that no job was seen.
    """
    from azure.ai.ml import load_job

    references = [asset.reference for asset in submission.assets]
    path = written(submission.job, folder / "job.yml")
    try:
        with translated(f"submit job {submission.job_name} to {client.shown}", references), _quiet(), _no_repository():
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
    environments = {asset.document.get("environment") for asset in submission.assets}
    files = {file.reference: file for file in submission.files}
    registries: dict[str, RegistryClient] = {}
    with contextlib.ExitStack() as stack:
        for reference in submission.uses:
            where: WorkspaceClient | RegistryClient = client
            if named := _IN_REGISTRY.fullmatch(reference):
                registry, kind, name, version = named.groups()
                if registry not in registries:
                    registries[registry] = stack.enter_context(connect_registry(registry))
                where = registries[registry]
            else:
                kind = "environment" if reference in environments else "data"
                name, _, version = reference.removeprefix("azureml:").rpartition(":")
            found = _find(where, kind, name, version)
            if found is not None and reference in files:
                _refuse_other_content(client, files[reference], found)
            yield reference, found is not None
    for name in submission.computes:
        yield name, _there(f"look up compute {name}", partial(client.ml.compute.get, name)) is not None


def _refuse_other_content(client: WorkspaceClient, file: BoundFile, found: Any) -> None:
    """The job reads the workspace's file, whatever was checked here; without the tag, its facts tell in the end."""
    if (found.tags or {}).get("sha256", file.sha256) != file.sha256:
        raise WorkspaceRejected(
            f"{client.shown} has {file.reference} with other content than {file.path}, which has changed since it was "
            "fetched, or is of another workspace\n  move that file away and run the command again, which fetches it "
            "anew",
            status=409,
        )


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
        of_a_second = asset.version.isdecimal()  # the scheme `epoch`
        advice = "wait a second, and run the command again" if of_a_second else "use another name or version"
        raise WorkspaceRejected(
            f"{client.shown} has {asset.name}:{asset.version} already, with other content (its tag `sha256` is not "
            f"{asset.sha256[:16]}…)\n  a version never changes: {advice}",
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
        except SubmissionBlocked as error:
            error.args = (f"{error}{already(registered)}",)
            raise
        except HttpResponseError as error:
            if error.status_code not in (400, 409) or not _is_registered(client, asset, registered):
                raise
            return False
    return True


def _send(ml: Any, asset: Asset, folder: Path) -> None:
    from azure.ai.ml import load_component, load_data, load_environment

    load = {"data": load_data, "environment": load_environment, "component": load_component}[asset.kind]
    path = stage(asset, folder)
    with _quiet():
        getattr(ml, _OPERATIONS[asset.kind]).create_or_update(load(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the SDK's progress bars and blank lines."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _no_repository() -> Iterator[None]:
    """Without the repository of the working folder, which the SDK writes into a job: its address may hold a token."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(("GIT_DIR", "AZUREML_GIT_"))}
    os.environ["GIT_DIR"] = os.devnull
    try:
        yield
    finally:
        del os.environ["GIT_DIR"]
        os.environ.update(hidden)
