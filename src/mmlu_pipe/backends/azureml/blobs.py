"""Blobs behind `azureml://datastores/…`, for all three ways in which a datastore lets clients in."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.backends.azureml.client import WorkspaceClient
from mmlu_pipe.backends.azureml.failures import translated
from mmlu_pipe.backends.azureml.submission import output_uri
from mmlu_pipe.errors import DownloadFailed

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

__all__ = ["download_blob", "find_blobs", "open_blob", "probe_write"]

_URI = re.compile(r"azureml://(?:[^?#]*/)?datastores/([^/?#]+)/paths/([^?#]*)")
"""`azureml://datastores/NAME/paths/PATH`, also with the workspace's id before it."""


def open_blob(client: WorkspaceClient, uri: str) -> BlobClient:
    """The blob of a datastore URI; it need not exist.

    Raises:
        WorkspaceRejected: there is no such datastore, or it may not be read.
        WorkspaceUnavailable: the service cannot be reached.
        ValueError: the text is no such URI, or the datastore holds no blobs.
    """
    datastore, path = _parts(uri)
    with translated(f"open the datastore {datastore}"):
        return _container(client, datastore).get_blob_client(path)


def find_blobs(client: WorkspaceClient, uri: str) -> list[str]:
    """The URIs of all blobs at a place: that of the file itself, or of every file of the folder, in order of the names.

    Raises:
        WorkspaceRejected: there is no such datastore, or it may not be read.
        WorkspaceUnavailable: the service cannot be reached.
        ValueError: the text is no datastore URI, or the datastore holds no blobs.
    """
    datastore, path = _parts(uri)
    stem = path.rstrip("/")
    with translated(f"list {stem} in the datastore {datastore}"):
        found = _container(client, datastore).list_blobs(name_starts_with=stem, include=["metadata"])
        names = [blob.name for blob in found if (blob.metadata or {}).get("hdi_isfolder") != "true"]
    root = uri[: len(uri) - len(path)]
    return [f"{root}{name}" for name in names if name == stem or name.startswith(f"{stem}/")]


def download_blob(client: WorkspaceClient, uri: str, target: Path) -> None:
    """Bring a blob to a file: written aside, checked for size and, where the service has it, MD5, and renamed.

    Raises:
        DownloadFailed: there is no such blob, it did not arrive whole, or the file cannot be written.
        WorkspaceRejected: there is no such datastore, or it may not be read.
        WorkspaceUnavailable: the service cannot be reached.
        ValueError: the text is no datastore URI, or the datastore holds no blobs.
    """
    from azure.core.exceptions import ResourceNotFoundError

    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    blob = open_blob(client, uri)
    try:
        with translated(f"download {blob.blob_name}"), temporary.open("xb") as handle:
            try:
                stream = blob.download_blob()
            except ResourceNotFoundError as error:
                raise DownloadFailed(f"{blob.blob_name}: is not in the datastore", path=target) from error
            for chunk in stream.chunks():
                handle.write(chunk)
        _check(temporary, stream.properties, target)
        temporary.replace(target)
    except OSError as error:
        raise DownloadFailed(f"{target}: cannot be written ({error.strerror})", path=target) from error
    finally:
        temporary.unlink(missing_ok=True)


def probe_write(client: WorkspaceClient) -> None:
    """Write a byte to the workspace's storage: whoever cannot learns it in seconds, the SDK's upload takes minutes.

    Raises:
        WorkspaceRejected: the storage may not be written to.
        WorkspaceUnavailable: it cannot be reached.
    """
    blob = open_blob(client, output_uri("probe", "write", "probe.txt"))
    with translated("write to the workspace's storage"):
        blob.upload_blob(b".", overwrite=True)


def _parts(uri: str) -> tuple[str, str]:
    found = _URI.fullmatch(uri)
    if found is None:
        raise ValueError(f"{uri!r} is no datastore URI")
    return found[1], found[2]


def _container(client: WorkspaceClient, datastore: str) -> ContainerClient:
    """The container of a datastore, with its signature, its key, or else the person's own token."""
    from azure.core.exceptions import HttpResponseError
    from azure.storage.blob import BlobServiceClient, ExponentialRetry

    store = client.ml.datastores.get(datastore)
    container = getattr(store, "container_name", None) or getattr(store, "filesystem", None)  # the latter: ADLS Gen2's
    if container is None:
        raise ValueError(f"the datastore {datastore} is neither a blob container nor Data Lake Storage Gen2")
    credential: Any = client.credential
    if "None" not in type(store.credentials).__name__:
        try:
            # Public `get(include_secrets=True)` fails where the service gives a signature in place of the account key.
            given = client.ml.datastores._list_secrets(name=datastore, expirable_secret=True)
            credential = getattr(given, "sas_token", None) or getattr(given, "key", None) or credential
        except HttpResponseError as error:  # whoever may not see secrets may still have a role on the storage account
            if error.status_code not in (400, 403):
                raise
    service = BlobServiceClient(
        f"{store.protocol}://{store.account_name}.blob.{store.endpoint}",
        credential=credential,
        retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=4),
        connection_timeout=10,
        read_timeout=60,
    )
    return service.get_container_client(str(container))


def _check(file: Path, properties: Any, target: Path) -> None:
    if file.stat().st_size != properties.size:
        raise DownloadFailed(f"{target}: arrived with {file.stat().st_size} of {properties.size} bytes", path=target)
    expected = properties.content_settings.content_md5
    if expected:
        with file.open("rb") as handle:
            found = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False))
        if found.digest() != bytes(expected):
            raise DownloadFailed(f"{target}: its MD5 differs from the stored one; download it again", path=target)
