"""MMLU from where it is published to a dataset's lines: rows of a source, checked, as one JSONL file."""

from __future__ import annotations

import hashlib
import html
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmlu_pipe.dataset.hub import DEFAULT_REVISION, DEFAULT_SOURCE
from mmlu_pipe.dataset.loader import ALL, SPLITS, Loader, Row, Wanted, answer_index
from mmlu_pipe.dataset.local_files import SHORT_SPLITS
from mmlu_pipe.dataset.schema import shown
from mmlu_pipe.errors import ConfigError, DatasetError
from mmlu_pipe.jsonl import Problems, dump_line
from mmlu_pipe.plugins import registry
from mmlu_pipe.records import JsonObject

__all__ = ["ALL", "DEFAULT_REVISION", "DEFAULT_SOURCE", "SPLITS", "CreatedDataset", "create_dataset"]


@dataclass(frozen=True)
class CreatedDataset:
    """A dataset made from a source.

    Attributes:
        path: the file.
        name: what `locate` calls it: `mmlu_<SUBJECT>_<SPLIT>`.
        lines: its number of lines.
        sha256: hex SHA-256 of its bytes.
        source: the source as it was asked for.
        revision: the revision as it was asked for, the default one included; None where nothing was pinned.
        commit: the commit that the hub served, None for local sources.
        asset: the data asset that it was registered as, None where it was not.
    """

    path: Path
    name: str
    lines: int
    sha256: str
    source: str
    revision: str | None
    commit: str | None = None
    asset: str | None = None

    def _repr_html_(self) -> str:
        """For notebooks; names of files and sources are escaped."""
        return f"<code>{html.escape(str(self.path))}</code>: {self.lines} lines from {html.escape(self.source)}"


def create_dataset(
    *,
    mmlu_dataset: str,
    split: str = "validation",
    source: str = DEFAULT_SOURCE,
    revision: str | None = None,
    output_dir: Path,
    overwrite: bool = False,
) -> CreatedDataset:
    """Write `<output_dir>/mmlu_<mmlu_dataset>_<split>.jsonl`; the same rows give the same bytes.

    Args:
        mmlu_dataset: a subject, or `all`.
        split: `test`, `validation` or `dev`.
        source: a hub repository `owner/name`, a folder of the original CSV files, or a JSONL file with `subject`,
            `question`, `choices` and `answer` (or `correct_answer`) as index or letter. A local path goes first.
        revision: commit, tag or branch of a hub repository; the default repository is pinned without it.
        output_dir: made where it is missing.
        overwrite: replace a file of that name that has other content.

    Raises:
        ConfigError: no such subject, split or source; the file exists with other content; `datasets` is missing.
        DatasetError: the source cannot be read, or has bad rows; nothing was written.
    """
    if split not in SPLITS:
        raise ConfigError(f"--split {split}: MMLU has {', '.join(SPLITS)}{_train_hint(split)}", key="split")
    if not re.fullmatch(r"[^/\\\0]+", mmlu_dataset):
        raise ConfigError(f"--mmlu-dataset {mmlu_dataset!r}: is not a subject's name", key="mmlu_dataset")
    if revision == "":
        raise ConfigError("--revision: is empty; give a commit, tag or branch, or leave it out", key="revision")
    loaders: dict[str, Loader] = registry("dataset_loaders")
    loader = next((loader for loader in loaders.values() if loader.accepts(source)), None)
    if loader is None:
        raise ConfigError(
            f"--source {source}: no such file or folder, and not a hub repository (owner/name)", key="source"
        )
    loaded = loader.load(Wanted(source, revision, mmlu_dataset, split))
    lines = _checked_lines(loaded.rows, source)
    content = b"".join(lines)
    name = f"mmlu_{mmlu_dataset}_{split}"
    path = output_dir / f"{name}.jsonl"
    _put(path, content, overwrite=overwrite)
    digest = hashlib.sha256(content).hexdigest()
    return CreatedDataset(path, name, len(lines), digest, source, loaded.revision, loaded.commit)


def _train_hint(split: str) -> str:
    if split.endswith("train"):
        return "; auxiliary_train holds other datasets' questions and belongs to no subject, for few-shot use dev"
    return f"; did you mean {SHORT_SPLITS[split]}?" if split in SHORT_SPLITS else ""


def _checked_lines(rows: Iterable[Row], source: str) -> list[bytes]:
    problems = Problems()
    lines = []
    for row in rows:
        found = [row.problem] if row.problem else _row_problems(row)
        if found:
            problems.add(row.where, "; ".join(found))
            continue
        line: JsonObject = {
            "dataset": "mmlu",
            "subject": row.subject,
            "question": row.question,
            "choices": row.choices,
            "correct_answer": answer_index(row.answer),
        }
        lines.append(dump_line(line))
    problems.raise_if_any(source, noun="row")
    if not lines:
        raise DatasetError(f"{source}: has no question")
    return lines


def _row_problems(row: Row) -> list[str]:
    found = []
    if not isinstance(row.subject, str) or not row.subject:
        found.append(f"subject is {shown(row.subject)}, not a name")
    if not isinstance(row.question, str) or not row.question.strip():
        found.append(f"question is {shown(row.question)}, not a text that says something")
    choices = row.choices
    if not isinstance(choices, list) or len(choices) != 4 or not all(isinstance(choice, str) for choice in choices):
        found.append(f"choices is {shown(choices)}, not a list of four texts")
    if answer_index(row.answer) is None:
        found.append(f"answer is {shown(row.answer)}, neither 0 to 3 nor A to D")
    return found


def _put(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Bring the file into being whole, or leave what is there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if path.read_bytes() == content:
                return
            if not overwrite:
                raise ConfigError(
                    f"{path}: exists with other content (another source or revision?); "
                    "remove it, overwrite it with --overwrite, or give another --output-dir",
                    path=path,
                )
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})", path=path, key="output_dir") from error
