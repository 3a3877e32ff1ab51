"""What a run is asked to do: its options and the configuration files they name."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.jsonl import parse_line_numbers
from mmlu_pipe.records import Endpoint, JsonObject

__all__ = [
    "AOAI_KEYS",
    "AUTH_MODES",
    "CLOUD_OPTIONS",
    "CONTENT_FILTER_MODES",
    "FREE_OPTIONS",
    "IDENTITIES",
    "OUTPUT_ENCODINGS",
    "RECORD_MODES",
    "VERSION_SCHEMES",
    "AnswerSource",
    "Computes",
    "RunConfig",
    "load_computes",
    "load_endpoint",
    "load_json_object",
    "one_of",
]

AOAI_KEYS = ("aoai_endpoint", "aoai_deployment", "aoai_model", "aoai_api_version")
COMPUTE_KEYS = ("aoai_compute", "general_compute")
RECORD_MODES = ("none", "once", "new_episodes", "all")
AUTH_MODES = ("key", "entra", "auto")
CONTENT_FILTER_MODES = ("unanswered", "count")
OUTPUT_ENCODINGS = ("utf-8", "utf-8-sig")
IDENTITIES = ("managed", "user")
VERSION_SCHEMES = ("content", "epoch")

CLOUD_OPTIONS = ("identity", "environment", "extra_package", "components", "version_scheme", "gate", "resume_from")
"""Options that only a cloud backend reads."""

FREE_OPTIONS = frozenset(
    (
        *("other_config", "workspace_config", "data_dir", "output_dir", "record_note", "auth"),
        *("workers", "rpm", "tpm", "timeout", "max_wait", "max_errors", "on_content_filter", "retry_errors"),
        *CLOUD_OPTIONS,
    )
)
"""Options that change how a run goes, and never what it answers: they may differ when it is continued."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

AnswerSource = Literal["live", "record", "replay", "bundled"]


@dataclass(frozen=True)
class RunConfig:
    """The options of `run`; the command line, the Python API and the manifest share this one list.

    Attributes:
        dataset: a JSONL file, `sample`, or the name of a file in the data folder.
        guidance_program: a Python file, or the name of a bundled program.
        examples: a dataset like `dataset`, whose lines a program may show; None is `sample_dev` for `sample`.
        program_option: options of the program, each `KEY=VALUE`.
        backend: where the pipeline runs.
        other_config: JSON file with the `aoai_*` keys; None means no live endpoint.
        workspace_config: AzureML `config.json`; only a cloud backend reads it.
        cassette: folder of recordings to play from or record into.
        record_mode: vcrpy's `none`, `once`, `new_episodes` or `all`.
        record_note: free text for the provenance of a recording, such as where the weights came from.
        select_strategy: how `select` works on a chat endpoint; `auto` picks by capability.
        output_dir: run folder; that of an unfinished run continues it. None makes a new one under `runs/`.
        limit: evaluate only the first lines of the dataset.
        lines: evaluate only the lines of these numbers, such as `3,17,20-24`.
        workers: lines in flight at once, at most.
        rpm: requests a minute, at most; None leaves it to the endpoint's word.
        tpm: tokens a minute, at most.
        timeout: seconds without a byte of an answer after which a request is asked again.
        max_wait: seconds that a run waits for an endpoint that asks to come back later; longer stops it.
        max_errors: failed lines that a run survives: a number, or a percentage such as `5%`.
        on_content_filter: whether filtered lines `count` there, or are merely `unanswered`.
        retry_errors: ask the failed lines of the run in `output_dir` again.
        correct_key: key of the correct answer.
        response_key: key of the response; None finds `zero_shot_choice`, or else the one new key,
            or the only one of them that ends with `_choice`.
        auth: `key`, `entra`, or `auto` (the key if AZURE_OPENAI_API_KEY is set, else Entra ID).
        require: fields that must be sent, such as `temperature=0`; a drop is an error.
        seed: sampling seed sent where the deployment knows it.
        reasoning_effort: sent where the deployment knows it.
        stream: ask for server-sent events instead of one JSON body.
        output_encoding: `utf-8`, or `utf-8-sig` for output files with a byte-order mark.
        data_dir: folder of named datasets.
        identity: as whom a job asks: `managed` (the compute's identity), `user` (you, on your behalf), or the client
            id of a user-assigned identity.
        environment: an environment that exists, `NAME:VERSION` or `azureml://registries/…`; None makes the package's.
        extra_package: further packages that a job installs, such as `my-plugin==1.0`.
        components: components published to a registry, `azureml://registries/…`; None makes the package's.
        version_scheme: versions of what is registered: of their `content`, or the `epoch` second.
        gate: whether the recordings must be verified before anything is submitted.
        resume_from: an earlier job, whose finished lines are not asked again.
    """

    dataset: str = "sample"
    guidance_program: str = "zero_shot"
    examples: str | None = None
    program_option: tuple[str, ...] = ()
    backend: str = "local"
    other_config: Path | None = None
    workspace_config: Path = Path("config.json")
    cassette: Path | None = None
    record_mode: str = "none"
    record_note: str | None = None
    select_strategy: str = "auto"
    output_dir: Path | None = None
    limit: int | None = None
    lines: str | None = None
    workers: int = 8
    rpm: int | None = None
    tpm: int | None = None
    timeout: float = 300.0
    max_wait: float = 300.0
    max_errors: str = "10"
    on_content_filter: str = "unanswered"
    retry_errors: bool = False
    correct_key: str = "correct_answer"
    response_key: str | None = None
    auth: str = "auto"
    require: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    stream: bool = False
    output_encoding: str = "utf-8"
    data_dir: Path = Path("data")
    identity: str = "managed"
    environment: str | None = None
    extra_package: tuple[str, ...] = ()
    components: str | None = None
    version_scheme: str = "content"
    gate: bool = True
    resume_from: str | None = None

    @property
    def answer_source(self) -> AnswerSource:
        """Where answers come from, as `--other-config`, `--cassette` and `--record-mode` decide it."""
        if self.cassette is None:
            return "bundled" if self.other_config is None else "live"
        return "replay" if self.record_mode == "none" else "record"

    def check(self) -> None:
        """Refuse values and combinations that cannot mean anything.

        Raises:
            ConfigError: naming the option and what to give instead.
        """
        for name in ("workers", "rpm", "tpm", "limit", "seed"):
            if not isinstance(value := getattr(self, name), int | None) or isinstance(value, bool):
                raise ConfigError(f"{name} must be a whole number, not {value!r}", key=name)
        if self.limit is not None and self.lines is not None:
            raise ConfigError("--limit and --lines exclude each other; give one of them", key="lines")
        if self.lines is not None:
            parse_line_numbers(self.lines)
        one_of("record-mode", self.record_mode, RECORD_MODES)
        one_of("auth", self.auth, AUTH_MODES)
        one_of("output-encoding", self.output_encoding, OUTPUT_ENCODINGS)
        one_of("on-content-filter", self.on_content_filter, CONTENT_FILTER_MODES)
        one_of("version-scheme", self.version_scheme, VERSION_SCHEMES)
        if self.identity not in IDENTITIES and not _GUID.fullmatch(self.identity):
            known = ", ".join(IDENTITIES)
            raise ConfigError(
                f"--identity {self.identity!r}: use one of {known}, or the client id of a user-assigned identity (a "
                "GUID)",
                key="identity",
            )
        if self.backend == "local":
            for name in CLOUD_OPTIONS:
                if getattr(self, name) != getattr(type(self), name):
                    option = "no-gate" if name == "gate" else name.replace("_", "-")
                    raise ConfigError(f"--{option} is for a cloud backend; add --backend azureml", key=name)
        for name in ("workers", "rpm", "tpm", "limit"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ConfigError(f"--{name} must be at least 1, not {number}", key=name)
        for name, least in (("timeout", 0.001), ("max_wait", 0)):
            if not isinstance(value := getattr(self, name), int | float) or not least <= value <= 1e6:
                raise ConfigError(f"--{name.replace('_', '-')} must be a number of seconds, not {value!r}", key=name)
        if self.retry_errors and self.output_dir is None:
            raise ConfigError("--retry-errors needs --output-dir, the folder of the run to mend", key="retry_errors")
        if self.record_mode != "none" and (self.other_config is None or self.cassette is None):
            raise ConfigError(
                f"--record-mode {self.record_mode} needs both --other-config (whom to ask) and --cassette (where to "
                "keep the answers)",
                key="record_mode",
            )


def load_json_object(path: Path, what: str) -> JsonObject:
    """Read a JSON object from a UTF-8 file, with or without a byte-order mark.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, is not JSON, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {what} cannot be read ({error.strerror})", path=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {what} is not UTF-8 (byte {error.start}); save it as UTF-8", path=path) from error
    except json.JSONDecodeError as error:
        message = f"{path}:{error.lineno}: {what} is not JSON ({error.msg}, column {error.colno})"
        raise ConfigError(message, path=path) from error
    except (RecursionError, ValueError) as error:  # nested too deeply, a number too long, a NUL in the path
        raise ConfigError(f"{path}: {what} cannot be read ({error})", path=path) from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {what} must be a JSON object", path=path)
    return value


@dataclass(frozen=True)
class Computes:
    """The clusters of the two steps; `serverless` is none of the workspace's own."""

    aoai: str
    general: str


def load_computes(path: Path) -> Computes:
    """The clusters that an `other_configs.json` names.

    Raises:
        ConfigError: a key is missing, misspelt, empty or not a text.
    """
    value = load_json_object(path, "the endpoint configuration")
    return Computes(*(_text(value, key, path).removeprefix("azureml:") for key in COMPUTE_KEYS))


def load_endpoint(path: Path) -> Endpoint:
    """The deployment that an `other_configs.json` names, as written there (endpoint/address.py normalises it).

    Raises:
        ConfigError: a key is missing, misspelt, empty or not a text.
    """
    value = load_json_object(path, "the endpoint configuration")
    return Endpoint(*(_text(value, key, path) for key in AOAI_KEYS))


def _text(value: Mapping[str, Any], key: str, path: Path) -> str:
    if key not in value:
        strangers = [name for name in value if name not in AOAI_KEYS + COMPUTE_KEYS]
        close = difflib.get_close_matches(key, strangers, n=1, cutoff=0.6)
        needs = COMPUTE_KEYS if key in COMPUTE_KEYS else AOAI_KEYS
        hint = f"; is {close[0]!r} a misspelling of it?" if close else f"; it needs {', '.join(needs)}"
        raise ConfigError(f"{path}: the key {key!r} is missing{hint}", path=path, key=key)
    text = value[key]
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{path}: {key!r} must be a text that is not empty", path=path, key=key)
    return text.strip()


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not among those of an option.

    Raises:
        ConfigError: naming the option and what it takes.
    """
    if value not in allowed:
        raise ConfigError(f"--{name} {value!r}: use one of {', '.join(allowed)}", key=name.replace("-", "_"))
