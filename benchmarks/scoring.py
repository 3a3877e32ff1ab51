"""What scoring costs as a file grows: CPU seconds and memory of the component by its command line.

Each figure is of a fresh process, its start and imports included, over all of its threads. Beside it stands a plain
loop of `json.loads` and a dictionary, and what the imports alone cost. The lines are made up with a fixed seed: 57
subjects, texts as long as MMLU's (535 bytes a line on average, the mean of its validation split), and as many of
them with escapes or letters beyond ASCII (about one in seven each).
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (10_000, 1_000_000)
RUNS = 3
MODULE = "mmlu_pipe.components.jsonl_score_multiplechoice"
PLAIN = """
import json, sys
counts = {}
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in map(json.loads, lines):
        subject = counts.setdefault(line["subject"], [0, 0])
        subject[0] += 1
        subject[1] += line["zero_shot_choice"] == line["correct_answer"]
"""


def make(path: Path, count: int) -> None:
    from mmlu_pipe.scoring.categories import SUBJECTS

    chooser = random.Random(5)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(chooser.choices(letters, k=max(1, round(chooser.gauss(4.7, 2.2))))) for _ in range(3000)]
    rare = {0: ' "so" ', 1: "\n", 2: " \\frac ", 3: " Schrödinger ", 4: " — "}
    pool = " ".join(chooser.choices(words, k=60_000))

    def text(mean: float, spread: float, least: int, most: int) -> str:
        length = max(least, min(most, round(chooser.lognormvariate(mean, spread))))
        start = chooser.randrange(len(pool) - length)
        return pool[start : start + length]

    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number in range(count):
            line = {
                "dataset": "mmlu",
                "subject": SUBJECTS[number % len(SUBJECTS)],
                "question": text(5.2, 0.85, 20, 3000) + rare.get(chooser.randrange(18), "") + "?",
                "choices": [text(3.2, 0.8, 1, 300).strip() for _ in range(4)],
                "correct_answer": chooser.randrange(4),
                "zero_shot_choice": chooser.randrange(4),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def cost(arguments: list[str]) -> tuple[float, float]:
    """CPU seconds (user and system) and peak MB of a fresh process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def show(name: str, arguments: list[str], runs: int = RUNS) -> None:
    found = [cost(arguments) for _ in range(runs)]
    seconds = sorted(each for each, _ in found)
    print(
        f"  {name:<38} {seconds[len(seconds) // 2]:6.2f} CPU-s ({seconds[0]:.2f} to {seconds[-1]:.2f})"
        f"  {max(memory for _, memory in found):5.0f} MB"
    )


def main() -> None:
    print(f"scoring: CPU seconds of a process, median of {RUNS} (least to most), and its peak memory")
    show("import of the component", ["-c", f"import {MODULE}"])
    show("import of the component and duckdb", ["-c", f"import {MODULE}, duckdb"])
    with tempfile.TemporaryDirectory() as name:
        for size in SIZES:
            source = Path(name, f"{size}.jsonl")
            make(source, size)
            ports = [f"--input_dataset={source}", f"--score_dataset={source}.score.json"]
            print(f"  {size} lines, {source.stat().st_size / 1e6:.0f} MB")
            show("  component 2", ["-m", MODULE, *ports])
            show("  plain json and a dictionary", ["-c", PLAIN, str(source)], runs=1 if size > 100_000 else RUNS)
