"""Datasets: checked lines, named files, and MMLU from where it is published."""
