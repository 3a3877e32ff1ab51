"""From what a user calls a dataset to its file."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from mmlu_pipe.bundled import SAMPLE_DATASETS
from mmlu_pipe.dataset.mmlu import SPLITS
from mmlu_pipe.errors import DatasetError

__all__ = ["advice", "locate", "subject_and_split"]

_MMLU_NAME = re.compile(rf"mmlu_(?P<subject>[A-Za-z0-9_]+)_(?P<split>{'|'.join(SPLITS)})")


def locate(name_or_path: str, data_dir: Path) -> Path:
    """The file of a dataset: a bundled one, a file, or `<data_dir>/<name>.jsonl`, looked for in this order.

    Raises:
        DatasetError: there is none; the message has close matches and the command that creates it.
    """
    if name_or_path in SAMPLE_DATASETS:
        return SAMPLE_DATASETS[name_or_path]
    path = Path(name_or_path)
    if _is_plain(name_or_path):
        named = data_dir / f"{name_or_path}.jsonl"
        for candidate in (path, named):
            if _is_file(candidate):
                return candidate
        looked = f"neither a file {name_or_path!r} nor {str(named)!r}"
    else:
        if name_or_path and _is_file(path):
            return path
        looked = "that is a folder, not a file" if _is_dir(path) else "no such file"
    raise DatasetError(f"dataset {name_or_path!r}: {looked}{advice(name_or_path, data_dir)}", path=path)


def subject_and_split(name: str) -> tuple[str, str] | None:
    """The MMLU subject and split of a dataset that `create-dataset` named, None for other names."""
    match = _MMLU_NAME.fullmatch(name)
    return (match["subject"], match["split"]) if match else None


def _is_plain(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and not any(letter in name for letter in "/\\\0")


def advice(name: str, data_dir: Path) -> str:
    """Indented lines for people whose dataset is not there: close names, the command that creates it."""
    stem = Path(name).name.removesuffix(".jsonl")
    known = {*SAMPLE_DATASETS, *(path.stem for path in data_dir.glob("*.jsonl"))}
    lines = []
    if close := difflib.get_close_matches(stem, sorted(known)):
        lines.append(f"did you mean {' or '.join(close)}?")
    if found := subject_and_split(stem):
        lines.append(f"to create it: mmlu-pipe create-dataset --mmlu-dataset {found[0]} --split {found[1]}")
    if not lines:
        lines.append(f"known by name: {', '.join(sorted(known))}")
    return "".join(f"\n  {line}" for line in lines)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
