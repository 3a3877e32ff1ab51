from __future__ import annotations

import logging
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.reporting.html.report import FILE_NAME


@pytest.fixture(autouse=True)
def _with_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMLU_PIPE_NO_REPORT")


def test_a_completed_run_leaves_its_page_in_its_folder() -> None:
    run = mmlu_pipe.run(limit=3)
    page = run.outputs[FILE_NAME].read_text(encoding="utf-8")
    assert "sample with zero_shot" in page
    assert mmlu_pipe.run(limit=3, output_dir=run.run_dir).status == "completed"


def test_a_page_that_cannot_be_written_costs_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mmlu_pipe.reporting.html.write_report", lambda run_dir: 1 / 0)
    with caplog.at_level(logging.WARNING, "mmlu_pipe"):
        run = mmlu_pipe.run(limit=3)
    assert (run.status, FILE_NAME in run.outputs) == ("completed", False)
    assert f"to write it: mmlu-pipe report {run.run_dir}" in caplog.text


def test_who_wants_no_pages_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLU_PIPE_NO_REPORT", "1")
    assert FILE_NAME not in mmlu_pipe.run(limit=3).outputs
