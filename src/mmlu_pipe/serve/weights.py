"""Which weights are served: known ones from the Hugging Face hub, pinned by revision and SHA-256, or a file."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.hashing import sha256_file

__all__ = ["DEFAULT_MODEL", "KNOWN", "ModelFile", "Weights", "find_model"]


@dataclass(frozen=True)
class Weights:
    """A file on the hub.

    Attributes:
        repository: `owner/name`.
        revision: commit of the repository.
        file: its name there.
        size: in bytes.
        sha256: of its bytes.
        licence: SPDX identifier that the repository states.
    """

    repository: str
    revision: str
    file: str
    size: int
    sha256: str
    licence: str


KNOWN: dict[str, Weights] = {
    "Qwen2.5-Coder-1.5B-Instruct": Weights(
        repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
    )
}
"""Name → weights that answer MMLU above chance on a laptop."""

DEFAULT_MODEL = "Qwen2.5-Coder-1.5B-Instruct"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAGIC = b"GGUF"
_HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ModelFile:
    """Weights on this machine.

    Attributes:
        path: the file.
        name: what the model is called.
        sha256: of the file as it is now.
        origin: where the bytes come from, for people.
    """

    path: Path
    name: str
    sha256: str
    origin: str


def find_model(name: str | None = None, file: Path | None = None, cache: Path | None = None) -> ModelFile:
    """The weights to serve.

    Args:
        name: of known weights; with a file, what its model is called (recognised by its SHA-256 where not given).
        file: a GGUF file; nothing is downloaded then.
        cache: folder for downloads; None means the hub client's own.

    Raises:
        ConfigError: there are none, or they are not what they should be.
    """
    if file is not None:
        return _given(file, name)
    name = name or DEFAULT_MODEL
    if name not in KNOWN:
        raise ConfigError(
            f"--model {name!r}: known weights are {', '.join(KNOWN)}; for any other give --model-file FILE", key="model"
        )
    return _downloaded(name, KNOWN[name], cache)


def _given(path: Path, name: str | None) -> ModelFile:
    try:
        with path.open("rb") as handle:
            begins_well = handle.read(len(_MAGIC)) == _MAGIC
        sha256 = sha256_file(path) if begins_well else ""
    except OSError as error:
        raise _bad_file(path, f"cannot be read ({error.strerror})") from error
    if not begins_well:
        raise _bad_file(path, "is no GGUF file; of a model in another format there is often a GGUF on the hub")
    recognised = next((known for known, weights in KNOWN.items() if weights.sha256 == sha256), None)
    name = name or recognised or path.stem
    if name in KNOWN and recognised != name:
        raise ConfigError(
            f"{path}: has SHA-256 {sha256}, so it is not the pinned {name}; give it another name with --model",
            path=path,
            key="model",
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"the model's name {name!r} must be of letters, digits, '.', '_' and '-': give one with --model NAME",
            key="model",
        )
    origin = "a file, by its SHA-256 the pinned weights" if recognised else "a file of unknown origin"
    return ModelFile(path, name, sha256, origin)


def _downloaded(name: str, weights: Weights, cache: Path | None) -> ModelFile:
    place = f"{weights.repository} at revision {weights.revision}"
    path = _fetch(weights, place, cache)
    sha256 = sha256_file(path)
    if sha256 != weights.sha256:
        raise ConfigError(
            f"{path.resolve()}: has SHA-256 {sha256}, not the pinned {weights.sha256} of {name}, and is not served; "
            "delete it to download it again",
            path=path.resolve(),
            key="model",
        )
    return ModelFile(path, name, sha256, place)


def _fetch(weights: Weights, place: str, cache: Path | None) -> Path:
    """The path in the hub client's cache; without the network where it is there already.

    The client takes a broken connection up again where it broke, but keeps no part of a download that was given up.

    Raises:
        ConfigError: it cannot be had.
    """
    hub = _hub()
    errors = importlib.import_module("huggingface_hub.errors")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    by_hand = f"fetch {weights.file} of {place} elsewhere and give --model-file FILE"

    def download(**options: Any) -> Path:
        wanted = {"revision": weights.revision, "cache_dir": cache, "endpoint": endpoint}
        return Path(hub.hf_hub_download(weights.repository, weights.file, **wanted, **options))

    try:
        return download(local_files_only=True)
    except errors.LocalEntryNotFoundError:
        pass
    try:  # asked once, in bounded time: the download would try an absent hub again and again
        url = hub.hf_hub_url(weights.repository, weights.file, revision=weights.revision, endpoint=endpoint)
        hub.get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_S)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        raise ConfigError(
            f"the hub does not have {weights.file} of {place} any more ({_reason(error)}); {by_hand}", key="model"
        ) from error
    except Exception as error:  # of the client and what is below it there is no closed list
        raise ConfigError(
            f"{weights.file} is not in the cache, and the hub cannot be reached ({_reason(error)}); go online once, or "
            f"{by_hand}",
            key="model",
        ) from error
    try:
        with _quiet():
            return download()
    except Exception as error:  # see above
        raise ConfigError(
            f"{weights.file} of {place} cannot be downloaded ({_reason(error)}); start again, or {by_hand}",
            key="model",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """A progress bar only where someone watches."""
    bars = importlib.import_module("huggingface_hub.utils")
    off = not sys.stderr.isatty() and not bars.are_progress_bars_disabled()
    if off:
        bars.disable_progress_bars()
    try:
        yield
    finally:
        if off:
            bars.enable_progress_bars()


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ConfigError(
            f"the weights come from the Hugging Face hub, whose client is not installed ({error}): pip install "
            '"huggingface-hub>=2.4", or give --model-file FILE',
            key="model",
        ) from error


def _reason(error: BaseException) -> str:
    """What lies at the bottom of it, on one line."""
    while (cause := error.__cause__) is not None:
        error = cause
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _bad_file(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path}: {reason}", path=path, key="model_file")
