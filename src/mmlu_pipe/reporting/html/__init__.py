"""`report.html`: a run folder as one page that needs no network."""

from mmlu_pipe.reporting.html.report import write_report

__all__ = ["write_report"]
