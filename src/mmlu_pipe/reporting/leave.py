"""The page that every completed run leaves in its folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["leave_report"]

_log = logging.getLogger("mmlu_pipe.reporting")


def leave_report(run_dir: Path) -> None:
    """Write `report.html`, unless MMLU_PIPE_NO_REPORT is set; whatever goes wrong, the run stays as it is."""
    if os.environ.get("MMLU_PIPE_NO_REPORT"):
        return
    try:
        from mmlu_pipe.reporting.html import write_report

        write_report(run_dir)
    except Exception as error:  # noqa: BLE001 - evidence for people must not cost a run
        _log.warning(
            "%s: has no report.html (%s: %s); to write it: mmlu-pipe report %s",
            run_dir,
            type(error).__name__,
            error,
            run_dir,
        )
