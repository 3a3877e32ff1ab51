"""The command line: one small module for each command, no logic."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script `mmlu-pipe`."""
    from mmlu_pipe.cli.root import invoke

    invoke()
