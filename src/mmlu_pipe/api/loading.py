"""A run that has completed, loaded again for one's own analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.records import JsonObject, Score

if TYPE_CHECKING:
    from mmlu_pipe.reporting.export.source import Source

__all__ = ["LoadedRun", "load_run"]

PathLike = str | Path


class LoadedRun:
    """A completed run; its tables are read from the files each time that one is asked for.

    Every table comes as a `pandas.DataFrame`, a `polars.DataFrame` or, as `arrow`, a `pyarrow.Table`; the library must
    be installed. The columns are told in docs/export.md.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return self._source.run.path

    @property
    def score(self) -> Score:
        """The content of `score.json`."""
        return self._source.score

    @property
    def manifest(self) -> JsonObject:
        """The content of `manifest.json`."""
        return self._source.manifest

    def lines(self, kind: str = "pandas") -> Any:
        """One row a line, in the order of the dataset: its keys, the program's, and what became of it.

        Args:
            kind: `pandas`, `polars` or `arrow`.

        Raises:
            MmluPipeError: the library is not installed, or a file of the run cannot be read.
        """
        from mmlu_pipe.reporting.export.frames import frame
        from mmlu_pipe.reporting.export.rows import line_table

        return frame(line_table(self._source), kind)

    def calls(self, kind: str = "pandas") -> Any:
        """One row a model call, with the keys of `calls.jsonl`; arguments and errors are those of `lines`."""
        from mmlu_pipe.reporting.export.frames import frame
        from mmlu_pipe.reporting.export.rows import call_table

        return frame(call_table(self._source), kind)

    def errors(self, kind: str = "pandas") -> Any:
        """One row a failed line, with all that is told of its failure; arguments and errors are those of `lines`."""
        from mmlu_pipe.reporting.export.frames import frame
        from mmlu_pipe.reporting.export.rows import error_table

        return frame(error_table(self._source), kind)


def load_run(run_dir: PathLike) -> LoadedRun:
    """Load a completed run from its folder.

    Raises:
        MmluPipeError: it is no folder of a completed run, or a file of it is not as the run left it.
    """
    from mmlu_pipe.reporting.export.source import Source

    return LoadedRun(Source.read(Path(run_dir)))
