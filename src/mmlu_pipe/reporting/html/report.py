"""A run folder → `report.html` in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.records import JsonObject, Score, SubScore
from mmlu_pipe.reporting.html import charts
from mmlu_pipe.reporting.html.evidence import Evidence, gather
from mmlu_pipe.reporting.html.page import flat, moment, render
from mmlu_pipe.runfolder import unwritable
from mmlu_pipe.scoring.categories import CATEGORIES, category
from mmlu_pipe.scoring.positions import letter
from mmlu_pipe.scoring.runs import CompletedRun

__all__ = ["FILE_NAME", "write_report"]

FILE_NAME = "report.html"

_MOST_SUBJECTS = 200
_OUTCOMES = ("correct", "wrong", "invalid", "unanswered", "failed")


def write_report(run_dir: Path) -> Path:
    """Write the page of a completed run into its folder, in the place of an earlier one.

    Every figure of the score is that of `score.json`; the rest is from the other files of the folder.

    Returns:
        The file.

    Raises:
        RunFolderError: it is no folder of a completed run, its files do not fit together, or it cannot be written to.
        ConfigError: the score is of another version.
        DatasetError: a file of the run cannot be read.
    """
    run = CompletedRun.read(run_dir)
    score = run.folder.read_score()
    if score is None:
        raise RunFolderError(f"{run.folder.score}: is not there; repeat the run's command to go on", path=run_dir)
    manifest: JsonObject = json.loads(run.folder.manifest.read_text(encoding="utf-8"))
    evidence = gather(run, score)
    page = render(
        "report",
        title=f"{Path(run.options['dataset']).stem} with {Path(run.options['guidance_program']).stem}",
        folder=run.path.resolve().name,
        score=score,
        outcomes=_outcomes(score),
        manifest=manifest,
        facts=run.facts,
        settings=_settings(manifest),
        started=moment(manifest.get("started")),
        recorded=run.facts.get("endpoint_kind") == "recorded",
        evidence=evidence,
        letter=letter,
        version=manifest.get("versions", {}).get("mmlu-pipe"),
        **_charts(score, evidence),
    )
    path = run.path / FILE_NAME
    temporary = path.with_name(f".{FILE_NAME}.new")
    try:
        temporary.write_bytes(page)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error.strerror) from error
    return path


def _outcomes(score: Score) -> dict[str, int]:
    """Outcome → lines, in the order of the filter."""
    wrong = score.answered - score.n_correct - score.invalid
    counts = (score.n_correct, wrong, score.invalid, score.unanswered, score.failed)
    return dict(zip(_OUTCOMES, counts, strict=True))


def _charts(score: Score, evidence: Evidence) -> dict[str, Any]:
    """Name → what the template shows under it; empty where there is nothing to draw."""
    found: dict[str, Any] = {"categories": None, "panels": _panels(score), "reliability": None, "positions": None}
    if score.by_category:
        found["categories"] = charts.intervals(score.by_category, score.accuracy, "Accuracy of each category")
    if score.calibration is not None:
        found["reliability"] = charts.reliability(score.calibration, "Accuracy of the lines by confidence")
    if score.position_bias is not None:
        found["positions"] = charts.positions(score.position_bias, "How often each position was chosen, and was right")
    spread: dict[str, Sequence[float]] = {"seconds a call": evidence.latencies}
    spread |= {f"{name.partition('_')[0]} tokens": counts for name, counts in evidence.tokens.items()}
    found["histograms"] = [
        (
            title,
            charts.histogram(values, title, f"How {title} are spread", whole="tokens" in title),
            _summary(values),
        )
        for title, values in spread.items()
        if any(values)
    ]
    return found


def _panels(score: Score) -> list[tuple[str, SubScore | None, Markup]]:
    """The subjects of each category, the best first; those outside MMLU's in a panel of their own."""
    grouped: dict[str | None, dict[str, SubScore]] = {name: {} for name in CATEGORIES}
    for subject, part in sorted(score.by_subject.items(), key=lambda item: (-(item[1].accuracy or 0), item[0])):
        grouped.setdefault(category(subject), {})[subject] = part
    return [
        (
            name or "other subjects",
            score.by_category.get(name) if name else None,
            charts.intervals(
                {subject.replace("_", " "): part for subject, part in parts.items()},
                score.accuracy,
                f"Accuracy of each subject, {name or 'outside of the categories'}",
            ),
        )
        for name, parts in grouped.items()
        if 0 < len(parts) <= _MOST_SUBJECTS
    ]


def _summary(values: Sequence[float]) -> dict[str, float]:
    """Name → quantile, the smallest value that so many are not above; and the sum."""
    ordered = sorted(values)
    quantiles = {"median": 0.5, "95th percentile": 0.95, "largest": 1.0}
    found = {name: ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for name, share in quantiles.items()}
    return found | {"sum": sum(ordered)}


def _settings(manifest: JsonObject) -> dict[str, dict[str, Any]]:
    """Heading → name → value: all that the manifest tells."""
    known = {"options", "inputs", "outputs", "versions", "run", "endpoint", "error"}
    return {
        "Inputs": flat(manifest.get("inputs")),
        "What the run settled and counted": flat(manifest.get("run")),
        "Deployment (salted digests for its address and name)": flat(manifest.get("endpoint")),
        "Options": flat(manifest.get("options")),
        "Versions": flat(manifest.get("versions")),
        "SHA-256 of the files": flat(manifest.get("outputs")),
        "Run": flat({name: value for name, value in manifest.items() if name not in known}),
    }
