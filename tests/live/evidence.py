"""What was proven on the service: claim → passed, when, and with which versions. No names, no ids, no hosts."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["EVIDENCE", "Proof", "note", "read"]

EVIDENCE = Path(__file__).with_name("evidence.json")

_PACKAGES = ("mmlu-pipe", "azure-ai-ml", "azure-identity", "guidance", "openai")


@dataclass(frozen=True)
class Proof:
    """One claim that was put to the service.

    Attributes:
        passed: whether it held.
        date: day of the attempt, UTC.
        versions: package → version on the machine that asked.
    """

    passed: bool
    date: str
    versions: dict[str, str]


def read(path: Path = EVIDENCE) -> dict[str, Proof]:
    """Claim → the last attempt; empty until somebody has made one."""
    if not path.is_file():
        return {}
    return {claim: Proof(**told) for claim, told in json.loads(path.read_text(encoding="utf-8")).items()}


def note(outcomes: dict[str, bool], path: Path = EVIDENCE) -> None:
    """Write what was found out today over what was known of the same claims."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    found = read(path) | {claim: Proof(passed, today, versions) for claim, passed in outcomes.items()}
    told = {claim: asdict(proof) for claim, proof in sorted(found.items())}
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
