"""What a source of questions is: it takes a subject and a split, and gives rows that are not checked yet."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from mmlu_pipe.dataset.schema import LETTERS
from mmlu_pipe.errors import ConfigError

__all__ = ["ALL", "OFFLINE_HINT", "SPLITS", "Loaded", "Loader", "Row", "Wanted", "answer_index", "unknown_subject"]

SPLITS = ("test", "validation", "dev")
ALL = "all"
"""The name under which every subject is taken."""

OFFLINE_HINT = "without the hub: --source FOLDER (the original CSV files) or --source FILE.jsonl"


@dataclass(frozen=True)
class Wanted:
    """What is asked of a source.

    Attributes:
        source: as given by `--source`.
        revision: as given by `--revision`; only a source with revisions takes one.
        subject: a subject, or ALL.
        split: one of SPLITS.
    """

    source: str
    revision: str | None
    subject: str
    split: str


@dataclass(frozen=True)
class Row:
    """One question as its source has it, not yet checked; `problem` where it could not even be read."""

    where: str
    subject: Any = None
    question: Any = None
    choices: Any = None
    answer: Any = None
    problem: str | None = None


@dataclass(frozen=True)
class Loaded:
    """What a source gave.

    Attributes:
        rows: the questions, in the source's order.
        revision: the revision that was asked for, a default one included; None where nothing is pinned.
        commit: the exact revision that was served, where there is such a thing.
    """

    rows: Iterable[Row]
    revision: str | None = None
    commit: str | None = None


class Loader(Protocol):
    """One kind of source."""

    def accepts(self, source: str) -> bool:
        """Whether this `--source` is of its kind; the first loader that accepts it is asked."""

    def load(self, wanted: Wanted) -> Loaded:
        """Give the rows.

        Raises:
            ConfigError: no such subject, split or revision.
            DatasetError: the source cannot be read.
        """


def answer_index(answer: Any) -> int | None:
    """The 0-based index that an answer means, written as number, digit or letter; None where it means none."""
    if isinstance(answer, str):
        text = answer.strip().upper()
        places = (LETTERS, "0123")
        return next((place.index(text) for place in places if len(text) == 1 and text in place), None)
    return answer if type(answer) is int and 0 <= answer < len(LETTERS) else None


def unknown_subject(subject: str, known: Collection[str], source: str) -> ConfigError:
    """The error for a subject that a source does not have, with close names."""
    names = sorted(known)
    close = difflib.get_close_matches(subject.lower().replace(" ", "_"), names, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there is: {', '.join(names)}"
    return ConfigError(f"--mmlu-dataset {subject}: {source} has no such subject; {hint}", key="mmlu_dataset")
