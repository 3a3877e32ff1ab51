"""Run every benchmark, or those named on the command line."""

import importlib
import sys

BENCHMARKS = ("startup", "replay", "throughput", "limits", "scoring", "report")

options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
for name in [argument for argument in sys.argv[1:] if argument not in options] or BENCHMARKS:
    importlib.import_module(f"benchmarks.{name}").main(*options)
