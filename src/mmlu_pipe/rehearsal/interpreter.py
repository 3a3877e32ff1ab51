"""The Python of a job's steps: a virtual environment in the user's cache with the pins of a job and nothing else."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmlu_pipe.errors import BackendError
from mmlu_pipe.rehearsal.node import INSTALL_COMMAND, cache_folder

__all__ = ["installed_interpreter", "job_interpreter"]

_INSTALL_TIMEOUT_S = 1800


def installed_interpreter(requirements: Path) -> Path | None:
    """The interpreter that has exactly these pins, or None where it is not installed."""
    python = _home(requirements) / "bin" / "python"
    return python if python.is_file() else None


def job_interpreter(requirements: Path) -> Path:
    """Install the pins with pip, unless they are there; the environment is made beside and moved when it is whole.

    Args:
        requirements: a file for `pip install -r`.

    Returns:
        The path of the interpreter.

    Raises:
        BackendError: pip failed; the message has its last words.
        OSError: the cache cannot be written.
    """
    home = _home(requirements)
    home.parent.mkdir(parents=True, exist_ok=True)
    with _locked(home.with_name(f"{home.name}.lock")):
        if python := installed_interpreter(requirements):
            return python
        with tempfile.TemporaryDirectory(dir=home.parent, prefix="job-install-") as folder:
            whole = Path(folder, "whole")
            _run([sys.executable, "-m", "venv", str(whole)])
            pip = [str(whole / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
            _run([*pip, "--quiet", "-r", str(requirements)])
            shutil.rmtree(home, ignore_errors=True)  # left without its interpreter: the Python it was made of is gone
            whole.rename(home)
    return home / "bin" / "python"


def _home(requirements: Path) -> Path:
    """The folder of these very pins under this version of Python."""
    version = ".".join(map(str, sys.version_info[:2]))
    digest = hashlib.sha256(version.encode() + requirements.read_bytes()).hexdigest()[:12]
    return cache_folder() / f"job-{digest}"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - Python and pip, with arguments of our own
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(
            f"the packages of a job could not be installed: {error}; repeat with: {INSTALL_COMMAND}"
        ) from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise BackendError(
            f"the packages of a job could not be installed (exit code {done.returncode}): {words}\n"
            f"  Is the package index reachable? Repeat with: {INSTALL_COMMAND}"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock ends with the process, its empty file stays."""
    import fcntl  # a rehearsal needs bash, so this is no Windows

    with path.open("a") as handle:  # noqa: PLW1514 - nothing is written
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
