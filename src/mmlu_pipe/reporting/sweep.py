"""The table of a sweep for a terminal of 80 columns: each cell has a line of options and one of figures."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from mmlu_pipe.records import Interval

if TYPE_CHECKING:
    from mmlu_pipe.grid import CellResult, Sweep

__all__ = ["sweep_table"]

_WIDTH = 80
_ROW = "  {:<19} {:<22} {:>6} {:>8} {:>6} {:>5} {:>6}"


def sweep_table(found: Sweep) -> str:
    """The table, and what its columns mean."""
    names = {cell.name: number for number, cell in enumerate(found.cells, start=1)}
    lines = [_ROW.format("accuracy % (95 %)", "difference (95 %)", "p", "answered", "failed", "calls", "tokens")]
    for cell in found.cells:
        options = ", ".join(f"{key}={label}" for key, label in cell.options.items())
        beside = "" if cell.difference is None else f"  (beside {names[cell.difference.cell]})"
        lines += textwrap.wrap(f"{names[cell.name]}  {options}{beside}", _WIDTH, subsequent_indent="   ")
        lines.append(_figures(cell))
    if any(cell.difference for cell in found.cells):
        lines.append("difference    in points, by the paired bootstrap; p of McNemar's exact test")
    return "\n".join([*lines, f"sweep folder  {found.run_dir}"])


def _figures(cell: CellResult) -> str:
    score, difference = cell.score, cell.difference
    if score is None:
        told = f"job {cell.job}" if cell.job else ""
        return f"  {cell.status}{f', {told}' if told else ''}"
    accuracy = "none" if score.accuracy is None else f"{100 * score.accuracy:.1f}{_ends(score.ci95, '')}"
    delta = p_value = ""
    if difference is not None:
        delta = f"{100 * difference.delta:+.1f}{_ends(difference.ci95, '+')}"
        p_value = f"{difference.p_value:.{2 if difference.p_value >= 1e-3 else 1}g}"
    calls, tokens = _short(cell.calls, exact=100_000), _short(sum(cell.tokens.values()))
    return _ROW.format(accuracy, delta, p_value, score.answered, score.failed, calls, tokens)


def _ends(interval: Interval | None, sign: str) -> str:
    return "" if interval is None else f" ({100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f})"


def _short(count: int, *, exact: int = 1_000) -> str:
    """In five letters."""
    if count < exact:
        return str(count)
    size, sign = (1_000_000, "M") if count >= 999_500 else (1_000, "k")
    return f"{count / size:.{1 if count < 99.95 * size else 0}f}{sign}"
