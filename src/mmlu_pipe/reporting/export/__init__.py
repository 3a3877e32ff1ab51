"""A completed run for other tools: an Inspect log, Parquet, CSV, and data frames."""

from mmlu_pipe.reporting.export.files import FORMATS, export_run

__all__ = ["FORMATS", "export_run"]
