"""What a person, or a script, is told of a run."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmlu_pipe.records import ERROR_KEY

if TYPE_CHECKING:
    from mmlu_pipe.backends.base import Run

__all__ = ["tell_result"]


def tell_result(found: Run, *, title: str, as_json: bool) -> int:
    """Print the score, or one JSON object, on stdout and what failed on stderr; returns the exit code."""
    from rich.console import Console

    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.reporting.console import print_score

    if as_json:
        print_json(_as_json(found))
    elif found.score is not None:
        print_score(found.score, Console(), title=title, run_dir=found.run_dir, note=_whose_answers(found))
    _tell_failures(found)
    if found.error is None:
        return 0
    sys.stderr.write(f"error: {found.error}\n")
    if found.run_dir.exists():
        sys.stderr.write(f"  run folder: {found.run_dir}\n")
    if (found.run_dir / "ledger.jsonl").is_file():
        sys.stderr.write(f"  to go on, repeat the command with --output-dir {shlex.quote(str(found.run_dir))}\n")
    return found.error.exit_code


def _tell_failures(found: Run) -> None:
    """A completed run may have failed lines; their reason belongs beside the score."""
    path = found.run_dir / "errors.jsonl"
    if found.error is not None or not found.score or not found.score.failed or not path.is_file():
        return
    with path.open(encoding="utf-8-sig") as handle:
        first = json.loads(handle.readline())[ERROR_KEY]
    lines = "1 line" if found.score.failed == 1 else f"{found.score.failed} lines"
    told = f"line {first['line_number']}: {first['error_type']}: {first['message']}"
    sys.stderr.write(f"{lines} failed, the first: {told}\n  all of them: {path}\n")


def _as_json(found: Run) -> dict[str, Any]:
    manifest = found.run_dir / "manifest.json"
    facts = json.loads(manifest.read_text(encoding="utf-8"))["run"] if manifest.is_file() else {}
    answered, failed = facts.get("answered"), facts.get("failed")
    return {
        "run_dir": str(found.run_dir) if found.run_dir.exists() else None,
        "status": found.status,
        "lines": None if answered is None else answered + failed,
        "answered": answered,
        "failed": failed,
        "score": None if found.score is None else found.score.to_json(),
        "error": None if found.error is None else {"type": type(found.error).__name__, "message": str(found.error)},
    }


def _whose_answers(found: Run) -> str:
    """A line about the model, from the manifest."""
    manifest = json.loads((found.run_dir / "manifest.json").read_text(encoding="utf-8"))
    facts, options = manifest["run"], manifest["options"]
    served = ", ".join(facts.get("served_models", {}))
    if not served:
        return "answers       none"
    source = "recorded answers of" if facts.get("endpoint_kind") == "recorded" else "live answers of"
    strategies = ", ".join(facts.get("strategies", {})) or "none"
    return f"answers       {source} {served}\nselect        by {strategies}{_unused(facts, options)}"


def _unused(facts: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Recordings that no line of a whole dataset asked for: it is not the one that was recorded."""
    found = facts.get("recordings") or {}
    if not found.get("unused") or options["limit"] or options["lines"]:
        return ""
    return f"\nrecordings    {found['used']} used, {found['unused']} not (the first: {found['first_unused'][0]})"
