"""Running a grid of evaluations."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.api.running import PathLike, Ready, config_of, prepare, start
from mmlu_pipe.config import RunConfig
from mmlu_pipe.configfile import layered, read_file
from mmlu_pipe.errors import ConfigError, MmluPipeError, RunCancelled
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.manifest import Manifest
from mmlu_pipe.runfolder import RunFolder, fresh_folder

if TYPE_CHECKING:
    from mmlu_pipe.backends.base import Run
    from mmlu_pipe.grid import Axis, Cell, CellResult, Sweep

__all__ = ["sweep", "sweep_of"]

_log = logging.getLogger("mmlu_pipe.sweep")


def sweep(
    config: PathLike | None = None, *, over: Mapping[str, Sequence[Any]], wait: bool = True, **options: Any
) -> Sweep:
    """Evaluate with every combination of some options' values.

    Args:
        config: a `run.yaml` with the options of all runs.
        over: option → its values.
        wait: wait for jobs; without it they are submitted only.
        **options: those of `run`, which win over the file; `output_dir` is the folder of the sweep.

    Returns:
        The sweep: a run that failed is among its `.failed`, and does not keep others from running.

    Raises:
        MmluPipeError: the input of a cell is refused, and nothing was started; or the sweep was stopped.
    """
    from mmlu_pipe.grid import axes_of

    given = config_of(**options)
    base = layered({} if config is None else read_file(Path(config)), {name: getattr(given, name) for name in options})
    name = "python" if config is None else Path(config).stem
    return sweep_of(RunConfig(**base), axes_of(over), name=name, wait=wait)


def sweep_of(
    base: RunConfig, axes: Sequence[Axis], *, name: str, wait: bool, begin: Callable[[], None] = lambda: None
) -> Sweep:
    """`sweep` of options that are together already.

    Args:
        base: the options of all cells; its output_dir is the folder of the sweep.
        axes: what varies.
        name: what a new folder is named after.
        wait: wait for jobs.
        begin: called before each cell.

    Raises:
        MmluPipeError: as for `sweep`.
    """
    from mmlu_pipe.grid import Sweep, SweepFolder, cells_of, compared

    place = base.output_dir or fresh_folder(f"sweep-{name}")
    cells = cells_of(base, axes, place)
    with SweepFolder.open(place, base, axes) as folder:
        checked = _checked(cells)
        folder.begin()
        started = []
        for number, (cell, files) in enumerate(zip(cells, checked, strict=True), start=1):
            begin()
            _log.info("cell %d of %d: %s", number, len(cells), cell.name)
            started.append(_started(cell, files, place))
        ended = [_ended(cell, run, wait=wait) for cell, run in zip(cells, started, strict=True)]
        found = Sweep(place, [str(axis) for axis in axes], compared(ended))
        folder.write(found)
    return found


def _checked(cells: Sequence[Cell]) -> list[dict[Path, str]]:
    """Check all cells before one of them costs anything, or goes on with something else than it began with.

    Returns:
        For each cell its files → SHA-256.

    Raises:
        ConfigError: saying what is refused, and of which cells.
    """
    refused: dict[str, list[str]] = {}
    found = []
    for cell in cells:
        try:
            ready = _ready(cell)
            objections = ready.objections
            found.append({path: sha256_file(path) for path in ready.inputs.values() if path.is_file()})
        except MmluPipeError as error:
            if error.exit_code != 2:  # such as a workspace that cannot be reached
                raise
            objections = [str(error)]
        for text in objections:
            refused.setdefault(text, []).append(cell.name)
    if refused:
        told = [
            f"  {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
            for text, names in refused.items()
        ]
        raise ConfigError("\n".join(["nothing was started", *told]))
    return found


def _ready(cell: Cell) -> Ready:
    """A cell for which everything was found.

    Raises:
        MmluPipeError: its input is refused, or its folder holds a run on other input.
    """
    ready = prepare(cell.config)
    assert cell.config.output_dir is not None
    manifest = RunFolder(cell.config.output_dir).manifest
    if manifest.is_file():
        Manifest(manifest, ready.config, ready.inputs, ready.endpoint)
    return ready


def _started(cell: Cell, files: Mapping[Path, str], place: Path) -> Run | MmluPipeError:
    """The cell's run, or why there is none; one on other files than the first cell's would compare what nobody asked.

    Raises:
        RunCancelled: the sweep is to stop.
    """
    try:
        for path, digest in files.items():
            if not path.is_file() or sha256_file(path) != digest:
                raise ConfigError(f"{path}: changed since the sweep began; change it back, or begin another sweep")
        found: Run | MmluPipeError = start(cell.config)
    except MmluPipeError as refused:
        found = refused
    error = found if isinstance(found, MmluPipeError) else found.error
    if isinstance(error, RunCancelled):
        advice = f"to go on, repeat the command with --output-dir {shlex.quote(str(place))}"
        raise RunCancelled(f"{error}\n  {advice}", signal_number=error.signal_number)
    if error is not None:
        _log.info("cell %s failed", cell.name)
    return found


def _ended(cell: Cell, run: Run | MmluPipeError, *, wait: bool) -> CellResult:
    from mmlu_pipe.grid import cell_result

    if isinstance(run, MmluPipeError):
        return cell_result(cell, "failed", run)
    lost: MmluPipeError | None = None
    if run.status == "running" and wait:
        try:
            run.wait()
        except MmluPipeError as error:  # the run's, or what kept us from seeing its end
            lost = error
    return cell_result(cell, run.status, run.error or lost)
