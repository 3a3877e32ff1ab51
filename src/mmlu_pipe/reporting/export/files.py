"""A run as one new file: an Inspect log, Parquet, or CSV."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmlu_pipe.errors import ConfigError, RunFolderError
from mmlu_pipe.jsonl import dump_line
from mmlu_pipe.reporting.export.columns import Kind
from mmlu_pipe.reporting.export.rows import Table, line_table
from mmlu_pipe.reporting.export.source import Source
from mmlu_pipe.runfolder import unwritable

__all__ = ["FORMATS", "csv_cell", "export_run"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "＝", "＋", "－", "＠")
_SQL_TYPES = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INTEGER: "BIGINT",
    Kind.NUMBER: "DOUBLE",
    Kind.TEXT: "VARCHAR",
    Kind.TEXTS: "VARCHAR[]",
    Kind.JSON: "VARCHAR",
}
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # the same rows give the same bytes
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def export_run(run_dir: Path, form: str, output: Path | None = None) -> Path:
    """Write a completed run as one new file; nothing is overwritten.

    Args:
        run_dir: the run folder, whose files must be as the run left them.
        form: `inspect`, `parquet` or `csv`.
        output: the file; None takes the format's own name in the run folder.

    Returns:
        The file.

    Raises:
        RunFolderError: it is no folder of a completed run, or a file of it has changed.
        ConfigError: the format is unknown, its package is missing, the file exists, or a key fits into no column.
        DatasetError: a file of the run cannot be read.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: there is none of this name; known are {', '.join(FORMATS)}", key="format")
    name, write = FORMATS[form]
    source = Source.read(run_dir)
    path = run_dir / name if output is None else output
    with _new(path) as temporary:
        write(source, temporary)
    return path


def write_csv(source: Source, path: Path) -> None:
    """One row a line, UTF-8 with line feeds; texts are quoted and nulls are not, so that the two can be told apart.

    A spreadsheet takes a text that begins with certain characters for a formula, and models can write such texts: these
    get an apostrophe in front, as do those that begin with one, so that taking one away gives the text again.
    """
    table = line_table(source)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in _with_head(table):
            file.write(",".join(map(csv_cell, row)) + "\n")


def csv_cell(value: Any) -> str:
    """A value as CSV: texts and lists of texts in quotes, and no text that begins as a formula does."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    safe = f"'{text}" if text.startswith(_FORMULA) else text
    return '"' + safe.replace('"', '""') + '"'


def write_parquet(source: Source, path: Path) -> None:
    """One row a line, written by DuckDB.

    Raises:
        ConfigError: DuckDB refuses a name, such as one that differs from another in its case only.
    """
    import duckdb

    table = line_table(source)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        longest = 0
        with rows.open("wb") as file:
            for row in table.rows():
                longest = max(longest, file.write(dump_line({str(place): value for place, value in enumerate(row)})))
        types = ", ".join(f"'{place}': '{_SQL_TYPES[kind]}'" for place, kind in enumerate(table.kinds.values()))
        names = ", ".join(f'"{place}" AS {_quoted(name)}' for place, name in enumerate(table.names))
        query = (
            f"COPY (SELECT {names} FROM read_json('{_escaped(rows)}', format = 'newline_delimited', "  # noqa: S608
            f"columns = {{{types}}}, maximum_object_size = {longest + 1024})) "
            f"TO '{_escaped(path)}' (FORMAT parquet, COMPRESSION zstd)"
        )
        try:
            with duckdb.connect(config=_SETTINGS) as database:
                database.execute(query)
        except duckdb.Error as error:
            raise ConfigError(
                f"{source.run.path}: cannot be written as Parquet ({str(error).splitlines()[0]}); mend what it names, "
                "or take csv",
                key="format",
            ) from error


def write_inspect(source: Source, path: Path) -> None:
    """A log of inspect-ai: JSON where the file is to be named so, otherwise the package's own `.eval`.

    Raises:
        ConfigError: inspect-ai is not installed.
    """
    from mmlu_pipe.reporting.export.inspect_log import write_log

    write_log(source, path, "json" if path.suffix == ".json" else "eval")


FORMATS: dict[str, tuple[str, Callable[[Source, Path], None]]] = {
    "inspect": ("inspect.eval", write_inspect),
    "parquet": ("lines.parquet", write_parquet),
    "csv": ("lines.csv", write_csv),
}
"""Format → the name of its file, and what writes it."""


def _with_head(table: Table) -> Iterator[list[Any]]:
    yield list(table.names)
    yield from table.rows()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(path: Path) -> str:
    return str(path.absolute()).replace("'", "''")


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which becomes it; nothing is left behind where that fails.

    Raises:
        ConfigError: there is a file of that name.
        RunFolderError: it cannot be written.
    """
    temporary = path.with_name(f".new-{path.name}")
    try:
        path.touch(exist_ok=False)  # nobody else can take the name meanwhile
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists already; give --output another name", path=path, key="output") from error
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        for left in (temporary, path):
            with suppress(OSError):
                left.unlink()
        if isinstance(error, OSError):
            raise _refused(path, error) from error
        raise


def _refused(path: Path, error: OSError) -> RunFolderError:
    return unwritable(path, error.strerror, exit_code=2)
