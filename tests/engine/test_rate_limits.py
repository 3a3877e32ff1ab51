"""A whole run against a server that admits so many requests a second: every line is answered, and soon enough."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.errors import ComeBackLater
from tests.servers.rate_limited import FixedWindow, RateLimitedServer, Rule, SlidingWindow, TokenBucket

PROGRAM = """
from guidance import assistant, gen, user

def guidance_generation(lm, input):
    with user():
        lm += input["question"]
    with assistant():
        lm += gen("answer", max_tokens=5)
    return {"zero_shot_choice": int(lm["answer"])}
"""


def evaluate(server: RateLimitedServer, folder: Path, lines: int, **options: object) -> mmlu_pipe.Run:
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "aoai_endpoint": server.endpoint,
                "aoai_deployment": "dep",
                "aoai_model": "gpt-4o",
                "aoai_api_version": "2024-10-21",
            }
        ),
        encoding="utf-8",
    )
    questions = [
        {"dataset": "t", "subject": "s", "question": f"{n}?", "choices": ["a", "b", "c", "d"], "correct_answer": 2}
        for n in range(lines)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in questions), encoding="utf-8")
    return mmlu_pipe.run(
        folder / "data.jsonl",
        folder / "program.py",
        other_config=folder / "config.json",
        output_dir=folder / "run",
        max_errors="0",
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


@pytest.mark.parametrize(
    ("rule", "rate", "lines"),
    [(TokenBucket, 10, 50), (FixedWindow, 50, 200), (SlidingWindow, 50, 200), (TokenBucket, 200, 800)],
)
def test_no_line_fails_and_most_of_what_is_admitted_is_used(
    rule: Callable[[float], Rule], rate: float, lines: int, tmp_path: Path
) -> None:
    with RateLimitedServer(rule(rate), latency=0.01) as server:
        run = evaluate(server, tmp_path, lines, workers=32)
    assert run.score is not None
    assert (run.score.answered, run.score.failed) == (lines, 0)
    assert len(server.admitted) == lines
    assert server.refused  # the limit was met
    assert server.peak <= 32
    taken = server.admitted[-1] - server.admitted[0]
    assert lines / taken > 0.4 * rate


@pytest.mark.parametrize(("rate", "then"), [(20, 80), (80, 20)])
def test_no_line_fails_where_the_limit_changes_in_mid_run(rate: float, then: float, tmp_path: Path) -> None:
    rule = FixedWindow(rate)
    with RateLimitedServer(rule, latency=0.01) as server:
        change = threading.Timer(3.0, lambda: setattr(rule, "rate", then))
        change.start()
        run = evaluate(server, tmp_path, 240, workers=32)
        change.join()
    assert run.score is not None
    assert (run.score.answered, run.score.failed) == (240, 0)


def test_a_wait_longer_than_max_wait_stops_the_run_and_not_a_line_fails(tmp_path: Path) -> None:
    hourly = FixedWindow(5 / 3600, seconds=3600)
    with RateLimitedServer(hourly, told=lambda _wait: {"retry-after": "3600"}) as server:
        with pytest.raises(ComeBackLater, match="come back in 1 h"):
            evaluate(server, tmp_path, 20, workers=2)
        assert len(server.refused) <= 2
