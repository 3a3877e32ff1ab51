"""Run every benchmark, or those named on the command line."""

import importlib
import sys

BENCHMARKS = ("startup", "replay")

for name in sys.argv[1:] or BENCHMARKS:
    importlib.import_module(f"benchmarks.{name}").main()
