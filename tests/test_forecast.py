"""The forecast: its interval covers, the slowest limit binds, and the prices are the user's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.errors import ConfigError, DatasetError, RecordingError
from mmlu_pipe.forecast.estimate import estimate
from mmlu_pipe.forecast.figures import Price, Prices, Sample, Usage, _t_quantile, expected, forecast
from mmlu_pipe.forecast.prices import load_prices
from mmlu_pipe.forecast.samples import sample_of_cassette, sample_of_run, usage_of
from mmlu_pipe.gate.verify import verify
from tests.servers.aoai import AoaiServer, filtered_prompt

TWICE = """
from guidance import assistant, gen, select, user

def guidance_generation(lm, input):
    with user():
        lm += input["question"]
    with assistant():
        lm += gen("thought", max_tokens=20)
    with user():
        lm += "So, which?"
    with assistant():
        lm += select(["0", "1", "2", "3"], name="choice")
    return {"zero_shot_choice": int(lm["choice"])}
"""

PRICES = {
    "currency": "EUR",
    "written": "2026-11-20",
    "per_million_tokens": {"gpt-4o": {"prompt": 2, "cached_prompt": 1, "completion": 10}},
}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


@pytest.fixture
def recorded(tmp_path: Path, write_config: Callable[..., Path], write_dataset: Callable[..., Path]) -> Any:
    """Record ten lines over loopback HTTP: the cassette and the run folder."""

    def record(program: str | None = None, model: str = "gpt-4o", answer: Any = None) -> tuple[Path, Path]:
        path: Path | str = "zero_shot"
        if program is not None:
            path = tmp_path / "program.py"
            path.write_text(program, encoding="utf-8")
        with AoaiServer({"dep": model}, **({} if answer is None else {"answer": answer})) as server:
            run = mmlu_pipe.run(
                write_dataset(10),
                path,
                other_config=write_config(server.endpoint, aoai_model=model),
                cassette="cassette",
                record_mode="new_episodes",
                response_key="zero_shot_choice",
                output_dir="out",
                max_errors=10,
            )
        return tmp_path / "cassette", run.run_dir

    return record


def _row(prompt: int = 100, completion: int = 5, calls: int = 1, **more: Any) -> Usage:
    return Usage(calls, prompt, completion, more.get("reasoning", 0), more.get("cached", 0), more.get("known", True))


def _sample(*rows: Usage, **more: Any) -> Sample:
    return Sample("run", "line", rows or (_row(90), _row(110)), 1.0, more.pop("models", ("gpt-4o",)), **more)


# The interval


@pytest.mark.parametrize(("recorded", "asked"), [(40, 200), (200, 30), (30, 3000)])
def test_the_interval_covers_the_total_as_often_as_it_says(recorded: int, asked: int) -> None:
    """Skewed usage, as answers of models are: of 95 % promised, at least 89 % are kept."""
    source = random.Random(20)
    inside = 0
    for _ in range(200):
        values = [source.lognormvariate(4, 0.6) for _ in range(recorded)]
        truth = sum(source.lognormvariate(4, 0.6) for _ in range(asked))
        found = expected(values, asked)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    assert 0.89 <= inside / 200 <= 0.99


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, 0.975
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (100, 1.984)],
)
def test_students_quantile(freedom: int, quantile: float) -> None:
    assert _t_quantile(freedom) == pytest.approx(quantile, rel=2e-3)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=50), st.integers(1, 10**5))
def test_a_total_lies_in_its_interval_and_is_never_below_nothing(values: list[int], units: int) -> None:
    found = expected(values, units)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)


def test_more_recordings_narrow_the_interval_and_one_gives_none() -> None:
    few, many = expected([90, 110] * 5, 1000), expected([90, 110] * 500, 1000)
    assert few.high is not None
    assert many.high is not None
    assert many.high - many.value < few.high - few.value
    assert expected([100], 3).high is None
    assert "a sample of one gives no interval" in forecast(_sample(_row()), 5).notes
    with pytest.raises(ValueError, match="needs a sample"):
        expected([], 5)


# Time


@pytest.mark.parametrize(
    ("limits", "name", "seconds"),
    [
        ({"rpm": 60, "tpm": 10**9}, "requests per minute", 1000),
        ({"rpm": 10**9, "tpm": 105 * 60}, "tokens per minute", 1000),
        ({"rpm": 10**9, "workers": 4, "latency_s": 2}, "workers", 500),
    ],
)
def test_the_slowest_limit_binds_and_is_named(limits: dict[str, Any], name: str, seconds: float) -> None:
    found = forecast(_sample(), 1000, **limits).duration
    assert found is not None
    assert found.limit == name
    assert found.seconds.value == pytest.approx(seconds)
    assert found.by_limit[name] == max(found.by_limit.values())


def test_without_a_limit_there_is_no_time_and_workers_need_a_latency() -> None:
    assert forecast(_sample(), 10).duration is None
    with pytest.raises(ConfigError, match="--workers needs --latency"):
        forecast(_sample(), 10, workers=4)
    found = forecast(_sample(latency_s=2.0), 10, workers=4).duration
    assert found is not None
    assert found.seconds.value == 5


# Money


def test_money_is_by_the_users_prices_and_only_by_them() -> None:
    rows = (_row(1000, 100, cached=400, reasoning=60), _row(1000, 100, cached=400, reasoning=60))
    prices = Prices("EUR", "2026-11-20", {"gpt-4o": Price(2, 10, 1), "other": Price(9, 9)})
    found = forecast(_sample(*rows), 1000, prices=prices)
    assert found.cost is not None
    assert found.cost.amount.value == pytest.approx(
        (600 * 2 + 400 * 1 + 100 * 10) / 1000
    )  # reasoning is not paid twice
    assert (found.cost.currency, found.cost.model, found.cost.prices_written) == ("EUR", "gpt-4o", "2026-11-20")
    assert forecast(_sample(*rows), 1000).cost is None
    assert Price(2, 10).of(_row(1000, 0, cached=400)) == pytest.approx(0.002)


def test_a_model_that_has_no_price_is_an_error_and_a_served_name_will_do() -> None:
    prices = Prices("EUR", "2026-11-20", {"gpt-4o-2024-08-06": Price(2, 10)})
    with pytest.raises(ConfigError, match="has no 'gpt-4o', only gpt-4o-2024-08-06"):
        forecast(_sample(), 10, prices=prices)
    found = forecast(_sample(models=("gpt-4o", "gpt-4o-2024-08-06")), 10, prices=prices).cost
    assert found is not None
    assert found.model == "gpt-4o-2024-08-06"


def test_a_prices_file_is_read(tmp_path: Path) -> None:
    path = _prices(tmp_path, PRICES | {"note": "from my contract"})
    assert load_prices(path) == Prices("EUR", "2026-11-20", {"gpt-4o": Price(2, 10, 1)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"currency": None}, "'currency' must be a text"),
        ({"written": "yesterday"}, "'written' must be the date"),
        ({"written": 20261120}, "'written' must be the date"),
        ({"per_million_tokens": {}}, "'per_million_tokens' must be an object"),
        ({"per_million_tokens": {"m": 3}}, "'per_million_tokens.m' must be an object"),
        ({"per_million_tokens": {"m": {"prompt": 1}}}, "'per_million_tokens.m.completion' is missing"),
        ({"per_million_tokens": {"m": {"prompt": -1, "completion": 1}}}, "must be a number from 0 on, not -1"),
        ({"per_million_tokens": {"m": {"prompt": True, "completion": 1}}}, "must be a number from 0 on, not True"),
        ({"per_million_tokens": {"m": {"prompt": "1", "completion": 1}}}, "must be a number from 0 on, not '1'"),
        ({"per_million_tokens": {"m": {"prompt": 1, "completion": 1, "cache": 1}}}, "'per_million_tokens.m.cache'"),
        ({"price": 1}, "'price' is not known"),
    ],
)
def test_a_bad_prices_file_is_one_message(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_prices(_prices(tmp_path, PRICES | change))
    assert told in str(caught.value)
    assert "prices.json" in str(caught.value)


# Where the numbers come from


def test_a_run_and_its_cassette_tell_the_same(recorded: Any) -> None:
    cassette, run = recorded()
    from_run, from_cassette = estimate(run=run, lines=100), estimate(cassette=cassette, lines=100)
    assert from_run.prompt_tokens == from_cassette.prompt_tokens
    assert from_run.completion_tokens == from_cassette.completion_tokens
    assert (from_run.calls.value, from_cassette.calls.value) == (100, 100)
    assert (from_run.sample, from_run.sample_unit, from_cassette.sample_unit) == (10, "line", "call")
    assert from_run.model == from_cassette.model == "gpt-4o"
    calls = [json.loads(line) for line in (run / "calls.jsonl").read_text(encoding="utf-8").splitlines()]
    assert from_run.prompt_tokens.value == pytest.approx(10 * sum(call["usage"]["prompt_tokens"] for call in calls))


def test_reasoning_tokens_are_counted_as_part_of_the_completion(recorded: Any) -> None:
    _, run = recorded(model="o3-mini")
    found = estimate(run=run)
    assert found.lines == 10
    assert found.reasoning_tokens.value == 640
    assert found.completion_tokens.value > 640


def test_calls_of_a_line_are_those_of_the_run_or_of_the_verification(recorded: Any, tmp_path: Path) -> None:
    cassette, run = recorded(TWICE)
    assert estimate(run=run, lines=50).calls.value == 100
    told = estimate(cassette=cassette, lines=50)
    assert (told.calls.value, told.notes) == (100, ())  # by the run that recorded
    provenance = json.loads((cassette / "provenance.json").read_text(encoding="utf-8"))
    del provenance["calls"]  # as earlier versions wrote it
    (cassette / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    guessed = estimate(cassette=cassette, lines=50)
    assert guessed.calls.value == 50
    assert "calls per line are not known, 1 is assumed" in guessed.notes[0]
    assert verify(tmp_path / "questions.jsonl", tmp_path / "program.py", cassette=cassette).passed
    known = estimate(cassette=cassette, lines=50)
    assert (known.calls.value, known.notes) == (100, ())
    assert known.prompt_tokens.value == pytest.approx(estimate(run=run, lines=50).prompt_tokens.value)
    assert estimate(cassette=cassette).lines == 10
    (shard,) = cassette.glob("*.yaml")
    shard.write_bytes(shard.read_bytes() + b"\n")
    assert estimate(cassette=cassette, lines=50).calls.value == 50  # verified were other recordings


def test_the_latency_of_a_live_run_is_used_and_that_of_a_replay_is_not(recorded: Any, tmp_path: Path) -> None:
    cassette, run = recorded()
    found = estimate(run=run, workers=2).duration
    assert found is not None
    assert found.limit == "workers"
    replay = mmlu_pipe.run("questions.jsonl", cassette=cassette, output_dir="replayed").run_dir
    assert sample_of_run(replay).latency_s is None
    with pytest.raises(ConfigError, match="--workers needs --latency"):
        estimate(run=replay, workers=2)
    assert estimate(run=replay, latency=3).duration == estimate(run=replay, workers=8, latency=3).duration


def test_calls_that_do_not_tell_their_tokens_are_told(recorded: Any) -> None:
    answered = json.dumps({"choice": "1"})
    cassette, run = recorded(
        answer=lambda body, _: filtered_prompt() if "pick 3" in str(body["messages"]) else answered
    )
    for found in (estimate(run=run), estimate(cassette=cassette)):
        assert found.calls.value == 10
        assert found.notes[-1].startswith("2 of 10 ")
    silent = Sample("run", "line", (_row(known=False),), 1.0, ("m",))
    with pytest.raises(ConfigError, match="no recorded call tells its tokens"):
        forecast(silent, 3)


def test_lines_that_a_stopped_run_did_not_come_to_are_no_sample(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    usage = {"prompt_tokens": 10, "completion_tokens": 1}
    calls = [{"line_number": number, "usage": usage, "latency_s": 1.0} for number in (1, 2, 4)]
    errors = [
        {"q": 1, "_error": {"line_number": 2, "kind": "truncated"}},
        {"q": 2, "_error": {"line_number": 4, "kind": "not_run"}},
        {"q": 3, "_error": {"line_number": 5, "kind": "not_run"}},
    ]
    for name, lines in (("output", [{"q": 0}, {"q": 9}]), ("errors", errors), ("calls", calls)):
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(content, encoding="utf-8")
    (folder / "manifest.json").write_text('{"run": {"model": "m", "endpoint_kind": "foundry"}}', encoding="utf-8")
    sample = sample_of_run(folder)
    assert sorted(row.calls for row in sample.rows) == [0, 1, 1]  # line 3 was answered without a call
    assert (sample.models, sample.latency_s) == (("m",), 1.0)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        {},
        {"prompt_tokens": 1},
        *({"prompt_tokens": count, "completion_tokens": 2} for count in ("1", -1, True)),
    ],
)
def test_usage_of_any_other_shape_is_unknown(value: Any) -> None:
    assert usage_of(value) == Usage(1, 0, 0, 0, 0, known=False)


def test_usage_details_may_be_missing() -> None:
    told = {"prompt_tokens": 7, "completion_tokens": 3, "completion_tokens_details": None, "prompt_tokens_details": 5}
    assert usage_of(told) == Usage(1, 7, 3, 0, 0)


def test_bad_input_is_refused(tmp_path: Path, recorded: Any) -> None:
    cassette, run = recorded()
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for arguments, told in (
        ({}, "give one of --cassette"),
        ({"cassette": cassette, "run": run}, "give one of --cassette"),
        ({"run": run, "lines": 3, "dataset": "sample"}, "only one of --lines and --dataset"),
        ({"run": run, "lines": 0}, "--lines must be more than 0"),
        ({"run": run, "rpm": float("nan")}, "--rpm must be more than 0"),
        ({"run": run, "tpm": float("inf")}, "--tpm must be more than 0"),
        ({"run": tmp_path}, "is no run folder"),
    ):
        with pytest.raises(ConfigError, match=told):
            estimate(**arguments)
    for folder, told in ((tmp_path / "none", "no such cassette"), (tmp_path / "empty", "holds no recordings")):
        with pytest.raises(RecordingError, match=told):
            sample_of_cassette(folder)
    with pytest.raises(DatasetError, match="is empty"):
        estimate(run=run, dataset="empty.jsonl")
    assert estimate(run=run, dataset="sample").lines == 114


def test_the_estimate_is_json(recorded: Any, tmp_path: Path) -> None:
    cassette, _ = recorded()
    found = estimate(cassette=cassette, lines=14042, rpm=60, prices=_prices(tmp_path, PRICES))
    value = json.loads(json.dumps(found.to_json()))
    assert value["duration"]["limit"] == "requests per minute"
    assert value["cost"]["currency"] == "EUR"
    assert set(value["prompt_tokens"]) == {"value", "low", "high"}


def _prices(folder: Path, value: dict[str, Any]) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
