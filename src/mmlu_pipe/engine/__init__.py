"""Runs a program over every line: bounded workers, input order, error budget, progress."""
