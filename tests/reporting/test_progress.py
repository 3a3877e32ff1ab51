import io
import logging

import pytest
from rich.console import Console

from mmlu_pipe.records import Call, LineAnswer, LineError
from mmlu_pipe.reporting.progress import Figures, Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def call(prompt, completion, usage=None):
    told = {"prompt_tokens": prompt, "completion_tokens": completion} if usage is None else usage
    return Call(1, 0, "h", [], "a", "stop", None, told, None, None, None, 0.1, 1)


def answer(kind=None, *calls):
    error = None if kind is None else LineError(1, kind, "E", "m")
    return LineAnswer(1, {}, None if error else {"a": 1}, error, calls)


def test_a_run_tells_lines_rate_time_left_failures_tokens_money_and_concurrency():
    clock = Clock()
    figures = Figures(clock, cost=lambda usage: usage["prompt_tokens"] * 0.001, currency="EUR")
    figures.begin(14_042, 0)
    for number in range(1200):
        figures.add(answer("truncated" if number < 2 else None, call(900, 100)))
    figures.add(answer("content_filter"))
    figures.concurrency = 16
    clock.now += 60
    assert str(figures) == (
        "1,201 of 14,042 lines, 20.0 a second, 11 min left, 3 failed (1 content_filter, 2 truncated), 1.2M tokens, "
        "1080.00 EUR, 16 at once"
    )


def test_nothing_is_told_that_is_not_known():
    figures = Figures(Clock())
    figures.begin(10, 0)
    assert str(figures) == "0 of 10 lines"
    for odd in (None, [], "many", {"prompt_tokens": None}, {"prompt_tokens": "7"}):
        figures.add(answer(None, call(0, 0, usage=odd)))
    assert str(figures) == "5 of 10 lines"


def test_the_rate_of_a_run_that_goes_on_is_that_of_this_process():
    clock = Clock()
    figures = Figures(clock)
    figures.begin(1000, 900)
    for _ in range(10):
        figures.add(answer())
    clock.now += 5
    assert str(figures) == "910 of 1,000 lines, 2.0 a second, 45 s left"


@pytest.mark.parametrize(("left", "told"), [(1, "10 s"), (8, "80 s"), (12, "2 min"), (300, "50 min"), (7200, "20.0 h")])
def test_the_time_left_is_told_in_a_unit_that_reads_well(left, told):
    clock = Clock()
    figures = Figures(clock)
    figures.begin(left + 1, 0)
    figures.add(answer())
    clock.now += 10
    assert f"{told} left" in str(figures)


def watched(console):
    progress = Progress(console)
    progress.run_started(total=4, done=0)
    progress.line_finished(answer())
    progress.concurrency_changed(limit=4)
    return progress


def test_a_terminal_shows_a_bar_and_the_figures_and_is_clean_afterwards():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=60, color_system=None)
    progress = watched(console)
    progress._live.refresh()
    shown = output.getvalue()
    progress.run_finished()
    assert "━" in shown
    assert "1 of 4 lines" in shown
    assert "4 at once" in shown
    assert all(len(line) <= 60 or "\x1b" in line for line in shown.splitlines())
    assert output.getvalue().endswith("\x1b[1A\x1b[2K")  # the lines it used are empty again


def test_a_log_hears_of_a_run_now_and_then(monkeypatch, caplog):
    output = io.StringIO()
    progress = watched(Console(file=output, force_terminal=False))
    with caplog.at_level(logging.INFO, "mmlu_pipe.progress"):
        progress.line_finished(answer())
        assert caplog.messages == []
        progress._logged -= 31
        progress.line_finished(answer())
        progress.line_finished(answer())
    progress.run_finished()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("3 of 4 lines")
    assert output.getvalue() == ""
