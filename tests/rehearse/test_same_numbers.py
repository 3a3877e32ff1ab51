"""One evaluation with failed lines, run three ways: every place that tells its numbers tells the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import mmlu_pipe
from mmlu_pipe.cli.result import tell_result
from mmlu_pipe.proving.seen import Seen
from mmlu_pipe.rehearsal import Run
from mmlu_pipe.reporting.export import export_run
from mmlu_pipe.reporting.html import write_report
from mmlu_pipe.reporting.mlflow import AZUREML_NAMES
from tests.conftest import ROOT
from tests.rehearse.conftest import Told
from tests.servers.tracking import Tracking, job_python, tracking

__all__ = ["job_python", "tracking"]


Figures = dict[str, float]
WAYS = ("in process", "by the command", "fetched from a job")
PART = ("accuracy", "stderr", "n_correct", "count")
ALL = (*PART, "answered", "unanswered", "failed", "invalid", "accuracy_answered")
COMMAND = """
import sys
sys.executable = sys.argv.pop(1)  # what logs has the packages of a job, as mmlu-pipe[mlflow] would give here
from mmlu_pipe.cli import main
sys.exit(main())
"""


@dataclass
class Ran:
    """A run folder, what the terminal showed of it, and the figures that MLflow has of it, run by run."""

    folder: Path
    terminal: str
    mlflow: Mapping[str, Figures] = field(default_factory=dict)


@pytest.fixture(scope="module")
def ran(told: Told, tracking: Tracking, job_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Way → what came of it; all on the recordings of the one rehearsal."""
    seen, home = told.seen, tmp_path_factory.mktemp("same")
    assert seen.twin is not None
    subject, jobs = seen.subject, seen.jobs()
    shared = {"MMLU_PIPE_NO_PLUGINS": "1", "MMLU_PIPE_NO_REPORT": "1", "COLUMNS": "80"}
    ours = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT / "src"), **shared}
    logged = {"MLFLOW_TRACKING_URI": tracking.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}

    def command(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", COMMAND, job_python, *words],
            cwd=home,
            env=ours | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    to_run = [*subject.local, f"--output-dir={home / 'command'}"]
    to_fetch = ["fetch", jobs[0].name, f"--workspace-config={seen.workspace_config}", f"--output-dir={home / 'job'}"]
    files = {"cassette": subject.cassette, "other_config": subject.other_config}
    with (
        command(to_run, logged | {"MLFLOW_EXPERIMENT_NAME": WAYS[1]}) as run,
        command(to_fetch, seen.twin.environment()) as fetch,
    ):
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as shown:
            patch.setattr(sys, "executable", str(job_python))
            for name, value in (shared | logged | {"MLFLOW_EXPERIMENT_NAME": WAYS[0]}).items():
                patch.setenv(name, value)
            here = mmlu_pipe.run(subject.dataset, subject.program, output_dir=home / "here", **files)
            tell_result(here, title="here", as_json=False)
        texts = [shown.getvalue()]
        for process in (run, fetch):
            out, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            texts.append(out)
    figures = [{name: run["metrics"] for name, run in tracking.runs(way).items()} for way in WAYS[:2]]
    figures.append({run.display_name: run.figures for run in (seen.steps()["score_results"], jobs[0])})
    folders = (home / "here", home / "command", home / "job")
    return {way: Ran(*each) for way, *each in zip(WAYS, folders, texts, figures, strict=True)}


def of_score(folder: Path) -> Figures:
    """Every number of score.json that another place tells, by its name in MLflow."""
    score = json.loads((folder / "score.json").read_text(encoding="utf-8"))

    def of(prefix: str, part: Any, names: tuple[str, ...]) -> Figures:
        found = {f"{prefix}{name}": part[name] for name in names}
        return found | {f"{prefix}ci95_{end}": part["ci95"][end] for end in ("low", "high")}

    found = of("", score, ALL) | {f"macro_{name}": score["macro"][name] for name in ("accuracy", "stderr")}
    found |= {name: score["calibration"][name] for name in ("expected_calibration_error", "brier", "mass_outside")}
    for kind in ("category", "subject"):
        for name, part in score[f"by_{kind}"].items():
            found |= of(f"{kind}/{name}/", part, PART)
    return {name: float(value) for name, value in found.items()}


# What each place tells, by the same names


TERMINAL = (
    r"accuracy +(?P<accuracy>\S+) %  \((?P<ci95_low>\S+) to (?P<ci95_high>\S+)\), 95 % Wilson interval",
    r"macro +(?P<macro_accuracy>\S+) %, of 57 subjects, standard error (?P<macro_stderr>\S+)",
    r"correct +(?P<n_correct>\d+) of (?P<count>\d+) lines",
    r"unanswered +(?P<unanswered>\d+), failed (?P<failed>\d+) \((?P<kinds>.*)\)",
    r"answered +(?P<answered>\d+), of them (?P<invalid>\d+) out of range",
    r"of answered +(?P<accuracy_answered>\S+) %",
    r"calibration +error (?P<expected_calibration_error>\S+) %, Brier (?P<brier>\S+), (?P<mass_outside>\S+) % outside",
)
CATEGORY = (
    r"(\S.*?) +(?P<count>\d+) +(?P<n_correct>\d+) +(?P<accuracy>\S+) %  \((?P<ci95_low>\S+) to (?P<ci95_high>\S+)\)"
)


def of_terminal(text: str) -> dict[str, str]:
    """Name → the number as it is shown."""
    found: dict[str, str] = {}
    for pattern in TERMINAL:
        (match,) = re.finditer(rf"^{pattern}", text, re.MULTILINE)
        found |= match.groupdict()
    for match in re.finditer(rf"^{CATEGORY}$", text, re.MULTILINE):
        found |= {f"category/{match[1]}/{name}": shown for name, shown in match.groupdict().items()}
    return found


class Page(HTMLParser):
    """Rows of cells, of tables and of lists of figures; a cell is its text and the numbers in it, as (value, shown)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, list[tuple[float, str]]]]] = [[]]
        self._value: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("tr", "div", "p"):
            self.rows.append([])
        if tag in ("th", "td", "dt", "dd", "span", "strong"):
            self.rows[-1].append(("", []))
        if tag == "data":
            self._value = dict(attrs)["value"]

    def handle_data(self, data: str) -> None:
        if not self.rows[-1]:
            self.rows[-1].append(("", []))
        text, values = self.rows[-1][-1]
        if self._value is not None:
            values = [*values, (float(self._value), data)]
            self._value = None
        self.rows[-1][-1] = ((text + data).strip(), values)

    def numbers(self, name: str, cells: int) -> list[tuple[float, str]]:
        """Those of the first row that begins with the name and has as many further cells."""
        for row in self.rows:
            if len(row) == cells + 1 and row[0][0] == name:
                return [number for _, numbers in row[1:] for number in numbers]
        raise AssertionError(f"the page has no row {name}")


HEADLINE = {
    "macro average of 57 subjects": ("macro_accuracy",),
    "accuracy": ("accuracy",),
    "correct": ("n_correct", "count"),
    "standard error": ("stderr",),
    "of the answered lines": ("accuracy_answered",),
    "not answered": ("unanswered",),
    "out of range": ("invalid",),
    "failed": ("failed",),
    "expected calibration error": ("expected_calibration_error",),
    "Brier score": ("brier",),
    "mass outside of the options": ("mass_outside",),
}
ROW = ("count", "n_correct", "accuracy", "ci95_low", "ci95_high")


def of_report(text: str, figures: Figures) -> dict[str, tuple[float, str]]:
    """Name → the number that the page holds, and how it is shown."""
    page = Page(text)
    found: dict[str, tuple[float, str]] = {}
    for title, names in HEADLINE.items():
        found |= zip(names, page.numbers(title, 1), strict=True)
    for kind, cells in (("category", 4), ("subject", 6)):
        for name in {key.split("/")[1] for key in figures if key.startswith(f"{kind}/")}:
            values = page.numbers(name, cells)[: len(ROW)]
            found |= zip((f"{kind}/{name}/{each}" for each in ROW), values, strict=True)
    return found


def of_inspect(path: Path) -> tuple[Figures, Any]:
    """What inspect-ai's own reader finds: the figures, and those counted anew from its samples."""
    from inspect_ai.log import read_eval_log

    log = read_eval_log(str(path))
    (told,) = log.results.scores
    found = {name: float(metric.value) for name, metric in told.metrics.items()}
    found |= {"count": log.results.total_samples, "failed": log.results.total_samples - log.results.completed_samples}
    outcomes = Counter(str(sample.metadata["_outcome"]) for sample in log.samples)
    found |= {"n_correct": outcomes["correct"], "unanswered": outcomes["unanswered"], "invalid": outcomes["invalid"]}
    right = Counter((sample.metadata["subject"], sample.scores[told.name].value == "C") for sample in log.samples)
    for subject in {name for name, _ in right}:
        correct, wrong = right[subject, True], right[subject, False]
        found |= {f"subject/{subject}/n_correct": correct, f"subject/{subject}/count": correct + wrong}
    assert len([sample for sample in log.samples if sample.error]) == found["failed"]
    return {name: float(value) for name, value in found.items()}, told.metadata


def shows(text: str, value: float) -> bool:
    """Whether a shown number, in percent or not, is this one rounded to as many digits."""
    shown = text.removesuffix(" %").replace(",", "")
    digits = len(shown.partition(".")[2])
    return shown in (f"{value:.{digits}f}", f"{100 * value:.{digits}f}")


@pytest.mark.parametrize("way", WAYS)
def test_score_terminal_report_mlflow_and_inspect_tell_the_same_numbers(ran: dict[str, Ran], way: str) -> None:
    found = ran[way]
    figures = of_score(found.folder)
    assert (figures["failed"], figures["unanswered"], figures["invalid"]) == (4, 1, 1)

    shown = of_terminal(found.terminal)
    assert shown.pop("kinds") == "2 content_filter, 1 select_failed, 1 truncated"
    assert [name for name, text in shown.items() if not shows(text, figures[name])] == []
    assert len(shown) == 15 + 5 * 4

    page = of_report(write_report(found.folder).read_text(encoding="utf-8"), figures)
    assert {name: value for name, (value, _) in page.items()} == {name: figures[name] for name in page}
    assert [name for name, (value, text) in page.items() if not shows(text, value)] == []
    assert len(page) == len(HEADLINE) + 1 + 5 * (4 + 57)

    assert found.mlflow
    for logged in found.mlflow.values():
        assert logged == {name: figures[name] for name in logged}
        parts = ("category",) if way == WAYS[2] else ("category", "subject")
        assert logged.keys() == {name for name in figures if "/" not in name or name.startswith(parts)}
    assert way != WAYS[2] or all(len(logged) <= AZUREML_NAMES for logged in found.mlflow.values())

    told, everything = of_inspect(export_run(found.folder, "inspect"))
    assert told == {name: figures[name] for name in told}
    assert everything == json.loads((found.folder / "score.json").read_text(encoding="utf-8"))


def test_all_three_ways_leave_the_same_bytes(ran: dict[str, Ran], told: Told) -> None:
    seen: Seen = told.seen
    folders = [found.folder for found in ran.values()] + [seen.local, seen.job]
    for name in ("output.jsonl", "errors.jsonl", "score.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


def test_the_pipelines_run_in_the_workspace_has_what_its_steps_have(told: Told) -> None:
    steps = told.seen.steps()
    asks, scores = steps["run_aoai_guidance"], steps["score_results"]
    pipeline: Run = asks.root
    assert (asks.figures, pipeline.figures) == ({}, scores.figures)
    assert pipeline.parameters == asks.parameters | scores.parameters
