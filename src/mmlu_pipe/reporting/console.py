"""The summary of a run in a terminal: fits 80 columns, tells nothing by colour alone, honours NO_COLOR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmlu_pipe.records import Interval, Score, SubScore

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_score", "shown_accuracy"]


def shown_accuracy(accuracy: float | None, interval: Interval | None) -> str:
    """`43.0 %  (34.3 to 52.2)`: percent, and the 95 % interval."""
    if accuracy is None:
        return "none"
    told = "" if interval is None else f"  ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    return f"{100 * accuracy:.1f} %{told}"


def print_score(score: Score, console: Console, *, title: str, run_dir: Path | None = None, note: str = "") -> None:
    """Print the headline, the categories and what went wrong."""
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(title)}[/bold]")
    console.print(f"accuracy      [bold]{shown_accuracy(score.accuracy, score.ci95)}[/bold], 95 % Wilson interval")
    console.print(f"correct       {score.n_correct} of {score.count} lines")
    if score.failed or score.unanswered or score.invalid:
        kinds = ", ".join(f"{count} {kind}" for kind, count in score.failed_by_kind.items())
        console.print(
            f"unanswered    {score.unanswered}, failed {score.failed}{f' ({escape(kinds)})' if kinds else ''}"
        )
        console.print(f"answered      {score.answered}, of them {score.invalid} out of range")
        console.print(f"of answered   {shown_accuracy(score.accuracy_answered, None)}")
    if score.by_category:
        console.print(_table(Table(box=None, pad_edge=False, padding=(0, 3, 0, 0)), score.by_category))
    if note:
        console.print(escape(note), highlight=False)
    if run_dir is not None:
        console.print(f"run folder    {escape(str(run_dir))}", soft_wrap=True, highlight=False)


def _table(table: Table, parts: Mapping[str, SubScore]) -> Table:
    from rich.markup import escape

    for name in ("category", "lines", "correct", "accuracy (95 %)"):
        table.add_column(name, justify="left" if name == "category" else "right")
    for name, part in parts.items():
        table.add_row(escape(name), str(part.count), str(part.n_correct), shown_accuracy(part.accuracy, part.ci95))
    return table


if TYPE_CHECKING:
    from rich.table import Table
