"""What recordings cost as they grow, beside plain vcrpy: opening a cassette, a request, and memory.

Every figure is taken in a fresh process. Ours is opened twice, before and after its index is kept; vcrpy's cassette has
all recordings in one file, and a sample of its requests is spread over it, as it looks through them one by one. For the
last figure two processes, one with few recordings and one with many, ask by turns of a few milliseconds, so that a busy
machine slows down both alike.
"""

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SIZES = (100, 1_000, 5_000, 14_042)
SUBJECTS = 57
PAIRS, TURNS, ASKED = 9, 100, 10  # turns of a pair, requests of a turn
REQUESTS = {"ours": 1_000, "vcrpy": 23}
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


def ours(folder: Path) -> tuple[float, Callable[[int], None]]:
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

    return loaded, ask


def vcrpy(folder: Path) -> tuple[float, Callable[[int], None]]:
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

    return loaded, ask


def peak() -> float:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(folder: str, who: str, size: str) -> None:
    """In a process of its own: print how long opening takes, then what each wanted number of requests costs."""
    loaded, ask = {"ours": ours, "vcrpy": vcrpy}[who](Path(folder))
    print(loaded, flush=True)
    numbers = itertools.cycle(random.Random(7).sample(range(int(size)), int(size)))
    for count in map(int, sys.stdin):
        started = time.process_time()
        for number in itertools.islice(numbers, count):
            ask(number)
        print(json.dumps([(time.process_time() - started) / count, peak()]), flush=True)


@contextmanager
def process(folder: Path, who: str, size: int) -> Iterator[tuple[float, Callable[[int], tuple[float, float]]]]:
    """How long opening took in a fresh process, and what so many further requests of it cost: CPU seconds, peak MB."""
    command = [sys.executable, "-c", "import sys; from benchmarks.replay import measure; measure(*sys.argv[1:])"]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    with subprocess.Popen(
        [*command, str(folder), who, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
    ) as running:

        def cost(count: int) -> tuple[float, float]:
            print(count, file=running.stdin, flush=True)
            each, memory = json.loads(running.stdout.readline())
            return each, memory

        loaded = float(running.stdout.readline())
        cost(1)  # imports and the first reading are not counted
        yield loaded, cost
        running.stdin.close()


def main() -> None:
    print("replay: seconds to open, CPU milliseconds a request, peak MB of the process")
    with tempfile.TemporaryDirectory() as name:
        folders = {size: Path(name, str(size)) for size in SIZES}
        for size, folder in folders.items():
            folder.mkdir()
            record(folder, size)
            for shown, who in (("ours, no index yet", "ours"), ("ours", "ours"), ("plain vcrpy", "vcrpy")):
                with process(folder, who, size) as (loaded, cost):
                    each, memory = cost(REQUESTS[who])
                print(f"  {size:>6} recordings  {shown:<19} {loaded:7.3f} s  {each * 1000:9.3f} ms  {memory:6.0f} MB")
        few, many = SIZES[1], SIZES[-1]
        found = sorted(growth(folders, few, many) for _ in range(PAIRS))
    shown = f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"
    print(f"  a request of ours at {many} to one at {few}, median of {PAIRS} pairs of processes: {shown}")


def growth(folders: dict[int, Path], few: int, many: int) -> float:
    """What a request costs at many recordings, relative to one at few, in fresh processes that ask by turns."""
    with process(folders[few], "ours", few) as (_, one), process(folders[many], "ours", many) as (_, other):
        turns = [(one(ASKED)[0], other(ASKED)[0]) for _ in range(TURNS)]
    small, large = (sum(column) for column in zip(*turns, strict=True))
    return large / small
