"""What benchmarks write into the documentation."""

from collections.abc import Sequence
from pathlib import Path

from mmlu_pipe.records import Interval

END = "<!-- end of what was measured -->"


def put(path: Path, begin: str, found: str) -> None:
    """Put text between two marks of a page: `begin`, and `END`.

    Raises:
        SystemExit: the page has no marks.
    """
    page = path.read_text(encoding="utf-8")
    before, mark, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{path} has no place for what was measured: a mark is missing")
    path.write_text(f"{before}{begin}\n{found}\n{END}{after}", encoding="utf-8", newline="\n")


def accuracy(value: float, ci95: Interval) -> str:
    """In percent, with its interval."""
    return f"{value:.1%} ({100 * ci95.low:.1f} to {100 * ci95.high:.1f})"


def difference(delta: float, ci95: Interval) -> str:
    """In points, with its interval."""
    return f"{100 * delta:+.1f} ({100 * ci95.low:+.1f} to {100 * ci95.high:+.1f})"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)
