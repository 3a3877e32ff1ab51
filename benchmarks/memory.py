"""What a whole local run keeps in memory, scoring included: 10,000 lines beside a hundred times as many.

    python -m benchmarks memory [--million]

Without the flag the larger run has 100,000 lines, which takes minutes; with it 1,000,000, which takes as long as the
questions of that run cost. The endpoint is that of the throughput benchmark.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.throughput import ENDPOINT, endpoint, write_lines

FEW, MANY, MILLION = 10_000, 100_000, 1_000_000
WORKERS = 16


def measure(folder: Path, url: str, lines: int) -> tuple[float, float, float]:
    """Peak MB, CPU seconds and wall seconds of `mmlu-pipe run` in a process of its own."""
    dataset, config = folder / f"{lines}.jsonl", folder / "other_configs.json"
    write_lines(dataset, lines)
    config.write_text(json.dumps(ENDPOINT | {"aoai_endpoint": url}), encoding="utf-8")
    arguments = ["run", "--dataset", dataset, "--other-config", config, "--workers", str(WORKERS)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mmlu_pipe", *map(str, arguments), "--output-dir", str(folder / f"run {lines}")],
        env=os.environ | {"AZURE_OPENAI_API_KEY": "key"},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return peak, used.ru_utime + used.ru_stime, time.perf_counter() - started


def main(*options: str) -> None:
    many = MILLION if "--million" in options else MANY
    print(f"memory of a whole local run, {WORKERS} workers")
    with tempfile.TemporaryDirectory() as name, endpoint(Path(name)) as url:
        found = [(lines, *measure(Path(name), url, lines)) for lines in (FEW, many)]
    for lines, peak, cpu, wall in found:
        print(f"  {lines:>9,} lines  {peak:6.0f} MB at most  {cpu:7.1f} CPU-s  {wall:7.1f} s")
    print(f"  difference   {found[1][1] - found[0][1]:6.0f} MB")
