"""`manifest.json`: what a run was, so that it can be told apart and repeated; no host, no deployment, no secret."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmlu_pipe import __version__
from mmlu_pipe.config import FREE_OPTIONS, IDENTITIES, RunConfig
from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.hashing import salted, sha256_file, sha256_folder
from mmlu_pipe.records import Endpoint, JsonObject
from mmlu_pipe.runfolder import refuse_another_run, unwritable

__all__ = ["Manifest", "deployment_digest"]

_FORMAT = 2
_INPUT_FACTS = {"dataset": "dataset", "guidance_program": "program", "examples": "examples"}
_PACKAGES = ("guidance", "openai", "vcrpy", "azure-identity")


class Manifest:
    """The manifest of one run, written when it begins or goes on, and again when it ends.

    Args:
        path: where it is kept; one that is there is of the run that goes on.
        config: the options.
        inputs: name → input file or folder of recordings.
        endpoint: the deployment; only its model and version are told, the rest as a salted digest.

    Raises:
        RunFolderError: the one that is there is of another run, saying what differs, or cannot be read.
    """

    def __init__(self, path: Path, config: RunConfig, inputs: Mapping[str, Path], endpoint: Endpoint | None) -> None:
        self._path = path
        self._previous = _read(path)
        salt = str(self._previous.get("salt") or secrets.token_hex(8))
        self._value: JsonObject = {
            "format": _FORMAT,
            "status": "running",
            "started": self._previous.get("started") or _now(),
            "finished": None,
            "options": _options(config),
            "inputs": {name: _described(source) for name, source in inputs.items()},
            "salt": salt,
            "endpoint": endpoint and deployment_digest(endpoint, salt),
            "outputs": {},
            "versions": {"python": platform.python_version(), "mmlu-pipe": __version__}
            | {name: importlib.metadata.version(name) for name in _PACKAGES},
            "run": {},
            "error": None,
        }
        if self._previous:
            self._value |= {name: self._previous[name] for name in ("job",) if name in self._previous}
            refuse_another_run(path.parent, _deciding(self._previous), _deciding(self._value))

    @property
    def nothing_left(self) -> bool:
        """Whether the run has ended, and nothing of it is to be done again."""
        again = self._value["options"]["retry_errors"] and self._previous.get("run", {}).get("failed")
        return self._previous.get("status") == "completed" and not again

    def refuse_changed(self, outputs: list[Path]) -> None:
        """Refuse a run that has ended and whose files are not as it left them.

        Raises:
            RunFolderError: naming the file.
        """
        for path in outputs:
            if not path.is_file() or sha256_file(path) != self._previous["outputs"].get(path.name):
                raise RunFolderError(
                    f"{path}: is not as the run left it; restore it, or give --output-dir a new folder", path=path
                )

    @classmethod
    def reopen(cls, path: Path) -> Manifest:
        """The manifest of a run that another process began, to be finished.

        Raises:
            RunFolderError: there is none, or it cannot be read.
        """
        found = cls.__new__(cls)
        found._path, found._previous = path, _read(path)
        if not found._previous:
            raise RunFolderError(f"{path}: there is no run in this folder", path=path)
        found._value = dict(found._previous)
        return found

    @classmethod
    def adopt(cls, path: Path, config: RunConfig, facts: JsonObject, *, started: str, version: str) -> Manifest:
        """The manifest of a run that another machine began, as far as the run itself tells.

        Args:
            path: where it is to be kept.
            config: its options.
            facts: what component 1 settled; it tells the hashes of the inputs.
            started: when it began.
            version: of the mmlu-pipe that began it.
        """
        found = cls.__new__(cls)
        found._path, found._previous = path, {}
        inputs = {name: facts.get(fact) for name, fact in _INPUT_FACTS.items()}
        found._value = {
            "format": _FORMAT,
            "status": "running",
            "started": started,
            "finished": None,
            "options": _options(config),
            "inputs": {name: {"name": told["file"], "sha256": told["sha256"]} for name, told in inputs.items() if told},
            "salt": secrets.token_hex(8),
            "endpoint": None,
            "outputs": {},
            "versions": {"mmlu-pipe": version},
            "run": {},
            "error": None,
        }
        return found

    @property
    def salt(self) -> str:
        """What the digests in it are made with."""
        return str(self._value["salt"])

    @property
    def job(self) -> JsonObject | None:
        """The job of a run that goes on elsewhere, as `begin` was told."""
        found: JsonObject | None = self._value.get("job")
        return found

    @property
    def inputs(self) -> Mapping[str, str]:
        """Name → hex SHA-256 of what the run was begun with."""
        return {name: str(source["sha256"]) for name, source in self._value["inputs"].items()}

    @property
    def options(self) -> JsonObject:
        """The options of the run."""
        found: JsonObject = self._value["options"]
        return found

    def begin(self, job: JsonObject | None = None) -> None:
        """Write it for the first time.

        Args:
            job: where the run goes on elsewhere: the job's `name`, its salted `workspace`, and what it `resumes`.

        Raises:
            RunFolderError: the folder cannot be written to.
        """
        if job is not None:
            self._value["job"] = job
        try:
            self.write()
        except RunFolderError as error:
            error.exit_code = 2  # nothing has begun yet: another folder is to be named
            raise

    def accept(self) -> None:
        """Note that the job was seen in its workspace: if it is not there one day, it was removed.

        Raises:
            RunFolderError: it cannot be written.
        """
        if self.job is not None and not self.job.get("accepted"):
            self._value["job"] = self.job | {"accepted": True}
            self.write()

    def finish(self, status: str, outputs: list[Path], facts: JsonObject, error: BaseException | None) -> None:
        """Add what came of it, and write."""
        self._value |= {
            "status": status,
            "finished": _now(),
            "outputs": {path.name: sha256_file(path) for path in outputs if path.is_file()},
            "run": facts,
            "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
        }
        self.write()

    def write(self) -> None:
        """Replace the file as a whole.

        Raises:
            RunFolderError: it cannot be written.
        """
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")  # one of `LEFT_OVERS`
        text = json.dumps(self._value, indent=2, ensure_ascii=False) + "\n"
        try:
            # A file name that is no text in this locale holds lone surrogates.
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
            temporary.replace(self._path)
        except OSError as error:
            raise unwritable(self._path, error.strerror) from error
        finally:
            with suppress(OSError):
                temporary.unlink()


def _read(path: Path) -> JsonObject:
    """The manifest of a run that goes on; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        value: JsonObject = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != _FORMAT:
            raise ValueError("of another version of mmlu-pipe")
        _deciding(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path}: cannot be read as the manifest of a run ({error}); give --output-dir a new folder", path=path
        ) from error
    return value


def _deciding(value: JsonObject) -> JsonObject:
    """What decides the answers and the score, as far as a manifest tells."""
    options = {name: option for name, option in value["options"].items() if name not in FREE_OPTIONS}
    inputs = {name: source["sha256"] for name, source in value["inputs"].items()}
    if options.pop("record_mode") != "none":
        inputs.pop("cassette", None)  # it grows as the run goes
        # by whichever mode: `once` goes on as `new_episodes`; into which folder, the option `cassette` tells
    return options | inputs | (value["endpoint"] or {})


def deployment_digest(endpoint: Endpoint, salt: str) -> JsonObject:
    """Enough of a deployment to tell it from another one; neither host nor name."""
    return {
        "aoai_endpoint": salted(endpoint.endpoint, salt),
        "aoai_deployment": salted(endpoint.deployment, salt),
        "aoai_model": endpoint.model,
        "aoai_api_version": endpoint.api_version,
    }


def _options(config: RunConfig) -> JsonObject:
    """The options with the names of files and folders, not their places on this machine."""

    def shown(value: Any) -> Any:
        return value.name if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value

    found = {field.name: shown(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if found["identity"] not in IDENTITIES:
        found["identity"] = "client id"
    return found | {
        name: Path(found[name]).name
        for name in ("dataset", "guidance_program", "examples", "resume_from")
        if found[name] is not None
    }


def _described(source: Path) -> JsonObject:
    digest = sha256_folder(source, "*.yaml") if source.is_dir() else sha256_file(source)
    return {"name": source.name, "sha256": digest}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
