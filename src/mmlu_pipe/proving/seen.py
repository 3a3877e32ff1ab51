"""What was seen of a rehearsal: requests, blobs, steps and files, to be looked at afterwards."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmlu_pipe.proving.subject import Subject
    from mmlu_pipe.recording.server import ReplayServer
    from mmlu_pipe.records import JsonObject
    from mmlu_pipe.rehearsal import Azurite, Recorded, Run, Twin

__all__ = ["ASSETS", "NotSeen", "Seen", "kind_of", "kinds_of", "was_put"]

ASSETS = ("data", "codes", "environments", "components")
"""What has versions, as paths spell it."""

_VERSION = re.compile(rf"({'|'.join(ASSETS)})/\*/versions/\*")


class NotSeen(Exception):
    """The story ended before."""


@dataclass
class Seen:
    """Everything that is there to look at.

    Attributes:
        subject: what is rehearsed.
        folder: of the rehearsal.
        canary: the key in the environment of whoever submits.
        verification: what `verify` found.
        interpreter: the Python of the steps.
        storage: the blobs.
        door: the deployment.
        twin: the workspace.
        first: how many requests the first submission took; None before it has ended.
        asked: what the deployment counted in it, as `ReplayServer` does; None before it has ended.
        read: URI → what was read there.
    """

    subject: Subject
    folder: Path
    canary: str
    verification: JsonObject | None = None
    interpreter: Path | None = None
    storage: Azurite | None = None
    door: ReplayServer | None = None
    twin: Twin | None = None
    first: int | None = None
    asked: Counter[str] | None = None
    read: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def local(self) -> Path:
        """The run folder of the run on this machine."""
        return self.folder / "local"

    @property
    def job(self) -> Path:
        """The run folder of the submission."""
        return self.folder / "job"

    @property
    def workspace_config(self) -> Path:
        """The twin's `config.json`."""
        return self.folder / "config.json"

    def requests(self) -> list[Recorded]:
        """Those that the twin answered."""
        if self.twin is None:
            raise NotSeen
        return list(self.twin.requests)

    def sent(self, route: str) -> list[Recorded]:
        """What was put there by the first submission, or what came of it."""
        found = [kept for kept in self.requests()[: self.first] if was_put(kept) and kept.route == route]
        if not found:
            raise NotSeen
        return found

    def job_body(self) -> JsonObject:
        """The properties of the submitted job."""
        body: JsonObject = self.sent("jobs/*")[0].body["properties"]
        return body

    def jobs(self) -> list[Run]:
        """Every job that was submitted."""
        names = [kept.path.rpartition("/")[2] for kept in self.requests() if was_put(kept) and kept.route == "jobs/*"]
        assert self.twin is not None
        return [self.twin.job(name) for name in names]

    def steps(self) -> dict[str, Run]:
        """The steps of the first job, by name."""
        jobs = self.jobs()
        if not jobs:
            raise NotSeen
        return {step.display_name: step for step in jobs[0].children}

    def blobs(self, uri: str) -> dict[str, bytes]:
        """Path → content of everything at a URI."""
        from mmlu_pipe.rehearsal.datastores import Stores

        if self.twin is None or self.storage is None:
            raise NotSeen
        if uri not in self.read:
            stores = Stores(self.twin.workspace, self.storage)
            with tempfile.TemporaryDirectory() as temporary, suppress(FileNotFoundError):
                self.read[uri] = {
                    path.relative_to(temporary).as_posix(): path.read_bytes()
                    for path in stores.read(stores.place(uri), Path(temporary))
                }
        return self.read.get(uri, {})

    def step_logs(self) -> dict[str, bytes]:
        """Name of a step → what it said."""
        from mmlu_pipe.rehearsal.workspace import ARTIFACT_STORE

        assert self.twin is not None
        assert self.storage is not None
        container = self.twin.workspace.containers[ARTIFACT_STORE]
        try:
            steps = self.steps()
        except NotSeen:
            return {}
        return {
            name: b"".join(self.storage.get(container, blob) for blob in step.logs.values())
            for name, step in steps.items()
        }


def kinds_of(requests: Iterable[Recorded]) -> dict[str, int]:
    """Kind of request → how many there were, in words for people."""
    return dict(Counter(kind_of(kept) for kept in requests).most_common())


def was_put(kept: Recorded) -> bool:
    """Whether a request put something there."""
    return kept.method == "PUT" and kept.status in (200, 201)


def kind_of(kept: Recorded) -> str:
    """Method and kind, such as `PUT data`."""
    if found := _VERSION.fullmatch(kept.route):
        return f"{kept.method} {found[1]}"
    named = {"jobs/*": "jobs", "blob/*/*": "blobs", "blob/*": "blobs"}.get(kept.route)
    if named is None:
        named = "tokens" if re.search(r"token|^msi/|^obo/", kept.route) else "others"
    if kept.route.startswith("mlflow/"):
        named = "mlflow"
    return f"{kept.method} {named}"
