"""What a terminal shows of scores: fits 80 columns, tells nothing by colour alone, honours NO_COLOR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmlu_pipe.records import Calibration, Interval, PositionBias, Score
from mmlu_pipe.scoring.positions import letter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mmlu_pipe.scoring.compare import Comparison

__all__ = ["print_comparison", "print_score", "shown_accuracy"]

_SUBJECTS = 10
_CHANGED = 20


def shown_accuracy(accuracy: float | None, interval: Interval | None) -> str:
    """`43.0 %  (34.3 to 52.2)`: percent, and the 95 % interval."""
    if accuracy is None:
        return "none"
    told = "" if interval is None else f"  ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    return f"{100 * accuracy:.1f} %{told}"


def print_score(score: Score, console: Console, *, title: str, run_dir: Path | None = None, note: str = "") -> None:
    """Print the headline, what went wrong, the categories, and what the answers tell of the model."""
    _print(console, title, style="bold")
    _row(console, "accuracy", f"{shown_accuracy(score.accuracy, score.ci95)}, 95 % Wilson interval", style="bold")
    if score.macro is not None and score.macro.subjects > 1:
        error = "" if score.macro.stderr is None else f", standard error {100 * score.macro.stderr:.1f}"
        _row(
            console, "macro", f"{shown_accuracy(score.macro.accuracy, None)}, of {score.macro.subjects} subjects{error}"
        )
    _row(console, "correct", f"{score.n_correct} of {score.count} lines")
    if score.failed or score.unanswered or score.invalid:
        kinds = ", ".join(f"{count} {kind}" for kind, count in score.failed_by_kind.items())
        _row(console, "unanswered", f"{score.unanswered}, failed {score.failed}{f' ({kinds})' if kinds else ''}")
        _row(console, "answered", f"{score.answered}, of them {score.invalid} out of range")
        _row(console, "of answered", shown_accuracy(score.accuracy_answered, score.ci95_answered))
    if score.by_category:
        rows = [
            (name, str(part.count), str(part.n_correct), shown_accuracy(part.accuracy, part.ci95))
            for name, part in score.by_category.items()
        ]
        console.print(_table(("category", "lines", "correct", "accuracy (95 %)"), rows))
    if score.position_bias is not None:
        _positions(console, score.position_bias)
    if score.calibration is not None:
        _calibration(console, score.calibration)
    for line in note.splitlines():
        _print(console, line)
    if run_dir is not None:
        _row(console, "run folder", str(run_dir), soft_wrap=True)


def print_comparison(found: Comparison, console: Console, b: str = "B") -> None:
    """Print how two runs, A and `b`, differ, the subjects where they do most, and the lines that changed."""
    cells = found.cells
    for name, folder in (("A", found.run_a), (b, found.run_b)):
        _row(console, name, folder, soft_wrap=True)
    for what, (there, here) in found.differences.items():
        _row(console, what, f"A {there}; {b} {here}")
    there, here = (f"{100 * (cells.both + only) / cells.n:.1f} %" for only in (cells.only_a, cells.only_b))
    _row(console, "accuracy", f"A {there}, {b} {here} of {cells.n} lines")
    interval = f"({100 * found.ci95.low:+.1f} to {100 * found.ci95.high:+.1f})"
    _row(console, f"{b} - A", f"{_signed(100 * found.delta)} points  {interval}, 95 % paired bootstrap", style="bold")
    holm = "" if found.p_holm == found.p_value else f", {_p(found.p_holm)} by Holm over the runs"
    _row(console, "McNemar", f"{_p(found.p_value)}{holm}", style="bold")
    only = f"only A {cells.only_a}, only {b} {cells.only_b}"
    _row(console, "right in", f"both {cells.both}, {only}, neither {cells.neither}")
    if found.lines_for_80_percent_power is not None:
        _row(console, "power", f"{found.lines_for_80_percent_power} lines show such a difference 4 times in 5")
    for name, without in (("A", found.no_answer_a), (b, found.no_answer_b)):
        if without:
            told = ", ".join(f"{count} {what}" for what, count in without.items())
            _row(console, "no answer", f"{name}: {told}; they count as wrong")
    if found.unpaired_a or found.unpaired_b:
        _row(console, "left out", f"lines of one run only: {found.unpaired_a} of A, {found.unpaired_b} of {b}")
    differing = [(name, part) for name, part in found.by_subject.items() if part.cells.only_a or part.cells.only_b]
    if differing:
        differing.sort(key=lambda item: item[1].p_value)
        rows = [
            (
                *(name, str(part.cells.n), str(part.cells.only_a), str(part.cells.only_b)),
                *(f"{100 * part.cells.delta:+.1f}", f"{part.p_value:.2g}", f"{part.p_holm:.2g}"),
            )
            for name, part in differing[:_SUBJECTS]
        ]
        console.print(_table(("subject", "lines", "only A", f"only {b}", f"{b} - A", "p", "p Holm"), rows))
    if found.changed:
        numbers = ", ".join(str(line.line_number) for line in found.changed[:_CHANGED])
        more = len(found.changed) - _CHANGED
        _row(console, "changed", f"lines {numbers}{f' and {more} more (--json has all)' if more > 0 else ''}")


def _positions(console: Console, bias: PositionBias) -> None:
    _row(console, "chosen", _letters(bias.chosen))
    _row(console, "answer key", _letters(bias.correct))
    if bias.marginal_homogeneity is not None:
        _row(console, "bias", f"{_p(bias.marginal_homogeneity.p_value)}, Stuart-Maxwell test of the two above")


def _calibration(console: Console, found: Calibration) -> None:
    error, outside = 100 * found.expected_calibration_error, 100 * found.mass_outside
    figures = f"error {error:.1f} %, Brier {found.brier:.3f}, {outside:.1f} % outside"
    _row(console, "calibration", f"{figures}, of {found.lines} lines")


def _letters(counts: Sequence[int]) -> str:
    return ", ".join(f"{letter(place)} {count}" for place, count in enumerate(counts))


def _signed(points: float) -> str:
    return f"{round(points, 1) + 0.0:+.1f}"  # no -0.0


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 1e-6 else "p < 0.000001"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3 if len(names) < 5 else 2, 0, 0))
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_plain(cell)) for cell in row))
    return table


def _row(console: Console, name: str, text: str, *, style: str | None = None, soft_wrap: bool = False) -> None:
    _print(console, f"{name:<14}{text}", style=style, soft_wrap=soft_wrap)


def _print(console: Console, text: str, *, style: str | None = None, soft_wrap: bool = False) -> None:
    console.print(_plain(text), style=style, soft_wrap=soft_wrap, highlight=False, markup=False)


def _plain(text: str) -> str:
    """Without control characters: names come from datasets, and a terminal obeys them."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
