"""The gate as a plugin: a backend that costs money takes only what was verified on recordings."""

from __future__ import annotations

from typing import Any

from mmlu_pipe.gate.record import check_verification
from mmlu_pipe.plugins import hookimpl

__all__ = ["before_submit"]


@hookimpl
def before_submit(plan: dict[str, Any]) -> list[str]:
    """Object to a run without a record of `verify` that holds, where the backend demands one."""
    if not plan["demands_verification"]:
        return []
    cassette = plan["cassette"]
    if cassette is None:
        return [
            f"the backend {plan['backend']!r} takes only what was verified: record some lines, verify them with "
            "mmlu-pipe verify, and name the recordings with --cassette DIR"
        ]
    return check_verification(
        cassette,
        plan["program"],
        plan["dataset"],
        plan["examples"],
        asked_with=plan["asked_with"],
        model=plan["model"],
    )
