"""How long a person waits: the package's import, the help, and the whole default run, each in a fresh process.

Beside each stands a bare interpreter's start, so that a slow machine shows as such. After one run that is not counted,
the median and the extremes of several.
"""

import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 7
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import mmlu_pipe": ["-c", "import mmlu_pipe"],
    "mmlu-pipe --help": ["-m", "mmlu_pipe", "--help"],
    "mmlu-pipe run (114 lines replayed)": ["-m", "mmlu_pipe", "run"],
}


def seconds(arguments: list[str]) -> list[float]:
    found = []
    for _ in range(RUNS + 1):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
            found.append(time.perf_counter() - started)
    return found[1:]


def main() -> None:
    print(f"startup, wall seconds of {RUNS} runs: median (fastest to slowest)")
    for name, arguments in COMMANDS.items():
        found = seconds(arguments)
        print(f"  {name:<36} {statistics.median(found):6.3f}  ({min(found):.3f} to {max(found):.3f})")
