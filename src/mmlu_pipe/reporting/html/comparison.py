"""Compared runs → one page: how much they differ, how sure that is, and every line that changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmlu_pipe.errors import ConfigError
from mmlu_pipe.records import Interval, JsonObject
from mmlu_pipe.reporting.html import charts
from mmlu_pipe.reporting.html.changes import gather_changes
from mmlu_pipe.reporting.html.page import flat, render
from mmlu_pipe.runfolder import unwritable
from mmlu_pipe.scoring.categories import CATEGORIES, category
from mmlu_pipe.scoring.compare import Comparison, PairedSubject
from mmlu_pipe.scoring.paired import Cells, bootstrap_interval
from mmlu_pipe.scoring.positions import letter
from mmlu_pipe.scoring.runs import CompletedRun

__all__ = ["write_comparison"]

_MOST_SUBJECTS = 200
_RESAMPLES = 2_000
"""For a subject: of its few lines, more draws give the same counts at the ends."""
_OF_ONE_RUN = ("salt", "endpoint", "outputs", "error")
"""Parts of a manifest that differ between any two runs, or are salted so that they cannot be compared."""


@dataclass(frozen=True)
class _Pair:
    """A comparison as the page shows it.

    Attributes:
        letter: of the further run.
        place: of the further run among all.
        found: the comparison.
        reach: the axis of the difference goes from -reach to reach.
        subjects: subject → difference and interval, the largest first.
        panels: name, difference (None outside of MMLU's categories) and chart of each category.
        steady: subjects on whose lines the runs never differ; they are not in the charts.
    """

    letter: str
    place: int
    found: Comparison
    reach: float
    subjects: Mapping[str, tuple[PairedSubject, Interval]]
    panels: Sequence[tuple[str, float | None, Markup]]
    steady: int


def write_comparison(comparisons: Sequence[Comparison], path: str | Path, *, seed: int = 0) -> Path:
    """Write the page of runs that were compared with one first run.

    The figures are those of the comparisons; the accuracies, the lines and the settings come from the run folders.

    Args:
        comparisons: what `mmlu_pipe.compare` returned.
        path: the new file; nothing is overwritten.
        seed: of the bootstrap of the subjects' intervals.

    Returns:
        The file.

    Raises:
        ConfigError: there is a file of that name.
        RunFolderError: a run folder is not as it was when it was compared, or the file cannot be written.
        DatasetError: a file of a run cannot be read.
    """
    path = Path(path)
    if path.exists():
        raise _taken(path)
    folders = [comparisons[0].run_a, *(each.run_b for each in comparisons)]
    runs = [CompletedRun.read(Path(folder)) for folder in folders]
    names = _names(folders)
    changes = gather_changes(runs, names, {line.line_number for each in comparisons for line in each.changed})
    manifests: list[JsonObject] = [json.loads(run.folder.manifest.read_text(encoding="utf-8")) for run in runs]
    differing, same = _settings(manifests)
    letters = [letter(place) for place in range(len(runs))]
    page = render(
        "comparison",
        title=f"{names[1]} beside {names[0]}" if len(runs) == 2 else f"{len(runs) - 1} runs beside {names[0]}",
        dataset=Path(runs[0].options["dataset"]).stem,
        facts=runs[0].facts,
        runs=list(zip(letters, names, changes.scores, strict=True)),
        chart=charts.intervals(
            {f"{each}  {name}": score for each, name, score in zip(letters, names, changes.scores, strict=True)},
            None,
            "Accuracy of each run",
        ),
        differences=_differences(comparisons),
        pairs=[_pair(place, each, seed) for place, each in enumerate(comparisons, start=1)],
        settings={"What differs": differing, "What is the same": same},
        version=manifests[0].get("versions", {}).get("mmlu-pipe"),
        evidence=changes,
    )
    try:
        file = path.open("xb")
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise unwritable(path, error.strerror, exit_code=2) from error
    try:
        with file:
            file.write(page)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise unwritable(path, error.strerror) from error
    return path


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"{path}: exists already; give --html another name", path=path, key="html")


def _names(folders: Sequence[str]) -> list[str]:
    """The names of the folders; their paths as they were given where two have the same."""
    names = [Path(folder).resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else list(folders)


def _differences(comparisons: Sequence[Comparison]) -> dict[str, list[str]]:
    """What was allowed to differ and does → what it is in each run."""
    first = {name: there for each in comparisons for name, (there, _) in each.differences.items()}
    return {
        name: [there, *(each.differences.get(name, (there, there))[1] for each in comparisons)]
        for name, there in first.items()
    }


def _pair(place: int, found: Comparison, seed: int) -> _Pair:
    intervals = {
        cells: bootstrap_interval(cells, seed=seed, resamples=_RESAMPLES)
        for cells in {part.cells for part in found.by_subject.values()}
    }
    ordered = sorted(found.by_subject.items(), key=lambda item: (-item[1].cells.delta, item[0]))
    subjects = {name: (part, intervals[part.cells]) for name, part in ordered}
    return _Pair(
        letter=letter(place),
        place=place,
        found=found,
        reach=1.1 * max(abs(found.ci95.low), abs(found.ci95.high), 0.01),
        subjects=subjects,
        panels=_panels(subjects),
        steady=sum(not _differ(part.cells) for part, _ in subjects.values()),
    )


def _panels(subjects: Mapping[str, tuple[PairedSubject, Interval]]) -> list[tuple[str, float | None, Markup]]:
    """The subjects of each category; those outside of MMLU's in a panel of their own."""
    grouped: dict[str | None, dict[str, tuple[PairedSubject, Interval]]] = {name: {} for name in CATEGORIES}
    for subject, part in subjects.items():
        grouped.setdefault(category(subject), {})[subject] = part
    reach = 1.05 * max(max(-interval.low, interval.high, 0.01) for _, interval in subjects.values()) if subjects else 1
    found = []
    for name, parts in grouped.items():
        drawn = {subject.replace("_", " "): part for subject, part in parts.items() if _differ(part[0].cells)}
        if 0 < len(drawn) <= _MOST_SUBJECTS:
            delta = _delta([part.cells for part, _ in parts.values()]) if name else None
            label = f"Difference of each subject, {name or 'outside of the categories'}"
            found.append((name or "other subjects", delta, charts.differences(drawn, reach, label)))
    return found


def _differ(cells: Cells) -> bool:
    return cells.only_a + cells.only_b > 0


def _delta(parts: Sequence[Cells]) -> float:
    """The difference on all lines of some parts."""
    return sum(cells.only_b - cells.only_a for cells in parts) / sum(cells.n for cells in parts)


def _settings(manifests: Sequence[JsonObject]) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Name → value in each run: of what differs, and of the rest."""
    kept = [
        flat(
            {name: value for name, value in manifest.items() if name not in _OF_ONE_RUN}
            | {"run": {name: value for name, value in manifest["run"].items() if name not in _OF_ONE_RUN}}
        )
        for manifest in manifests
    ]
    found = {name: [each.get(name) for each in kept] for name in dict.fromkeys(name for each in kept for name in each)}
    differing = {name: values for name, values in found.items() if any(value != values[0] for value in values)}
    return differing, {name: values[:1] for name, values in found.items() if name not in differing}
