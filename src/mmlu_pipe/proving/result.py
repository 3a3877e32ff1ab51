"""What a rehearsal has shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mmlu_pipe.records import JsonObject

__all__ = ["ONLY_THE_SERVICE", "Proof", "Rehearsal", "Stage"]

ONLY_THE_SERVICE: Mapping[str, str] = {
    "image": "that the environment's image builds there",
    "roles": "that the identity may ask the deployment, and you may submit",
    "network": "that the clusters reach the endpoint and the storage",
    "names": "that workspace, clusters and deployment exist under these names",
    "quota": "cores for the clusters, tokens a minute for the deployment",
    "time": "how long a cluster takes to start",
}
"""What no rehearsal can prove."""


@dataclass(frozen=True)
class Stage:
    """One stage of the story.

    Attributes:
        name: short.
        seconds: how long it took.
        error: why it failed, None where it did not.
    """

    name: str
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Proof:
    """One thing that a rehearsal may prove.

    Attributes:
        name: short.
        holds: whether it was seen to hold; None where the story ended before.
        told: what was seen.
    """

    name: str
    holds: bool | None
    told: str


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal that has ended.

    Attributes:
        experiment: the experiment of the job, by the dataset's name.
        model: whose recorded answers were given.
        credential_kind: how the datastores let clients in.
        stages: in order, up to the first that failed.
        proofs: everything that was to be proven.
        requests: kind of request → how many there were.
        kept: where everything lies for reading; None where nothing was kept.
    """

    experiment: str
    model: str
    credential_kind: str
    stages: tuple[Stage, ...]
    proofs: tuple[Proof, ...]
    requests: Mapping[str, int]
    kept: Path | None

    @property
    def passed(self) -> bool:
        """Whether everything was proven."""
        return all(proof.holds for proof in self.proofs) and not any(stage.error for stage in self.stages)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return round(sum(stage.seconds for stage in self.stages), 3)

    def to_json(self) -> JsonObject:
        """All of it as JSON values."""
        more = {"passed": self.passed, "seconds": self.seconds, "only_the_service": dict(ONLY_THE_SERVICE)}
        return asdict(self) | more | {"kept": None if self.kept is None else str(self.kept)}
