"""A Hugging Face hub on loopback: one or more small dataset repositories, at one commit each.

It speaks what `huggingface_hub` and `datasets` ask of the public hub when they read a dataset: repository information,
the tree, `paths-info` and `resolve`, with the headers and error codes by which the client tells a missing repository,
revision or file and a gated repository apart. Every request is kept in `requests`.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

SPLITS = ("test", "validation", "dev")


@dataclass
class Repository:
    """The files of a dataset repository at `commit`; `refs` are other names of that commit."""

    commit: str
    files: dict[str, bytes]
    refs: tuple[str, ...] = ("main",)
    gated: bool = False

    def knows(self, revision: str) -> bool:
        return revision == self.commit or revision in self.refs


def mmlu_repository(
    configs: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    *,
    commit: str,
    gated: bool = False,
    labelled: bool = True,
) -> Repository:
    """A repository in the layout of `cais/mmlu`: config → split → rows of subject, question, choices and answer.

    The answer is declared as a label A to D, or as a plain integer where it is not `labelled`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    schema = pa.schema(
        {"question": pa.string(), "subject": pa.string(), "choices": pa.list_(pa.string()), "answer": pa.int64()}
    )
    labels = {"class_label": {"names": {"0": "A", "1": "B", "2": "C", "3": "D"}}}
    features = [
        {"name": "question", "dtype": "string"},
        {"name": "subject", "dtype": "string"},
        {"name": "choices", "sequence": "string"},
        {"name": "answer", "dtype": labels if labelled else "int64"},
    ]
    files: dict[str, bytes] = {}
    infos, card_configs = [], []
    for config, splits in configs.items():
        split_infos, data_files = [], []
        for split, rows in splits.items():
            columns = {name: [row[name] for row in rows] for name in schema.names}
            sink = io.BytesIO()
            pq.write_table(pa.table(columns, schema=schema), sink)
            files[f"{config}/{split}-00000-of-00001.parquet"] = sink.getvalue()
            split_infos.append({"name": split, "num_bytes": len(sink.getvalue()), "num_examples": len(rows)})
            data_files.append({"split": split, "path": f"{config}/{split}-*"})
        infos.append({"config_name": config, "features": features, "splits": split_infos})
        card_configs.append({"config_name": config, "data_files": data_files})
    card = yaml.safe_dump({"dataset_info": infos, "configs": card_configs}, sort_keys=False)
    files["README.md"] = f"---\n{card}---\n# Invented questions\n".encode()
    return Repository(commit=commit, files=files, gated=gated)


@dataclass
class LoopbackHub:
    """The server; use it as a context manager, and give its `url` to the client as `HF_ENDPOINT`."""

    repositories: dict[str, Repository]
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        hub = self

        class Handler(_Handler):
            repositories = hub.repositories
            requests = hub.requests

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: dict[str, Repository]
    requests: list[tuple[str, str]]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.requests.append((self.command, path))
        api = path.startswith("/api/datasets/")
        parts = path.removeprefix("/api").removeprefix("/datasets/").split("/")
        repository_id, rest = "/".join(parts[:2]), parts[2:]
        repository = self.repositories.get(repository_id)
        if repository is None:
            # The public hub answers 401 rather than 404 to those it does not know.
            return self._error(401, "RepoNotFound", "Invalid username or password.")
        revision = rest[1] if len(rest) > 1 else "main"
        if not repository.knows(revision):
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if repository.gated and not (api and rest[:1] in ([], ["revision"])):
            return self._error(403, "GatedRepo", f"Access to dataset {repository_id} is restricted.")
        kind = rest[0] if rest else "revision"
        if api and kind == "revision":
            return self._json(
                {
                    "id": repository_id,
                    "sha": repository.commit,
                    "private": False,
                    "gated": "manual" if repository.gated else False,
                    "tags": [],
                    "siblings": [{"rfilename": name} for name in repository.files],
                }
            )
        if api and kind == "tree":
            folder = "/".join(rest[2:])
            return self._tree(repository, folder, recursive="recursive=true" in self.path.lower())
        if api and kind == "paths-info":
            wanted = json.loads(body)["paths"]
            entries = _entries(repository)
            return self._json([entries[name.strip("/")] for name in wanted if name.strip("/") in entries])
        if kind == "resolve":
            return self._file(repository, "/".join(rest[2:]))
        return self._error(404, "EntryNotFound", "Not Found")

    def _tree(self, repository: Repository, folder: str, *, recursive: bool) -> None:
        entries = _entries(repository)
        if folder and entries.get(folder, {}).get("type") != "directory":
            return self._error(404, "EntryNotFound", f"{folder} does not exist")
        inside = [
            entry
            for name, entry in entries.items()
            if (not folder or name.startswith(f"{folder}/"))
            and (recursive or "/" not in name.removeprefix(f"{folder}/" if folder else ""))
        ]
        return self._json(inside)

    def _file(self, repository: Repository, name: str) -> None:
        content = repository.files.get(name)
        commit = {"X-Repo-Commit": repository.commit}
        if content is None:
            return self._error(404, "EntryNotFound", "Entry not found", commit)
        headers = commit | {"ETag": f'"{_blob_id(content)}"', "Accept-Ranges": "bytes"}
        return self._send(200, content, "application/octet-stream", headers)

    def _error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        self._send(
            status, body, "application/json", {"X-Error-Code": code, "X-Error-Message": message} | dict(headers or {})
        )

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), "application/json", {})

    def _send(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _entries(repository: Repository) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name, content in repository.files.items():
        for end in (index for index, letter in enumerate(name) if letter == "/"):
            entries[name[:end]] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": name[:end]}
        entries[name] = {"type": "file", "oid": _blob_id(content), "size": len(content), "path": name}
    return entries
