"""What recordings cost as they grow, beside plain vcrpy: opening a cassette, a request, and memory.

Every figure is taken in a fresh process. Ours is opened twice, before and after its index is kept; vcrpy's cassette has
all recordings in one file, and a sample of its requests is spread over it, as it looks through them one by one.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (100, 1_000, 5_000, 14_042)
SUBJECTS = 57
RUNS = 9  # by turns, so that a busy machine slows down both
REQUESTS = {"ours": 1_000, "vcrpy": 24}
URI = "https://aoai.invalid/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"


def body(number: int) -> dict[str, object]:
    text = f"Question {number}: which one? {random.Random(number).random()} " + "Some words of a question. " * 12
    return {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Choose."}, {"role": "user", "content": text}],
        "temperature": 0,
    }


def record(folder: Path, size: int) -> None:
    """The same recordings as we and as vcrpy keep them; written at once, for recording is not what is measured."""
    from mmlu_pipe.recording.shards import HEADER, Exchange, dump_item

    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}]}
    reply = json.dumps(answer | {"usage": {"prompt_tokens": 90, "completion_tokens": 1}, "padding": "x" * 700})
    shards: dict[str, list[bytes]] = {}
    for number in range(size):
        subject, place = number % SUBJECTS, number // SUBJECTS
        name = f"subject_{subject}" + (f"-{place // 250 + 1}" if place >= 250 else "")
        exchange = Exchange(URI, json.dumps(body(number)), 200, "OK", "application/json", reply)
        shards.setdefault(name, []).append(dump_item(exchange.to_item()))
    (folder / "ours").mkdir()
    for name, pieces in shards.items():
        (folder / "ours" / f"{name}.yaml").write_bytes(HEADER + b"".join(pieces))
    (folder / "vcrpy.yaml").write_bytes(HEADER + b"".join(piece for pieces in shards.values() for piece in pieces))


def ours(folder: Path, numbers: list[int]) -> tuple[float, float]:
    import httpx2

    from mmlu_pipe.recording.cassette import Cassette
    from mmlu_pipe.recording.identity import request_hash
    from mmlu_pipe.recording.transport import TapeDeck

    started = time.perf_counter()
    deck = TapeDeck(Cassette(folder / "ours"), "gpt-4o")
    loaded = time.perf_counter() - started

    def ask(number: int) -> None:
        asked = body(number)
        with deck.call(request_hash(asked, "gpt-4o"), 0, "s", number):
            assert deck.handle_request(httpx2.Request("POST", URI, json=asked)).status_code == 200

    return loaded, per_request(ask, numbers)


def vcrpy(folder: Path, numbers: list[int]) -> tuple[float, float]:
    import vcr.cassette
    import vcr.matchers
    from vcr.record_mode import RecordMode
    from vcr.request import Request

    started = time.perf_counter()
    cassette = vcr.cassette.Cassette.load(
        path=str(folder / "vcrpy.yaml"),
        record_mode=RecordMode.NONE,
        match_on=(vcr.matchers.method, vcr.matchers.uri, vcr.matchers.body),
    )
    loaded = time.perf_counter() - started

    def ask(number: int) -> None:
        found = cassette.play_response(Request("POST", URI, json.dumps(body(number)), {}))
        assert found["status"]["code"] == 200

    return loaded, per_request(ask, numbers)


def per_request(ask, numbers: list[int]) -> float:
    ask(numbers[0])  # imports and the first reading are not counted
    started = time.process_time()
    for number in numbers[1:]:
        ask(number)
    return (time.process_time() - started) / (len(numbers) - 1)


def peak() -> float:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(folder: str, who: str, size: str) -> None:
    """In a process of its own: print what one of them needs."""
    numbers = random.Random(7).sample(range(int(size)), min(REQUESTS[who], int(size)))
    loaded, each = {"ours": ours, "vcrpy": vcrpy}[who](Path(folder), numbers)
    print(json.dumps([loaded, each, peak()]))


def measured(folder: Path, who: str, size: int) -> list[float]:
    command = [sys.executable, "-c", "import sys; from benchmarks.replay import measure; measure(*sys.argv[1:])"]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    root = Path(__file__).parents[1]
    found = subprocess.run(
        [*command, str(folder), who, str(size)], check=True, capture_output=True, text=True, env=environment, cwd=root
    )
    return [float(value) for value in json.loads(found.stdout)]


def main() -> None:
    print("replay: seconds to open, CPU milliseconds a request, peak MB of the process")
    with tempfile.TemporaryDirectory() as name:
        folders = {size: Path(name, str(size)) for size in SIZES}
        for size, folder in folders.items():
            folder.mkdir()
            record(folder, size)
            for shown, who in (("ours, no index yet", "ours"), ("ours", "ours"), ("plain vcrpy", "vcrpy")):
                loaded, each, memory = measured(folder, who, size)
                print(f"  {size:>6} recordings  {shown:<19} {loaded:7.3f} s  {each * 1000:9.3f} ms  {memory:6.0f} MB")
        few, many = SIZES[1], SIZES[-1]
        pairs = [
            (measured(folders[few], "ours", few)[1], measured(folders[many], "ours", many)[1]) for _ in range(RUNS)
        ]
    one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"  a request of ours at {many} to one at {few}, medians of {RUNS} turns: {other / one:.2f}")
