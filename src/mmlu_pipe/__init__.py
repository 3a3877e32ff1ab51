"""Evaluate chat models on MMLU with guidance programs."""

__version__ = "0.1.0"
