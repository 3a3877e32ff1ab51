"""The commands of a rehearsal, each in a process of its own with nothing that leads elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mmlu_pipe.records import JsonObject

__all__ = ["StageFailed", "run_command"]

_ELSEWHERE = (
    *("AZURE", "ARM_", "IDENTITY_", "IMDS_", "MSI_", "OBO_", "DEFAULT_IDENTITY_", "OPENAI_", "MLFLOW_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_"),
)
"""How variables begin, in any case, that would lead a client to another workspace, login, proxy or authority."""

_TOLD_LINES = 12


class StageFailed(Exception):
    """A stage did not reach its end; the message is what the command said."""


def run_command(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> JsonObject:
    """Run `mmlu-pipe … --json` in a fresh process and return its object.

    Args:
        arguments: of the command.
        log: a new file for what it says on stderr; its folder is the working folder.
        environment: further variables.

    Raises:
        StageFailed: it did not end with exit code 0.
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_ELSEWHERE)}
    # Files for the moment lie beside the log, so that nothing stays of a process that is stopped at once.
    with log.open("wb") as errors, tempfile.TemporaryDirectory(dir=log.parent, prefix="tmp-") as temporary:
        ended = subprocess.run(  # noqa: S603 - this package's own commands
            [sys.executable, "-m", "mmlu_pipe", *arguments, "--json"],
            cwd=log.parent,
            env={**kept, "TMPDIR": temporary, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
    found: JsonObject = {}
    with suppress(ValueError):
        found = json.loads(ended.stdout)
    if ended.returncode:
        raise StageFailed(_told(found, log) or f"exit code {ended.returncode}")
    return found


def _told(found: JsonObject, log: Path) -> str:
    """The command's own error, what `verify` found, or else the end of the log."""
    error = found.get("error")
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])
    misses = [f"line {miss['line_number']}: {miss['difference']}" for miss in found.get("first_misses") or ()]
    problems = [f"line {problem['first_line']}: {problem['told']}" for problem in found.get("problems") or ()]
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join([*problems, *misses] or lines[-_TOLD_LINES:])
