"""Azurite, Microsoft's emulator of Azure Storage, as a process on loopback with a key of its own, and a way into it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import queue
import re
import secrets
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from mmlu_pipe.errors import BackendError
from mmlu_pipe.rehearsal.certificates import Authority
from mmlu_pipe.rehearsal.node import AZURITE_FILES, install_azurite, node

__all__ = ["BLOB_HOST", "Azurite", "BlobMissing"]

ACCOUNT = "mmlupiperehearsal"
BLOB_HOST = f"{ACCOUNT}.blob.core.windows.net"

_VERSION = "2021-12-02"
_START_TIMEOUT_S = 60
_LISTENING = re.compile(r"listens on https://127\.0\.0\.1:(\d+)")


class BlobMissing(Exception):
    """There is no blob or container of that name."""


class Azurite:
    """Blob storage in memory, on a free port of loopback; what it holds ends with it.

    The process ends with this object, and also when the process that made this object dies.

    Raises:
        BackendNotInstalled: there is no Node.js.
        BackendError: Azurite cannot be installed or does not start.
    """

    def __init__(self) -> None:
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        authority = Authority()
        self._context = authority.client_context()
        self._context.check_hostname = False  # it is addressed as 127.0.0.1, and answers as the account's host
        with tempfile.TemporaryDirectory(prefix="azurite-") as folder:
            certificate, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
            authority.write_server_pair([BLOB_HOST], certificate, key)
            self._process = subprocess.Popen(  # noqa: S603 - Azurite, with arguments of our own
                [
                    *(node(), "--require", str(AZURITE_FILES / "end_with_stdin.js"), str(install_azurite())),
                    *("--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"),
                    *("--skipApiVersionCheck", "--oauth", "basic", "--cert", str(certificate), "--key", str(key)),
                ],
                env={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.key}", "PATH": os.environ.get("PATH", "")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
            try:
                self.port = self._wait_until_it_listens()
            except BaseException:
                self.stop()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process."""
        process = self._process
        if process.stdin and not process.stdin.closed:
            process.stdin.close()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def _wait_until_it_listens(self) -> int:
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert self._process.stdout is not None
            try:
                for line in self._process.stdout:
                    lines.put(line)  # read to the end, so that it never waits for a reader
            except ValueError:
                pass  # closed by stop()
            lines.put("")

        threading.Thread(target=read, name="azurite-output", daemon=True).start()
        deadline, said = time.monotonic() + _START_TIMEOUT_S, ""
        while True:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = ""
            said += line
            if found := _LISTENING.search(line):
                return int(found[1])
            if not line:
                raise BackendError(f"the blob storage of the rehearsal (Azurite) did not start: {said.strip()[-600:]}")

    # Signatures

    def _sign(self, *lines: str) -> str:
        digest = hmac.new(base64.b64decode(self.key), "\n".join(lines).encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()

    def container_sas(self, container: str, permissions: str = "racwdl", valid_s: int = 86400) -> str:
        """A service SAS of one container, as a query string.

        String to sign: Microsoft Learn, "Create a service SAS", version 2020-12-06 and later.
        """
        end = _utc(valid_s)
        resource = f"/blob/{ACCOUNT}/{container}"
        signature = self._sign(permissions, "", end, resource, "", "", "https", _VERSION, "c", *[""] * 7)
        parts = {"sp": permissions, "se": end, "spr": "https", "sv": _VERSION, "sr": "c", "sig": signature}
        return urlencode(parts, quote_via=quote)

    def _account_sas(self) -> str:
        """The twin's own way in. String to sign: Microsoft Learn, "Create an account SAS", the same versions."""
        end, permissions = _utc(3600), "rwdlac"
        signature = self._sign(ACCOUNT, permissions, "b", "sco", "", end, "", "https", _VERSION, "", "")
        parts = {"sp": permissions, "ss": "b", "srt": "sco", "se": end, "spr": "https", "sv": _VERSION}
        return urlencode(parts | {"sig": signature}, quote_via=quote)

    # The twin's own requests

    def connect(self) -> http.client.HTTPSConnection:
        """A new connection; requests on it must name `BLOB_HOST` as their host."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self._context, timeout=120)

    def _request(
        self, method: str, path: str, query: Mapping[str, str], body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        target = f"/{quote(path)}?{urlencode(dict(query))}&{self._account_sas()}"
        connection = self.connect()
        try:
            connection.request(method, target, body, {"Host": BLOB_HOST, "x-ms-version": _VERSION, **headers})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status == 404:
            raise BlobMissing(path)
        if response.status not in (200, 201, 202, 409):
            raise BackendError(f"Azurite: {method} {path}: {response.status} {content[:300]!r}")
        return response.status, content

    def create_container(self, name: str) -> None:
        """Create a container; one that is there is left as it is."""
        self._request("PUT", name, {"restype": "container"})

    def put(self, container: str, name: str, content: bytes) -> None:
        """Write a blob, over an older one."""
        self._request("PUT", f"{container}/{name}", {}, content, **{"x-ms-blob-type": "BlockBlob"})

    def get(self, container: str, name: str) -> bytes:
        """Read a blob.

        Raises:
            BlobMissing: there is none.
        """
        return self._request("GET", f"{container}/{name}", {})[1]

    def names(self, container: str, prefix: str = "") -> Iterator[str]:
        """The names of all blobs under a prefix, in order.

        Raises:
            BlobMissing: there is no such container.
        """
        marker: str | None = ""
        while marker is not None:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            page = ET.fromstring(self._request("GET", container, query)[1].decode("utf-8-sig"))  # noqa: S314
            yield from (element.text or "" for element in page.findall("./Blobs/Blob/Name"))
            marker = page.findtext("NextMarker") or None


def _utc(from_now_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + from_now_s))
