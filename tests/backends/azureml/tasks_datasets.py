"""What the tests of datasets, blobs and publishing do in a fork."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from mmlu_pipe.backends.azureml.blobs import download_blob, find_blobs, open_blob
from mmlu_pipe.backends.azureml.client import WorkspaceClient, connect
from mmlu_pipe.backends.azureml.datasets import fetch_dataset, register_dataset
from mmlu_pipe.backends.azureml.workspace import WorkspaceConfig

FOLDER = "azureml://datastores/workspaceblobstore/paths/tests/folder"


def put(config: dict[str, str], path: str, **options: Any) -> list[Any]:
    """Register a file twice."""
    with connect(WorkspaceConfig(**config)) as client:
        return [register_dataset(client, Path(path), **options) for _ in range(2)]


def fetch(config: dict[str, str], spec: str, data_dir: str, times: int = 1) -> dict[str, Any]:
    """Fetch a dataset; the file, its text, how often the workspace was asked for, and what was said."""
    asked = 0
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    def reach() -> WorkspaceClient:
        nonlocal asked
        asked += 1
        return connect(WorkspaceConfig(**config))

    logger = logging.getLogger("mmlu_pipe.backends")
    logger.setLevel(logging.INFO)
    logger.addHandler(Listener())
    for _ in range(times):
        path = fetch_dataset(reach, spec, Path(data_dir))
    return {"path": str(path), "text": path.read_text(encoding="utf-8"), "asked": asked, "said": said}


def register_untagged(config: dict[str, str], name: str, tags: dict[str, str], kind: str = "uri_file") -> None:
    """Register a data asset by the SDK alone, as anybody might."""
    from azure.ai.ml.entities import Data

    with connect(WorkspaceConfig(**config)) as client, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.jsonl")
        path.write_text("{}\n", encoding="utf-8")
        source = str(path if kind == "uri_file" else folder)
        client.ml.data.create_or_update(Data(name=name, version="1", path=source, type=kind, tags=tags))


def blobs(config: dict[str, str], target: str) -> dict[str, Any]:
    """Write two blobs and a neighbour, list them, and bring one back."""
    with connect(WorkspaceConfig(**config)) as client:
        for name in ("folder/a.txt", "folder/deep/b.txt", "folder2/c.txt"):
            open_blob(client, f"{FOLDER.removesuffix('folder')}{name}").upload_blob(name.encode(), overwrite=True)
        download_blob(client, f"{FOLDER}/deep/b.txt", Path(target))
        return {"folder": find_blobs(client, f"{FOLDER}/"), "file": find_blobs(client, f"{FOLDER}/a.txt")}


def bring_blob(config: dict[str, str], uri: str, target: str, content: str | None = None, md5: bool = False) -> str:
    """Download a blob, which may be written first, with the MD5 of something else if asked."""
    from azure.storage.blob import ContentSettings

    with connect(WorkspaceConfig(**config)) as client:
        if content is not None:
            blob = open_blob(client, uri)
            blob.upload_blob(content.encode(), overwrite=True)
            if md5:
                blob.set_http_headers(ContentSettings(content_md5=bytearray(16)))
        download_blob(client, uri, Path(target))
    return Path(target).read_text(encoding="utf-8")


def publish(config: dict[str, str], arguments: list[str]) -> dict[str, Any]:
    """The command `publish`."""
    from click.testing import CliRunner

    from mmlu_pipe.cli.publish import publish as command

    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return {"output": result.output, "code": result.return_value}
