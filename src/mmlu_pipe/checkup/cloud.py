"""The workspace: read, its clusters and their identities, and a tiny blob written to its storage."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.client import WorkspaceClient, connect
from mmlu_pipe.backends.azureml.failures import translated
from mmlu_pipe.backends.azureml.submission import DATASTORE
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig
from mmlu_pipe.checkup.examination import ROLE, Finding
from mmlu_pipe.errors import WorkspaceRejected

__all__ = ["compute", "datastore", "identity_of", "storage", "workspace"]

_SERVERLESS = "serverless"
_CONTENT = b"written by mmlu-pipe doctor, to be deleted at once\n"

_KINDS = {"None": "no credential of its own: your login is used", "Sas": "a signature (SAS)", "Account": "account key"}
"""Beginning of the SDK's class of a datastore's credentials → how it lets clients in."""


def workspace(config: WorkspaceConfig) -> Finding:
    """Whether the workspace is there and may be read; the value is the client.

    Raises:
        MmluPipeError: it is not; see `connect`.
    """
    client = connect(config)
    with translated(f"read the {config.shown}"):
        found = client.ml.workspaces.get(config.workspace_name)
    return Finding(f"{config.workspace_name} in {found.location}", value=client)


def compute(client: WorkspaceClient, name: str, key: str, file: Path) -> Finding:
    """Whether a cluster is there and usable; the value is the SDK's entity, or `serverless`.

    Raises:
        MmluPipeError: it cannot be read.
    """
    if name == _SERVERLESS:
        return Finding("serverless: needs no cluster", value=_SERVERLESS)
    try:
        with translated(f"look up the compute {name}"):
            found = client.ml.compute.get(name)
    except WorkspaceRejected as error:
        if error.status != 404:
            raise
        there = ", ".join([*_computes(client), _SERVERLESS])
        return Finding(f"there is no compute {name}", f'set "{key}" in {file} to one of: {there}', "failed")
    given = getattr(found, "provisioning_state", None) or "state unknown"
    state = str(getattr(given, "value", given))  # a text or an enumeration, by version of the SDK
    size, least, most = (getattr(found, part, None) for part in ("size", "min_instances", "max_instances"))
    told = [str(size or found.type)]
    if most is not None:
        told.append(f"{least} to {most} nodes")
    shown = f"{name}: {', '.join(told)}, {state}"
    if state.lower() == "failed":
        return Finding(shown, f"mend the compute in the studio, or name another one as {key!r} in {file}", "failed")
    if state.lower() not in ("succeeded", "state unknown"):
        return Finding(shown, "it is being changed: a job waits until it is ready", "warning", value=found)
    advice = "no node runs while it is idle: the first step waits some minutes for one" if least == 0 else None
    return Finding(shown, advice, value=found)


def identity_of(cluster: Any, identity: str, name: str) -> Finding:
    """Whether the asking step can be who `--identity` says it is, as far as that can be read."""
    role = f"it needs the role {ROLE!r} on the resource of aoai_endpoint, which cannot be read from here"
    if identity == "user":
        return Finding("--identity user: the job asks on your behalf", f"for you: {role}")
    if cluster == _SERVERLESS:
        return Finding("serverless: its identities cannot be read from here", role, "skipped")
    own = getattr(cluster, "identity", None)
    assigned = list(getattr(own, "user_assigned_identities", None) or [])
    kind = str(getattr(own, "type", None) or "none").lower()
    if identity == "managed":
        if kind == "none" and not assigned:
            return Finding(
                f"{name} has no managed identity, and --identity managed asks as one",
                f"in the studio, give {name} a managed identity, and that the role {ROLE!r} on the resource of "
                "aoai_endpoint; or use --identity user",
                "failed",
            )
        named = f"{len(assigned)} user-assigned" if assigned else "system-assigned"
        return Finding(f"{name} has a managed identity ({named})", role)
    shown, known = f"…{identity[-4:]}", [client_id for each in assigned if (client_id := _client_id(each))]
    if identity.lower() in known:
        return Finding(f"{shown} is among the user-assigned identities of {name}", role)
    if len(known) < len(assigned):
        return Finding(f"{name} has user-assigned identities whose client ids cannot be read", role, "warning")
    tails = ", ".join(f"…{client_id[-4:]}" for client_id in known) or "none"
    advice = f"assign it to {name} in the studio, or give --identity one of those that are: {tails}"
    return Finding(f"{shown} is not among the user-assigned identities of {name}", advice, "failed")


def datastore(client: WorkspaceClient) -> Finding:
    """How the default datastore lets clients in.

    Raises:
        MmluPipeError: it cannot be read.
    """
    with translated(f"read the datastore {DATASTORE}"):
        found = client.ml.datastores.get(DATASTORE)
    given = type(found.credentials).__name__
    kind = next((shown for start, shown in _KINDS.items() if given.startswith(start)), given)
    return Finding(f"{DATASTORE}, {kind}")


def storage(client: WorkspaceClient) -> Finding:
    """Whether a tiny blob can be written, read back and deleted where jobs leave their outputs.

    Raises:
        MmluPipeError: it cannot be written or read; it names the role.
    """
    from azure.core.exceptions import AzureError

    from mmlu_pipe.backends.azureml.blobs import open_blob

    uri = f"azureml://datastores/{DATASTORE}/paths/mmlu_pipe/doctor/{secrets.token_hex(8)}.txt"
    blob = open_blob(client, uri)
    with contextlib.closing(blob), translated(f"write a blob to {DATASTORE}"):
        blob.upload_blob(_CONTENT)
        same = blob.download_blob().readall() == _CONTENT
        try:
            blob.delete_blob()
        except AzureError:
            advice = f"nothing is deleted in a run; the one tiny file left is {blob.blob_name}"
            return Finding("a blob can be written and read, but not deleted", advice, "warning")
    if not same:
        return Finding("a blob came back other than it was written", "something between changes content", "failed")
    return Finding("a blob was written, read back and deleted")


def _client_id(assigned: Any) -> str:
    """Of a user-assigned identity; azure-ai-ml 1.35 leaves it under the service's name of it."""
    return str(assigned.client_id or vars(assigned).get("clientId") or "").lower()


def _computes(client: WorkspaceClient) -> list[str]:
    with translated("list the computes"):
        return sorted(str(each.name) for each in client.ml.compute.list())
