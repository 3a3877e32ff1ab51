"""MMLU from the Hugging Face hub, through its own client; the default repository is pinned."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmlu_pipe.dataset.loader import ALL, OFFLINE_HINT, Loaded, Row, Wanted, unknown_subject
from mmlu_pipe.errors import ConfigError, DatasetError, MmluPipeError
from mmlu_pipe.plugins import hookimpl

__all__ = ["DEFAULT_REVISION", "DEFAULT_SOURCE", "Hub"]

DEFAULT_SOURCE = "cais/mmlu"
DEFAULT_REVISION = "c30699e8356da336a370243923dbaf21066bb9fe"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_TIMEOUT_S = 10.0


class Hub:
    """A dataset repository `owner/name`."""

    def accepts(self, source: str) -> bool:
        """It looks like a repository, and not like a file."""
        return bool(_HUB_ID.fullmatch(source)) and not source.endswith((".jsonl", ".json", ".csv"))

    def load(self, wanted: Wanted) -> Loaded:
        """Fetch the rows at an exact commit."""
        revision = wanted.revision
        if wanted.source == DEFAULT_SOURCE and revision is None:
            revision = DEFAULT_REVISION
        rows, commit = _hub_rows(wanted.source, revision, wanted.subject, wanted.split)
        return Loaded(rows, revision, commit)


@hookimpl
def register_dataset_loaders(register: Callable[[str, Any], None]) -> None:
    """The hub comes with the package; its client with the extra `hub`."""
    register("hub", Hub())


def _hub_rows(source: str, revision: str | None, subject: str, split: str) -> tuple[list[Row], str]:
    """The rows of one split of a config, and the commit they come from."""
    datasets, api = _hub_clients()
    place = f"{source} at revision {revision}" if revision else source
    with _quiet(datasets):
        commit, gated = _resolve(api, source, revision, place)
        if commit is None and revision and _COMMIT.fullmatch(revision):
            commit = revision
        if commit is None:
            raise DatasetError(f"{place}: HF_HUB_OFFLINE is set, and then only a full commit can be told: --revision")
        try:
            try:
                return _config_rows(datasets, source, commit, subject, split), commit
            except ValueError:  # what an unknown config raises, among others
                configs = _configs(datasets, source, commit)
                if not configs or subject in configs:
                    raise
            if subject != ALL:
                raise unknown_subject(subject, configs, place)
            parts = [_config_rows(datasets, source, commit, config, split) for config in sorted(configs)]
            return [row for part in parts for row in part], commit
        except MmluPipeError:
            raise
        except Exception as error:  # of these clients and the parsers below them there is no closed list
            hint = "accept its terms on the hub and set HF_TOKEN" if gated else OFFLINE_HINT
            raise DatasetError(f"{place}: cannot be loaded ({_first_line(error)}); {hint}") from error


def _config_rows(datasets: Any, source: str, commit: str, config: str, split: str) -> list[Row]:
    builder = datasets.load_dataset_builder(source, config, revision=commit)
    # Where the hub fails, `datasets` answers from its cache, and then with whatever revision is there.
    if builder.hash != commit:
        raise DatasetError(f"{source}: the hub did not give revision {commit}, and the cache holds only {builder.hash}")
    builder.download_and_prepare()
    if split not in builder.info.splits:
        raise ConfigError(f"--split {split}: {source} has {', '.join(builder.info.splits)}", key="split")
    table = builder.as_dataset(split=split)
    if missing := {"question", "choices", "answer"}.difference(table.column_names):
        raise DatasetError(f"{source}: is not laid out as MMLU: has no {', '.join(sorted(missing))}")
    return [
        Row(f"{config} row {number}", row.get("subject") or config, row["question"], row["choices"], row["answer"])
        for number, row in enumerate(table, start=1)
    ]


def _hub_clients() -> tuple[Any, Any]:
    try:
        return importlib.import_module("datasets"), importlib.import_module("huggingface_hub").HfApi()
    except ImportError as error:
        raise ConfigError(
            f'a hub source needs the package datasets ({error}): pip install "datasets>=4"; {OFFLINE_HINT}',
            key="source",
        ) from error


def _resolve(api: Any, source: str, revision: str | None, place: str) -> tuple[str | None, bool]:
    """Ask the hub once, in bounded time, for the commit: `datasets` alone would try an absent hub for minutes.

    Returns:
        The commit, and whether the repository is gated; no commit where HF_HUB_OFFLINE forbids to ask.
    """
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        info = api.dataset_info(source, revision=revision, timeout=_HUB_TIMEOUT_S)
    except errors.OfflineModeIsEnabled:
        return None, False
    except errors.GatedRepoError as error:
        raise DatasetError(f"{place}: is gated; accept its terms on the hub and set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(
            f"--revision {revision}: {source} has no such commit, tag or branch", key="revision"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(
            f"--source {source}: no such public dataset on the hub; check the name, or set HF_TOKEN for a private one",
            key="source",
        ) from error
    except Exception as error:
        raise DatasetError(
            f"{place}: the hub cannot be reached ({_first_line(error)}); {OFFLINE_HINT}; "
            "or HF_HUB_OFFLINE=1 where it was loaded before"
        ) from error
    return info.sha, bool(info.gated)


def _configs(datasets: Any, source: str, commit: str) -> set[str]:
    try:
        return set(datasets.get_dataset_config_names(source, revision=commit)) - {"auxiliary_train", "default"}
    except Exception:  # noqa: BLE001 - only looked up to word another error
        return set()


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Progress bars only where someone watches or asked for them; as before afterwards."""
    switches = {
        "HF_DATASETS_DISABLE_PROGRESS_BARS": datasets,
        "HF_HUB_DISABLE_PROGRESS_BARS": importlib.import_module("huggingface_hub.utils"),
    }
    off = []
    if not sys.stderr.isatty():
        off = [
            module
            for variable, module in switches.items()
            if variable not in os.environ and not module.are_progress_bars_disabled()
        ]
    for module in off:
        module.disable_progress_bars()
    try:
        yield
    finally:
        for module in off:
            module.enable_progress_bars()


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
