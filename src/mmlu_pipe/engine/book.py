"""A run's lines from the first to the last: which are left, what became of the others, and the files made of it."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from mmlu_pipe.engine.checkpoints import Checkpoints, go_on_from
from mmlu_pipe.engine.evaluate import Line, not_run
from mmlu_pipe.engine.ledger import Ledger, Record
from mmlu_pipe.engine.lines import Lines
from mmlu_pipe.engine.publish import Outputs, publish, to_record
from mmlu_pipe.engine.tally import Tally
from mmlu_pipe.errors import DatasetError, RunFolderError
from mmlu_pipe.records import JsonObject, LineAnswer

__all__ = ["Book"]

_log = logging.getLogger("mmlu_pipe.engine")


class Book:
    """Keeps every line's fate at once, and publishes all of them in the end; safe to share between threads.

    Args:
        lines: the dataset.
        run: what decides the answers, as Ledger takes it.
        outputs: where the files of the run go.
        ledger: a file on local disk; None takes a temporary one.
        checkpoints: folder for copies of the ledger, which is continued from them; None makes none.
        checkpoint_every: finished lines between one copy and the next.
        resume_from: checkpoints of an earlier job, whose finished lines are taken over; None takes none.
        retry_errors: leave the failed lines to be asked again.

    Attributes:
        tally: the counts of all lines so far, those of earlier processes among them.
        published: whether the files of the run are written.

    Raises:
        RunFolderError: the ledger is of another run, or it or a file of the run cannot be written.
    """

    def __init__(
        self,
        lines: Lines,
        run: Callable[[str], JsonObject],
        outputs: Outputs,
        *,
        ledger: Path | None = None,
        checkpoints: Path | None = None,
        checkpoint_every: int = 100,
        resume_from: Path | None = None,
        retry_errors: bool = False,
    ) -> None:
        outputs.check()
        self.published = False
        self._lines = lines
        self._outputs = outputs
        self._temporary = Path(tempfile.mkdtemp(prefix="mmlu-pipe-")) if ledger is None else None
        self._path = ledger or Path(self._temporary or ".", "ledger.jsonl")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.callback(self._discard)
            self._ledger = stack.enter_context(Ledger(self._path, run))
            self._checkpoints = (
                None if checkpoints is None else Checkpoints(self._ledger, checkpoints, checkpoint_every)
            )
            if resume_from is not None:
                go_on_from(self._ledger, resume_from)
            if retry_errors:
                self._ledger.reopen_failed()
            self.tally = Tally.of(self._ledger.records())
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._ledger.close()

    def left(self) -> Iterator[Line]:
        """The lines that are not finished.

        Raises:
            DatasetError: the dataset was changed since it was checked.
        """
        return self._lines.read(skip=self._ledger.__contains__)

    def keep(self, answer: LineAnswer, final: bool) -> None:
        """Keep what became of a line.

        Raises:
            RunFolderError: the ledger cannot be written.
        """
        self._ledger.append(to_record(answer, final=final))
        if self._checkpoints is not None and final:
            self._checkpoints.count()

    def save(self) -> None:
        """Write a checkpoint of what there is."""
        if self._checkpoints is not None:
            self._checkpoints.write()

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """When the run ends, whatever ends it, save what there is and publish; told to end at once, only save.

        Raises:
            RunFolderError: a file cannot be written; the ledger has all.
        """
        try:
            yield
        except KeyboardInterrupt:
            self.save()
            if self._temporary is not None and self._checkpoints is None:
                _log.warning("%s: holds every finished line; name it as --ledger to go on", self._path)
            raise
        except BaseException:
            self.save()
            self._publish()
            raise
        self.save()
        self._publish()

    def _publish(self) -> None:
        """Write the files of the run; lines without a fate are told as not run."""
        self._ledger.close()
        try:
            publish(self._ledger.records(), self._not_run(), self._outputs)
        except RunFolderError as error:
            told = f"{error}\n  every finished line is in {self._path}; make room and go on from there"
            failed = RunFolderError(told, path=error.path)
            failed.exit_code = error.exit_code
            raise failed from error
        self.published = True
        self._discard()
        self.tally.add_not_run(len(self._lines) - self.tally.answered - self.tally.failed)

    def _discard(self) -> None:
        """Remove the temporary ledger; one that was named stays."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _not_run(self) -> Iterator[Record]:
        if self.tally.answered + self.tally.failed < len(self._lines):
            with contextlib.suppress(DatasetError):  # it was changed, which the run has said already
                for number, line in self._lines.read(skip=self._ledger.knows):
                    yield to_record(not_run(number, line), final=False)
