"""The lines of a dataset as a run takes them: checked once, and the same bytes every time they are read again."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from mmlu_pipe.errors import DatasetError
from mmlu_pipe.jsonl import list_problems, parse_object, raw_lines
from mmlu_pipe.records import ERROR_KEY, JsonObject

__all__ = ["Lines"]


class Lines:
    """Those lines of a JSONL file that a run evaluates.

    Args:
        path: the dataset.
        wanted: 1-based numbers of the lines; None takes all.
        limit: the first so many of them; None takes all.

    Raises:
        DatasetError: listing all bad lines, or naming a wanted line that is not there.
    """

    def __init__(self, path: Path, wanted: frozenset[int] | None = None, limit: int | None = None) -> None:
        self._path = path
        self._wanted = wanted
        self._sums = array("I")  # check sum of each line that is evaluated, in their order
        absent = set(wanted or ())

        def problems() -> Iterator[tuple[int, str]]:
            for number, raw in raw_lines(path):
                absent.discard(number)
                if (wanted is None or number in wanted) and (limit is None or len(self._sums) < limit):
                    self._sums.append(zlib.crc32(raw))
                try:
                    parse_object(raw)
                except ValueError as error:
                    yield number, str(error)

        list_problems(path, problems())
        if absent:
            raise DatasetError(f"{path}: has no line {min(absent)}; see --lines", path=path)
        if not self._sums:
            raise DatasetError(f"{path}: is empty; a dataset has at least one line", path=path)

    def __len__(self) -> int:
        return len(self._sums)

    def read(self, skip: Callable[[int], bool] = lambda _number: False) -> Iterator[tuple[int, JsonObject]]:
        """Yield (line number, line), without those to skip.

        An errors file that is read as a dataset loses its reserved key.

        Raises:
            DatasetError: the file is not what it was when it was checked.
        """
        place = 0
        for number, raw in raw_lines(self._path):
            if place == len(self._sums):
                return
            if self._wanted is not None and number not in self._wanted:
                continue
            if zlib.crc32(raw) != self._sums[place]:
                raise self._changed(f"{self._path}:{number}", number)
            place += 1
            if not skip(number):
                line = parse_object(raw)
                line.pop(ERROR_KEY, None)
                yield number, line
        if place < len(self._sums):
            raise self._changed(f"{self._path}", None)

    def _changed(self, where: str, number: int | None) -> DatasetError:
        failed = DatasetError(
            f"{where}: was changed while the run was going; restore it and repeat the command to go on",
            path=self._path,
            line_number=number,
        )
        failed.exit_code = 1  # it was fine a moment ago
        return failed
