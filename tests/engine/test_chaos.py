"""An endpoint at its worst: a fifth of all requests is answered wrongly, and nothing is lost or altered by it."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

import mmlu_pipe
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt, rate_limited

LINES = 2000
SHARE = 0.2

# What passes: asked again, the question gets its answer.
PASSING = {
    "429 with retry-after-ms": lambda: rate_limited(20),
    "429 with nothing": lambda: Reply(status=429),
    "500": lambda: Reply(status=500),
    "503": lambda: Reply(status=503, headers={"retry-after-ms": "10"}),
    "reset before": lambda: Reply(reset="before"),
    "reset in the middle": lambda: Reply("{}", reset="middle"),
    "hang": lambda: Reply(hang=3.0),
    "cut JSON": lambda: Reply("{}", truncated=True),
    "wrong content type": lambda: Reply(raw=b"<html>a gateway</html>", content_type="text/html"),
}
# What stays: the line fails, with a kind of its own.
STAYING = {
    "content_filter": filtered_prompt,
    "truncated": lambda: Reply('{"cho', finish_reason="length"),
    "refused": lambda: Reply(None, refusal="No."),
    "select_failed": lambda: Reply('{"choice": "maybe"}'),
}


class Chaos:
    """What each question meets; the same whatever order the questions come in."""

    def __init__(self, seed):
        chance = random.Random(seed)
        self.passing, self.staying = {}, {}
        for number in range(LINES):
            if chance.random() < SHARE:
                kind = chance.choice([*PASSING, *STAYING])
                (self.passing if kind in PASSING else self.staying)[number] = kind
        self.seen = Counter()

    def __call__(self, body, _count):
        question = body["messages"][-1]["content"]
        number = int(question.split(":")[0].split()[1])
        self.seen[number] += 1
        if number in self.staying:
            return STAYING[self.staying[number]]()
        if number in self.passing and self.seen[number] == 1:
            return PASSING[self.passing[number]]()
        return Reply(json.dumps({"choice": question.split("pick ")[1][0]}), async_filter=number % 5 == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_every_line_ends_once_with_its_own_answer_or_its_own_error(
    tmp_path, monkeypatch, write_dataset, write_config, stream
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    chaos = Chaos(seed=20261123)
    with AoaiServer(answer=chaos) as server:
        run = mmlu_pipe.run(
            write_dataset(LINES),
            other_config=write_config(server.endpoint),
            output_dir="out",
            workers=32,
            max_errors="100%",
            timeout=1.0,
            stream=stream,
        )
    answered = [json.loads(line) for line in Path("out/output.jsonl").read_text(encoding="utf-8").splitlines()]
    failed = [json.loads(line) for line in Path("out/errors.jsonl").read_text(encoding="utf-8").splitlines()]
    numbers = [int(line["question"].split(":")[0].split()[1]) for line in answered]
    assert numbers == sorted(set(range(LINES)) - set(chaos.staying))
    assert [line["zero_shot_choice"] for line in answered] == [line["correct_answer"] for line in answered]
    assert {line["_error"]["line_number"] - 1: line["_error"]["kind"] for line in failed} == chaos.staying
    assert len(answered) + len(failed) == LINES == run.score.count
    assert run.score.n_correct == len(answered)
    assert set(chaos.passing.values()) == set(PASSING)  # each was met
    assert set(chaos.staying.values()) == set(STAYING)
