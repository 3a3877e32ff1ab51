"""`mmlu-pipe serve` from start to end: the key, the weights, the configuration that leads here, the signal to stop."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mmlu_pipe.config import AOAI_KEYS
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.serve.http import Endpoint
from mmlu_pipe.serve.listener import Served
from mmlu_pipe.serve.llama import LlamaEngine, require_llama
from mmlu_pipe.serve.weights import ModelFile, find_model
from mmlu_pipe.serve.wire import fingerprint

__all__ = ["CLIENT_VARIABLE", "KEY_VARIABLE", "Key", "choose_key", "config_text", "keep_config", "serve_until_stopped"]

KEY_VARIABLE = "MMLU_PIPE_SERVE_KEY"
CLIENT_VARIABLE = "AZURE_OPENAI_API_KEY"
API_VERSION = "2024-10-21"

_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Key:
    """What clients must send.

    Attributes:
        value: the key.
        line: the shell line that hands it to a client.
    """

    value: str
    line: str

    def __repr__(self) -> str:
        return "Key(…)"


def serve_until_stopped(
    say: Callable[[str], None],
    *,
    model: str | None,
    model_file: Path | None,
    port: int,
    deployment: str,
    threads: int | None,
    reuse_prompts: bool,
    write_config: Path | None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; `say` gets the one text to follow, once clients are answered.

    Raises:
        ConfigError: what is asked for cannot be served.
    """
    if not _DEPLOYMENT.fullmatch(deployment):
        raise ConfigError(
            f"--deployment {deployment!r}: a name is of letters, digits, '.', '_' and '-'", key="deployment"
        )
    require_llama()
    key = choose_key(os.environ, sys.stdout.isatty())
    with Endpoint(port) as endpoint:
        found = find_model(model, model_file)
        config = config_text(endpoint.url, deployment, found.name)
        if write_config is not None:
            keep_config(write_config, config, only_check=True)
        engine = LlamaEngine(found.path, threads, reuse_prompts=reuse_prompts)
        endpoint.start(engine, Served(found.name, deployment, fingerprint(found.sha256)), key.value)
        if write_config is not None:
            keep_config(write_config, config)
        say(_instructions(endpoint.url, found, config, write_config, key))
        _wait_for_signal()


def _instructions(url: str, found: ModelFile, config: str, written: Path | None, key: Key) -> str:
    name = written or "other_configs.json"
    whose = f"the key of {KEY_VARIABLE}" if KEY_VARIABLE in key.line else "the key, shown this once and in no file"
    return f"""\
{found.name} answers at {url}, to this machine only; no content filter runs
weights   {found.path}
sha-256   {found.sha256}
origin    {found.origin}

{name}, {"written" if written else "to be written by you or by --write-config"}:
{config}
in another terminal, with {whose}:
  {key.line}
  mmlu-pipe run --other-config {name} --workers 2

Ctrl-C stops it"""


def choose_key(environment: Mapping[str, str], on_a_terminal: bool) -> Key:
    """The key of MMLU_PIPE_SERVE_KEY, which is not shown, or one made for a person who will read it once.

    Raises:
        ConfigError: the variable holds no key; or it is not set, and a new key would land in a log.
    """
    given = environment.get(KEY_VARIABLE, "").strip()
    if given:
        if not (given.isascii() and given.isprintable() and " " not in given):
            raise ConfigError(f"{KEY_VARIABLE} holds a blank or a letter that no key has", key=KEY_VARIABLE)
        return Key(given, _assignment(f"%{KEY_VARIABLE}%" if _windows() else f'"${KEY_VARIABLE}"'))
    if not on_a_terminal:
        raise ConfigError(
            f"stdout is no terminal, and a key shown there would end in a log: set {KEY_VARIABLE} to a key of your own",
            key=KEY_VARIABLE,
        )
    made = secrets.token_urlsafe(32)
    return Key(made, _assignment(made))


def config_text(url: str, deployment: str, model: str) -> str:
    """The `other_configs.json` that leads to the endpoint."""
    values = (url, deployment, model, API_VERSION)
    return json.dumps(dict(zip(AOAI_KEYS, values, strict=True)), indent=2) + "\n"


def keep_config(path: Path, text: str, *, only_check: bool = False) -> None:
    """Write the configuration to a new file; the very same one may be there already.

    Raises:
        ConfigError: there is another file, or it cannot be written.
    """
    try:
        if only_check:
            found = path.read_text(encoding="utf-8") if path.exists() else text
        else:
            with suppress(FileExistsError), path.open("x", encoding="utf-8", newline="\n") as handle:
                handle.write(text)
            found = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is another file"
        raise ConfigError(
            f"--write-config {path}: cannot be written ({reason})", path=path, key="write_config"
        ) from error
    if found != text:
        raise ConfigError(
            f"--write-config {path}: is there already and says something else; it is left alone, choose another name",
            path=path,
            key="write_config",
        )


def _wait_for_signal() -> None:
    """Return on Ctrl-C or SIGTERM; a second one ends the process at once."""
    stop = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        stop.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, note)
    while not stop.wait(0.5):  # without a limit, no signal would end it on Windows
        pass


def _assignment(value: str) -> str:
    return f"set {CLIENT_VARIABLE}={value}" if _windows() else f"export {CLIENT_VARIABLE}={value}"


def _windows() -> bool:
    return os.name == "nt"
