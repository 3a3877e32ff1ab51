"""`report.html` and the page of a comparison: run folders as one page that needs no network."""

from mmlu_pipe.reporting.html.comparison import write_comparison
from mmlu_pipe.reporting.html.report import write_report

__all__ = ["write_comparison", "write_report"]
