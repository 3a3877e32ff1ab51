"""Scoring of answers that are there, and the comparison of runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.plugins import registry
from mmlu_pipe.records import Score
from mmlu_pipe.runfolder import RunFolder
from mmlu_pipe.scoring import compare as comparing
from mmlu_pipe.scoring.compare import Comparison

__all__ = ["compare", "score"]

PathLike = str | Path


def score(
    output_dataset: PathLike,
    *,
    error_dataset: PathLike | None = None,
    calls_dataset: PathLike | None = None,
    correct_key: str | None = None,
    response_key: str | None = None,
    score_dataset: PathLike | None = None,
) -> Score:
    """Score answered lines: those of a run folder, or of a JSONL file.

    Args:
        output_dataset: a run folder (its errors and calls are found), or a file of answered lines.
        error_dataset: lines without an answer; they count as wrong.
        calls_dataset: model calls.
        correct_key: key of the correct answer; None is that of the run, or else `correct_answer`.
        response_key: key of the response; None is that of the run, or else finds `zero_shot_choice`, or else the one
            new key, or the only one of them that ends with `_choice`.
        score_dataset: where to write the score as JSON; nothing is written by default, nothing overwritten ever.

    Raises:
        MmluPipeError: a file cannot be read, or a line cannot be scored.
    """
    answered = Path(output_dataset)
    errors = Path(error_dataset) if error_dataset else None
    calls = Path(calls_dataset) if calls_dataset else None
    if answered.is_dir():
        folder = RunFolder(answered)
        answered = folder.output
        errors = errors or (folder.errors if folder.errors.is_file() else None)
        calls = calls or (folder.calls if folder.calls.is_file() else None)
        with suppress(ConfigError):  # the score of an older version
            if scored := folder.read_score():
                correct_key, response_key = correct_key or scored.correct_key, response_key or scored.response_key
    if score_dataset is not None and Path(score_dataset).exists():
        raise ConfigError(f"{score_dataset}: exists already; give another name", path=Path(score_dataset))
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(score_dataset) if score_dataset else Path(temporary) / "score.json"
        registry("components")["jsonl_score_multiplechoice"](
            input_dataset=answered,
            error_dataset=errors,
            calls_dataset=calls,
            correct_key=correct_key or "correct_answer",
            response_key=response_key,
            score_dataset=target,
        )
        return Score.from_json(json.loads(target.read_text(encoding="utf-8")))


def compare(
    runs: Sequence[PathLike], *, allow: Sequence[str] = (), seed: int = 0, html: PathLike | None = None
) -> tuple[Comparison, ...]:
    """Compare every other run with the first, line by line.

    Args:
        runs: two or more folders of completed runs on one dataset.
        allow: in what they may differ: `program`, `model`, `strategy` or `settings`.
        seed: of the bootstrap.
        html: where to write it as a page for people; nothing is written by default, nothing overwritten ever.

    Raises:
        ConfigError: the runs cannot be compared, saying in what they differ; or there is a file of the name `html`.
        RunFolderError: a folder holds no completed run, or the page cannot be written.
        DatasetError: a file of a run cannot be read.
    """
    found = comparing.compare(runs, allow=allow, seed=seed)
    if html is not None:
        from mmlu_pipe.reporting.html import write_comparison

        write_comparison(found, html, seed=seed)
    return found
