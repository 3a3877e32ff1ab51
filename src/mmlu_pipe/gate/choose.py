"""Which lines of a dataset the gate replays: the same ones on every machine, spread over the subjects (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmlu_pipe.errors import ConfigError

__all__ = ["DEFAULT_GATE_LINES", "LEAST_LINES", "GateLine", "choose_lines", "line_list", "parse_gate_lines"]

DEFAULT_GATE_LINES = 2
"""Lines replayed of each subject."""

LEAST_LINES = 20
"""Lines replayed in all, where the dataset has so many."""

GateLine = tuple[int, str, str]
"""(line number, subject, hash of the line's bytes)."""


def parse_gate_lines(text: int | str) -> int | None:
    """How many lines of each subject `--gate-lines` asks for; None means all.

    Raises:
        ConfigError: it is neither `all` nor a whole number from 1 on.
    """
    told = str(text).strip()
    if told == "all":
        return None
    if isinstance(text, bool) or not (told.isascii() and told.isdecimal() and 0 < len(told) < 10 and int(told)):
        raise ConfigError(f"--gate-lines must be all, or a number from 1 on, not {told!r}", key="gate_lines")
    return int(told)


def choose_lines(lines: Iterable[GateLine], per_subject: int | None) -> frozenset[int]:
    """The line numbers to replay.

    Within a subject the lines are ranked by the hash of their bytes, so that the choice neither prefers the first
    lines nor depends on the order of the file. After `per_subject` of each, further ranks are taken from all subjects
    in turn, until there are `LEAST_LINES`.
    """
    subjects: dict[str, list[tuple[str, int]]] = {}
    for number, subject, digest in lines:
        subjects.setdefault(subject, []).append((digest, number))
    ranked = [sorted(subjects[subject]) for subject in sorted(subjects)]
    if per_subject is None:
        return frozenset(number for ranks in ranked for _, number in ranks)
    chosen: list[int] = []
    for rank in range(max(map(len, ranked), default=0)):
        if rank >= per_subject and len(chosen) >= LEAST_LINES:
            break
        level = [ranks[rank][1] for ranks in ranked if rank < len(ranks)]
        chosen += level if rank < per_subject else level[: LEAST_LINES - len(chosen)]
    return frozenset(chosen)


def line_list(numbers: Iterable[int]) -> str:
    """Line numbers for `run --lines`: `3,17,20-24`; two neighbours are written apart."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else _apart(run) for run in runs)


def _apart(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
