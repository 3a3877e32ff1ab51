"""A sweep: the grid of its cells, its folder, and what came of it as one table."""

from mmlu_pipe.grid.cells import Axis, Cell, axes_of, cells_of
from mmlu_pipe.grid.folder import SweepFolder
from mmlu_pipe.grid.result import CellResult, Difference, Sweep, cell_result, compared

__all__ = [
    "Axis",
    "Cell",
    "CellResult",
    "Difference",
    "Sweep",
    "SweepFolder",
    "axes_of",
    "cell_result",
    "cells_of",
    "compared",
]
