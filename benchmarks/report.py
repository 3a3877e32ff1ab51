"""What the pages cost: writing them in a fresh process, their size, and how long a browser takes for them.

They are the report of a run, and the comparison of two runs that guess, which differ on 3 lines of 8; its seconds are
those beyond the comparison itself. The run folders hold lines and calls as long as MMLU's are on average, with
distributions. First paint is the browser's own first contentful paint; the list counts as usable when its filters are
shown; a filter's time goes from the input to the painted rows.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (114, 14_042)
RUNS = 5
WORDS = ("the", "of", "a", "which", "process", "cell", "number", "law", "market", "theory", "is", "in", "for", "under")
SEARCHES = ("process of", "market", "law theory", "zzz", "e")
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
FILTER = """async (wanted) => {
  const box = document.getElementById("text");
  const started = performance.now();
  box.value = wanted;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - started;
}"""


def lines(size: int) -> list[dict[str, object]]:
    from mmlu_pipe.scoring.categories import SUBJECTS

    chance = random.Random(3)

    def words(count: int) -> str:
        return " ".join(chance.choice(WORDS) for _ in range(count))

    return [
        {
            "dataset": "mmlu",
            "subject": SUBJECTS[number * len(SUBJECTS) // size],
            "question": f"{words(chance.randint(10, 90))} {number}?",
            "choices": [words(chance.randint(1, 12)) for _ in range(4)],
            "correct_answer": chance.randrange(4),
        }
        for number in range(size)
    ]


def call(number: int, line: dict[str, object], distribution: dict[str, float], said: str) -> dict[str, object]:
    chance = random.Random(number)
    system = "You take a multiple choice test. Exactly one choice is correct. Answer with its number only."
    choices = "".join(f"{place}: {choice}\n" for place, choice in enumerate(line["choices"]))
    asked = f"{line['question']}\n\n{choices}\nThe number of the correct choice is:"
    return {
        "line_number": number,
        "index": 0,
        "request_hash": f"{chance.getrandbits(256):064x}",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": asked}],
        "text": json.dumps({"choice": said}),
        "finish_reason": "stop",
        "distribution": distribution,
        "usage": {"prompt_tokens": len(asked) // 4, "completion_tokens": 6, "total_tokens": len(asked) // 4 + 6},
        "strategy": "json_schema",
        "served_model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_0000000000",
        "latency_s": round(chance.lognormvariate(-0.7, 0.4), 6),
        "attempts": 1,
        "error": None,
    }


def make(template: Path, folder: Path, size: int, seed: int = 5) -> None:
    """A run folder of so many lines, with the manifest of a real run; the answers are those of a seed."""
    import mmlu_pipe

    folder.mkdir()
    chance = random.Random(seed)
    answers, calls = [], []
    for number, line in enumerate(lines(size), start=1):
        weights = [chance.gammavariate(0.4, 1) + 1e-9 for _ in range(4)]
        distribution = {str(place): weight / sum(weights) * 0.99 for place, weight in enumerate(weights)}
        said = max(distribution, key=distribution.__getitem__)
        answers.append(line | {"zero_shot_choice": int(said)})
        calls.append(call(number, line, distribution, said))
    for name, rows in (("output.jsonl", answers), ("calls.jsonl", calls), ("errors.jsonl", [])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manifest = json.loads((template / "manifest.json").read_text(encoding="utf-8"))
    manifest["run"] |= {"answered": size, "failed": 0}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    mmlu_pipe.score(folder, score_dataset=folder / "score.json")


REPORT = "from mmlu_pipe.reporting.html import write_report; write_report(Path(sys.argv[1]))"
COMPARISON = (
    "from mmlu_pipe.reporting.html import write_comparison; write_comparison(found, sys.argv[3])",
    "import mmlu_pipe; found = mmlu_pipe.compare(sys.argv[1:3])",
)


def write(*arguments: Path, work: str = REPORT, before: str = "") -> tuple[float, float, float]:
    """Wall and CPU seconds of some work with its imports, and peak MB, in a fresh process."""
    code = (
        f"import json, resource, sys, time; from pathlib import Path\n{before}\n"
        "wall, cpu = time.perf_counter(), time.process_time()\n"
        f"{work}\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024) / 1e6\n"
        "print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, peak]))"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def browse(page: Path) -> tuple[list[float], list[float], list[float]]:
    """Seconds to the first paint and to a usable list, and milliseconds of each search."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    painted, usable, searched = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        for _ in range(RUNS):
            shown = browser.new_page()
            started = time.perf_counter()
            shown.goto(page.as_uri(), wait_until="commit")
            shown.wait_for_selector("#filters:not([hidden])")
            usable.append(time.perf_counter() - started)
            shown.wait_for_function(f"{FIRST_PAINT} > 0")
            painted.append(shown.evaluate(FIRST_PAINT) / 1000)
            searched += [shown.evaluate(FILTER, wanted) for wanted in SEARCHES]
            shown.close()
        browser.close()
    return painted, usable, searched


def tell(title: str, page: Path, costs: list[tuple[float, float, float]]) -> None:
    """Print what a page cost, and what it costs a browser."""
    wall, cpu, peak = zip(*costs, strict=True)
    painted, usable, searched = browse(page)
    print(f"  {title}  {page.stat().st_size / 1e6:.2f} MB, peak {max(peak):.0f} MB")
    for what, found, unit in (
        ("written, wall", wall, "s"),
        ("written, CPU", cpu, "s"),
        ("first paint", painted, "s"),
        ("usable list", usable, "s"),
        ("a search", searched, "ms"),
    ):
        print(f"    {what:<14} {statistics.median(found):8.2f} {unit}  ({min(found):.2f} to {max(found):.2f})")


def main() -> None:
    import mmlu_pipe

    print(f"pages: {RUNS} runs, median (fastest to slowest)")
    with tempfile.TemporaryDirectory() as name:
        template = Path(name, "template")
        mmlu_pipe.run(output_dir=template)
        for size in SIZES:
            one, other = (Path(name, f"{size}-{seed}") for seed in (5, 6))
            make(template, one, size)
            make(template, other, size, seed=6)
            tell(f"{size:>6} lines, report    ", one / "report.html", [write(one) for _ in range(RUNS)])
            work, before = COMPARISON
            pages = [Path(name, f"{size}-{number}.html") for number in range(RUNS)]
            costs = [write(one, other, page, work=work, before=before) for page in pages]
            tell(f"{size:>6} lines, comparison", pages[0], costs)
