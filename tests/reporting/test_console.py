import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console

import mmlu_pipe
from mmlu_pipe.records import ERROR_KEY, Interval
from mmlu_pipe.reporting.console import print_comparison, print_score
from mmlu_pipe.scoring.compare import ChangedLine, Comparison, PairedSubject
from mmlu_pipe.scoring.paired import Cells

CHOICES = ["a", "b", "c", "d"]
SUBJECTS = ["astronomy", "high_school_government_and_politics", "地理" * 30, "\x1b[31mred\x07", "[bold]x[/bold]"]


def shown(printed, *, terminal=False, width=80, **environment):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, _environ={"TERM": "xterm-256color"} | environment)
    printed(console)
    return out.getvalue()


@pytest.fixture
def score(tmp_path):
    """A score of many lines with everything in it."""
    lines, calls = [], []
    for number in range(2000):
        line = {"subject": SUBJECTS[number % 5], "choices": CHOICES, "correct_answer": number % 4}
        lines.append(line | {"zero_shot_choice": (number // 3) % 4 if number % 50 else None})
        shares = {str(place): 0.2 for place in range(4)} | {str((number // 3) % 4): 0.39}
        calls.append({"line_number": number + 1, "distribution": shares, "error": None})
    errors = [
        {"subject": "astronomy", ERROR_KEY: {"kind": kind, "line_number": 2001 + place}}
        for place, kind in enumerate(["content_filter", "truncated", "\x1b[2Jkind"])
    ]
    paths = {}
    for name, values in (("output", lines), ("errors", errors), ("calls", calls)):
        paths[name] = tmp_path / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return mmlu_pipe.score(paths["output"], error_dataset=paths["errors"], calls_dataset=paths["calls"])


@pytest.fixture
def comparison():
    subjects = {
        name: PairedSubject(Cells(1000, 100 + place, 120, 900), 0.0001234 * place, 0.01 * place)
        for place, name in enumerate([*SUBJECTS, *(f"subject {number}" for number in range(30))])
    }
    numbers = range(14_000, 14_042)
    changed = tuple(ChangedLine(number, "astronomy", 1, 1, 2, "correct", "wrong") for number in numbers)
    return Comparison(
        run_a="runs/one",
        run_b="runs/two\x1b[31m",
        differences={"program": ("zero_shot.py (0123456789ab)", "few_shot.py (ba9876543210)")},
        cells=Cells(10_000, 1000, 1200, 1842),
        ci95=Interval(0.0076, 0.0207),
        p_value=0.0000213,
        p_holm=0.0000426,
        method="exact McNemar test",
        no_answer_a={"failed": 2, "unanswered": 3},
        no_answer_b={},
        unpaired_a=12_000,
        unpaired_b=11_999,
        lines_for_80_percent_power=6020,
        by_subject=subjects,
        changed=changed,
    )


def of_score(score):
    return lambda console: print_score(score, console, title="a" * 30, note="select   by x\nanswers  y")


def of_comparison(found):
    return lambda console: print_comparison(found, console)


def test_a_summary_fits_80_columns(score, comparison):
    for text in (shown(of_score(score)), shown(of_comparison(comparison))):
        assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_a_summary_has_all_of_a_score(score):
    text = shown(of_score(score))
    assert "[2Jkind, 1 content_filter, 1 truncated)" in text
    assert "unanswered    40, failed 3" in text
    assert "of 2003 lines" in text
    assert "of answered" in text
    assert "macro" in text
    assert "chosen        A " in text
    assert "Stuart-Maxwell" in text
    assert "of 1960 lines" in text
    assert text.index("select   by x\n") < text.index("answers  y\n")


def test_a_comparison_has_difference_interval_test_and_lines(comparison):
    text = shown(of_comparison(comparison))
    assert "+1.4 points  (+0.8 to +2.1), 95 % paired bootstrap" in text
    assert "p = 2.1e-05, p = 4.3e-05 by Holm over the runs" in text
    assert "lines 14000, 14001, " in text
    assert "and 22 more (--json has all)" in text
    assert "A: 2 failed, 3 unanswered; they count as wrong" in text
    assert text.count("subject ") == 1 + 5


@pytest.mark.parametrize("kind", ["score", "comparison"])
def test_names_cannot_command_the_terminal(score, comparison, kind):
    text = shown(of_score(score) if kind == "score" else of_comparison(comparison))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert kind == "score" or "[bold]x[/bold]" in text


@pytest.mark.parametrize("kind", ["score", "comparison"])
def test_without_colour_the_same_is_told(score, comparison, kind):
    printed = of_score(score) if kind == "score" else of_comparison(comparison)
    plain = shown(printed)
    coloured = shown(printed, terminal=True)
    without = shown(printed, terminal=True, NO_COLOR="1")
    for text in (coloured, without):
        assert without_bold(text) == plain, "only bold, and never a colour"
    assert "\x1b[1m" in coloured


def without_bold(text):
    return text.replace("\x1b[1m", "").replace("\x1b[0m", "")
