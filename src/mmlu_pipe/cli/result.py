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
    from mmlu_pipe.errors import MmluPipeError

__all__ = ["tell_result"]


def tell_result(found: Run, *, title: str, as_json: bool, lost: MmluPipeError | None = None) -> int:
    """Print the score, or one JSON object, on stdout and what failed on stderr.

    Args:
        found: the run.
        title: above the score.
        as_json: one object instead.
        lost: what kept us from seeing the end of a run that goes on.

    Returns:
        The exit code.
    """
    from rich.console import Console

    from mmlu_pipe.cli.root import print_json
    from mmlu_pipe.reporting.console import print_score

    error = found.error or lost
    job = (_manifest(found).get("job") or {}).get("name")
    if as_json:
        print_json(_as_json(found, job, error))
    elif found.status == "running":
        sys.stdout.write(f"job           {job}\nrun folder    {found.run_dir}\n")
    elif found.score is not None:
        print_score(found.score, Console(), title=title, run_dir=found.run_dir, note=_whose_answers(found))
    _tell_failures(found)
    if error is None:
        return 0
    sys.stderr.write(f"error: {error}\n")
    if found.run_dir.exists():
        sys.stderr.write(f"  run folder: {found.run_dir}\n")
    if (found.run_dir / "ledger.jsonl").is_file():
        sys.stderr.write(f"  to go on, repeat the command with --output-dir {shlex.quote(str(found.run_dir))}\n")
    if found.status == "running":
        place = shlex.quote(str(found.run_dir))
        sys.stderr.write(f"  the job {job} stays as it is; to return to it: mmlu-pipe status|fetch|cancel {place}\n")
        return 1
    return error.exit_code


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


def _manifest(found: Run) -> dict[str, Any]:
    path = found.run_dir / "manifest.json"
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value


def _as_json(found: Run, job: str | None, error: MmluPipeError | None) -> dict[str, Any]:
    facts = _manifest(found).get("run", {})
    answered, failed = facts.get("answered"), facts.get("failed")
    return {
        "run_dir": str(found.run_dir) if found.run_dir.exists() else None,
        "status": found.status,
        "lines": None if answered is None else answered + failed,
        "answered": answered,
        "failed": failed,
        "score": None if found.score is None else found.score.to_json(),
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
    } | ({} if job is None else {"job": job})


def _whose_answers(found: Run) -> str:
    """A line about the model, from the manifest."""
    manifest = _manifest(found)
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
