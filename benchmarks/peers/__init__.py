"""Other evaluation frameworks on the same questions and the same endpoint, each at the best settings that we found.

    python -m benchmarks throughput --peers

Each peer lives in a virtual environment of its own, which is made here and thrown away. Its script evaluates a few
questions first, which is not counted, and prints the CPU seconds and wall seconds of the evaluation that follows.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.throughput import CONNECTIONS, LATENCY_S, WARM_UP, WORKERS, counters, endpoint, write_lines

FOLDER = Path(__file__).parent
PACKAGES = {
    "inspect_ai": ("inspect-ai==0.3.285", "openai==3.54.0"),
    "lm_eval": ("lm-eval[api]==0.4.13",),
}
LINES = 1_000
ROUNDS = 16


def run(python: Path, peer: str, *arguments: object) -> list[float]:
    command = [python, FOLDER / f"{peer}_peer.py", *map(str, arguments)]
    environment = os.environ | {"OPENAI_API_KEY": "key", "AZUREAI_OPENAI_API_KEY": "key"}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return [float(value) for value in json.loads(found.stdout.splitlines()[-1])]


def measure(folder: Path, peer: str, python: Path) -> None:
    warm_up, dataset = folder / "warm-up.jsonl", folder / "dataset.jsonl"
    write_lines(warm_up, WARM_UP)
    write_lines(dataset, LINES)
    with endpoint(folder) as url:
        cpu, _ = run(python, peer, warm_up, dataset, url, WORKERS)
    print(f"  {peer}: {cpu / LINES * 1000:.1f} CPU-ms a question, {LINES} questions, {WORKERS} at once, no latency")
    for connections in CONNECTIONS:
        lines = connections * ROUNDS
        write_lines(dataset, lines)
        with endpoint(folder, LATENCY_S) as url:
            run(python, peer, warm_up, dataset, url, connections)
            seen = counters(url)
        ideal = lines * LATENCY_S / connections
        print(
            f"    {LATENCY_S * 1000:.0f} ms latency, {connections} connections: {ideal / seen['seconds']:.0%} of the "
            f"ideal ({seen['requests']:.0f} requests, {seen['connections']:.0f} connections opened)"
        )


def compare() -> None:
    """Print what each peer needs."""
    print("peers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for peer, packages in PACKAGES.items():
            venv = folder / peer
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            python = venv / "bin" / "python"
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
            measure(folder, peer, python)
