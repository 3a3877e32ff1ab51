"""Measurements, printed and never judged: `make bench`."""
