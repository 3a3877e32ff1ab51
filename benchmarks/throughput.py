"""What a question costs, and how near the workers come to what the latency allows.

All figures of one run are taken against the same kind of endpoint (endpoint.c, compiled here, on loopback), each in a
fresh process, on questions of MMLU's shape made here. Ours is the whole of component 1: the dataset read and checked,
a guidance program with `select`, the calls, every file written. Beside it stands a bare client, which only asks.

    python -m benchmarks throughput [--quick] [--peers]
"""

import asyncio
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).parents[1]
WORKERS = 16
LINES = 4_000
TURNS = 3  # by turns, so that a busy machine slows down all
WARM_UP = 64
MMLU_TEST = 14_042
LATENCY_S = 0.3
CONNECTIONS = (64, 256)
ROUNDS = 55  # questions a connection has to ask one after the other
ENDPOINT = {"aoai_deployment": "dep", "aoai_model": "gpt-4o", "aoai_api_version": "2024-10-21"}


def write_lines(path: Path, count: int) -> None:
    """Questions of about 300 characters with four choices of about 40, the same ones every time."""
    chance = random.Random(5)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvw", k=chance.randint(2, 9))) for _ in range(4_000)]

    def text(length: int) -> str:
        return " ".join(chance.choices(words, k=length))

    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            line = {
                "dataset": "mmlu",
                "subject": f"subject_{number % 57}",
                "question": f"Question {number}: {text(45)}?",
                "choices": [text(6) for _ in range(4)],
                "correct_answer": chance.randrange(4),
            }
            file.write(json.dumps(line) + "\n")


@contextmanager
def endpoint(folder: Path, latency: float = 0.0) -> Iterator[str]:
    """The URL of one that runs meanwhile."""
    program = folder / "endpoint"
    if not program.exists():
        compiler = shutil.which("cc") or sys.exit("throughput: needs a C compiler (cc) and Linux")
        subprocess.run([compiler, "-O2", "-o", program, ROOT / "benchmarks" / "endpoint.c"], check=True)
    command = [program, str(latency * 1000)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.communicate()  # it ends with its standard input


def counters(url: str) -> dict[str, float]:
    """What has come to the endpoint since the last time this was asked."""
    with build_opener(ProxyHandler({})).open(url) as response:
        return json.load(response)


# In a process of its own


def ours(dataset: str, url: str, workers: str) -> None:
    from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai

    def run(dataset: Path, folder: Path) -> None:
        jsonl_guidance_aoai(
            guidance_program=ROOT / "guidance_programs" / "zero_shot.py",
            input_dataset=dataset,
            azure_openai_endpoint=url,
            azure_openai_deployment=ENDPOINT["aoai_deployment"],
            azure_openai_model=ENDPOINT["aoai_model"],
            azure_openai_api_version=ENDPOINT["aoai_api_version"],
            guidance_workers=int(workers),
            output_dataset=folder / "output.jsonl",
            error_dataset=folder / "errors.jsonl",
            calls_dataset=folder / "calls.jsonl",
        )

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = folder / "few.jsonl"
        write_lines(few, WARM_UP)
        run(few, folder / "warm-up")
        counters(url)
        started, cpu = time.perf_counter(), time.process_time()
        run(Path(dataset), folder / "run")
        print(json.dumps([time.process_time() - cpu, time.perf_counter() - started, peak()]))
        answered = (folder / "run" / "output.jsonl").read_bytes().count(b"\n")
    assert answered == count_lines(Path(dataset)), f"{answered} lines were answered"


def bare(dataset: str, url: str, workers: str, logprobs: str) -> None:
    """The SDK's asynchronous client, asking the same questions with the same schema."""
    from openai import AsyncAzureOpenAI

    options = [str(number) for number in range(4)]
    schema = {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": options}},
        "required": ["choice"],
        "additionalProperties": False,
    }
    wanted = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "c", "strict": True, "schema": schema}}
    }
    if logprobs == "logprobs":
        wanted |= {"logprobs": True, "top_logprobs": 10}
    system = "You take a multiple choice test. Exactly one choice is correct. Answer with its number only."

    async def work(client: AsyncAzureOpenAI, lines: Iterator[str]) -> None:
        for text in lines:
            line = json.loads(text)
            choices = "".join(f"{number}: {choice}\n" for number, choice in enumerate(line["choices"]))
            question = f"{line['question']}\n\n{choices}\nThe number of the correct choice is:"
            messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
            answer = await client.chat.completions.create(model="gpt-4o", messages=messages, temperature=0, **wanted)
            assert json.loads(answer.choices[0].message.content)["choice"] in options

    async def ask() -> None:
        async with AsyncAzureOpenAI(
            azure_endpoint=url, azure_deployment="dep", api_version=ENDPOINT["aoai_api_version"], api_key="key"
        ) as client:
            with Path(dataset).open(encoding="utf-8") as file:
                await work(client, itertools.islice(file, WARM_UP))
            counters(url)
            started, cpu = time.perf_counter(), time.process_time()
            with Path(dataset).open(encoding="utf-8") as file:
                await asyncio.gather(*(work(client, file) for _ in range(int(workers))))
            print(json.dumps([time.process_time() - cpu, time.perf_counter() - started, peak()]))

    asyncio.run(ask())


def peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


# In the process that prints


def environment() -> dict[str, str]:
    return os.environ | {"AZURE_OPENAI_API_KEY": "key", "PYTHONPATH": str(ROOT)}


def measured(who: str, *arguments: object) -> list[float]:
    """CPU seconds, wall seconds, and peak megabytes of one of the functions above."""
    code = f"import sys; from benchmarks.throughput import {who}; {who}(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT)
    return [float(value) for value in json.loads(found.stdout)]


def cost(folder: Path, lines: int) -> None:
    """CPU a question at no latency."""
    dataset = folder / f"{lines}.jsonl"
    write_lines(dataset, lines)
    print(f"  CPU-ms a question, {lines} questions, {WORKERS} at once, no latency")
    with endpoint(folder) as url:
        for turn in range(TURNS):
            own, _, memory = measured("ours", dataset, url, WORKERS)
            opened = counters(url)["connections"]
            plain, _, _ = measured("bare", dataset, url, WORKERS, "plain")
            alike, _, _ = measured("bare", dataset, url, WORKERS, "logprobs")
            print(
                f"    turn {turn + 1}: component 1 {own / lines * 1000:.2f}, "
                f"bare client {plain / lines * 1000:.2f} (ratio {own / plain:.2f}), "
                f"asking for logprobs as ours {alike / lines * 1000:.2f} (ratio {own / alike:.2f}), "
                f"{opened:.0f} connections, {memory:.0f} MB"
            )


def share(folder: Path, workers: int) -> None:
    """How near the calls come to one a latency and connection, from the first request to the last answer."""
    lines = workers * ROUNDS
    dataset = folder / f"{lines}.jsonl"
    write_lines(dataset, lines)
    with endpoint(folder, LATENCY_S) as url:
        _, _, memory = measured("ours", dataset, url, workers)
        seen = counters(url)
    print(
        f"    {workers} workers, {lines} questions: {lines * LATENCY_S / workers / seen['seconds']:.1%} of the ideal "
        f"{workers / LATENCY_S:.0f} a second ({seen['connections']:.0f} connections, {memory:.0f} MB)"
    )


def whole_run(folder: Path, lines: int, workers: int) -> None:
    """The command, from the start of its process to the end."""
    dataset, config = folder / f"whole-{lines}.jsonl", folder / "other_configs.json"
    write_lines(dataset, lines)
    with endpoint(folder, LATENCY_S) as url:
        config.write_text(json.dumps(ENDPOINT | {"aoai_endpoint": url}), encoding="utf-8")
        command = [sys.executable, "-m", "mmlu_pipe", "run", "--dataset", dataset, "--other-config", config]
        command += ["--workers", str(workers), "--output-dir", folder / f"run-{lines}"]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment(), cwd=folder)
        seconds = time.perf_counter() - started
        seen = counters(url)
    print(
        f"    whole run, {lines} questions, {workers} workers: {seconds:.1f} s from process start to end, "
        f"{lines * LATENCY_S / workers / seconds:.1%} of the ideal, {seen['connections']:.0f} connections"
    )


def main(*options: str) -> None:
    quick = "--quick" in options
    print("throughput")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cost(folder, 1_000 if quick else LINES)
        print(f"  {LATENCY_S * 1000:.0f} ms latency")
        for workers in CONNECTIONS:
            share(folder, workers)
        whole_run(folder, 1_280 if quick else MMLU_TEST, CONNECTIONS[0])
    if "--peers" in options:
        from benchmarks.peers import compare

        compare()
