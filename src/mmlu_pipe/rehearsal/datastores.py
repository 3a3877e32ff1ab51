"""Datastore URIs, and how files go between a step's disk and blob storage."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from mmlu_pipe.rehearsal.storage import BLOB_HOST, Azurite
from mmlu_pipe.rehearsal.workspace import Workspace

__all__ = ["Place", "Stores"]

_DATASTORE = re.compile(r"azureml://(?:subscriptions/[^/]+/resource[gG]roups/[^/]+/(?:[^/]+/)*?)?datastores/([^/]+)/")
_BLOB = re.compile(rf"https://{re.escape(BLOB_HOST)}(?::443)?/([^/?]+)/?([^?]*)")


@dataclass(frozen=True)
class Place:
    """Blobs under one prefix."""

    container: str
    prefix: str


class Stores:
    """The datastores of a workspace, as a step sees them."""

    def __init__(self, workspace: Workspace, storage: Azurite) -> None:
        self._workspace, self.storage = workspace, storage
        for container in workspace.containers.values():
            storage.create_container(container)

    def place(self, uri: str) -> Place:
        """Where a URI points.

        Raises:
            FileNotFoundError: to no datastore of this workspace.
        """
        if found := _BLOB.fullmatch(uri):
            return Place(found[1], found[2])
        found = _DATASTORE.match(uri)
        container = self._workspace.containers.get(found[1]) if found else None
        if found is None or container is None:
            raise FileNotFoundError(f"{uri} is in no datastore of the workspace")
        return Place(container, uri[found.end() :].removeprefix("paths/"))

    def read(self, place: Place, folder: Path) -> list[Path]:
        """Copy all blobs of a place into a folder: one blob under its own name, more under their paths.

        Raises:
            FileNotFoundError: there is no blob.
        """
        written = []
        under = place.prefix if not place.prefix or place.prefix.endswith("/") else place.prefix + "/"
        for name in self.storage.names(place.container, place.prefix):
            if name == place.prefix:
                target = folder / Path(name).name
            elif name.startswith(under):
                target = folder / name.removeprefix(under)
            else:
                continue  # a neighbour whose name begins alike
            if not target.resolve().is_relative_to(folder.resolve()):
                raise FileNotFoundError(f"the blob {name!r} would leave its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.storage.get(place.container, name))
            written.append(target)
        if not written:
            raise FileNotFoundError(f"there is nothing at {place.container}/{place.prefix}")
        return written

    def write(self, source: Path, place: Place) -> None:
        """Copy a file, or all files of a folder, to a place."""
        if source.is_file():
            self.storage.put(place.container, place.prefix.rstrip("/"), source.read_bytes())
            return
        for path in sorted(source.rglob("*")):
            if path.is_file():
                name = f"{place.prefix.rstrip('/')}/{path.relative_to(source).as_posix()}"
                self.storage.put(place.container, name, path.read_bytes())

    def restore(self, place: Place, target: Path, *, is_file: bool) -> None:
        """Bring back what was written, if anything was, where a step expects it."""
        folder = target.with_name(f"{target.name}.restored")
        try:
            found = self.read(place, folder)
        except FileNotFoundError:
            return
        if is_file:
            found[0].replace(target)
            shutil.rmtree(folder)
        else:
            shutil.rmtree(target, ignore_errors=True)
            folder.replace(target)
