"""The Python API: what scripts and notebooks rely on."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.backends.local import LocalBackend
from mmlu_pipe.bundled import bundled_program
from mmlu_pipe.errors import BackendNotInstalled, ConfigError, ErrorBudgetExceeded, SubmissionBlocked
from mmlu_pipe.plugins import hookimpl, manager
from tests.servers.aoai import AoaiServer, Reply

WriteDataset = Callable[..., Path]
WriteConfig = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]


def picks(body: dict, _count: int) -> str:
    """The model of these tests: it does what the question says."""
    question = body["messages"][-1]["content"]
    return json.dumps({"choice": question.partition("pick ")[2][0]})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_arguments_the_sample_is_scored_on_the_bundled_recordings(here: Path) -> None:
    run = mmlu_pipe.run()
    assert run.status == "completed"
    assert run.score is not None
    assert (run.score.count, run.score.failed, run.score.unanswered) == (114, 0, 0)
    assert len(run.score.by_subject) == 57
    assert run.run_dir.parent == Path("runs")
    assert set(run.outputs) == {"manifest.json", "output.jsonl", "errors.jsonl", "calls.jsonl", "score.json"}


@pytest.mark.usefixtures("key", "here")
def test_a_live_run_scores_what_the_endpoint_answered(write_dataset: WriteDataset, write_config: WriteConfig) -> None:
    with AoaiServer(answer=picks) as server:
        run = mmlu_pipe.run(write_dataset(40), other_config=write_config(server.endpoint), workers=4)
    assert run.score is not None
    assert (run.score.count, run.score.n_correct, run.score.accuracy) == (40, 40, 1.0)
    assert len(server.requests) == 40
    assert server.connections <= 4


@pytest.mark.usefixtures("key", "here")
def test_it_works_inside_a_running_event_loop(write_dataset: WriteDataset, write_config: WriteConfig) -> None:
    async def notebook_cell(endpoint: str) -> mmlu_pipe.Run:
        return mmlu_pipe.run(write_dataset(3), other_config=write_config(endpoint))

    with AoaiServer(answer=picks) as server:
        run = asyncio.run(notebook_cell(server.endpoint))
    assert run.score is not None
    assert run.score.accuracy == 1.0


@pytest.mark.usefixtures("here")
def test_a_run_shows_itself_in_a_notebook_with_everything_escaped() -> None:
    run = mmlu_pipe.run(limit=2, output_dir="<script>alert(1)</script>")
    shown = run._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.usefixtures("key", "here")
def test_a_failed_run_raises_its_error_and_keeps_its_folder(
    write_dataset: WriteDataset, write_config: WriteConfig
) -> None:
    with (
        AoaiServer(answer=lambda _body, _count: Reply(finish_reason="length")) as server,
        pytest.raises(ErrorBudgetExceeded) as caught,
    ):
        mmlu_pipe.run(write_dataset(30), other_config=write_config(server.endpoint), max_errors=3, output_dir="out")
    assert caught.value.failed == 4
    assert json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))["status"] == "failed"
    kept = [json.loads(line) for line in Path("out/errors.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(kept) == 30
    assert {line["_error"]["kind"] for line in kept} == {"truncated", "not_run"}


@pytest.mark.usefixtures("here")
def test_other_datasets_need_an_endpoint_or_a_cassette(write_dataset: WriteDataset) -> None:
    with pytest.raises(ConfigError, match="--other-config FILE, or recordings with --cassette DIR"):
        mmlu_pipe.run(write_dataset(2))


@pytest.mark.usefixtures("here")
def test_a_cassette_is_replayed_without_configuration(
    write_dataset: WriteDataset, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    dataset = write_dataset(12)
    with AoaiServer(answer=picks) as server:
        config = write_config(server.endpoint)
        first = mmlu_pipe.run(dataset, other_config=config, cassette="tape", record_mode="once", output_dir="a")
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    second = mmlu_pipe.run(dataset, cassette="tape", output_dir="b", workers=1)
    for name in ("output.jsonl", "errors.jsonl", "score.json"):
        assert first.outputs[name].read_bytes() == second.outputs[name].read_bytes(), name


@pytest.mark.usefixtures("here")
def test_a_backend_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(BackendNotInstalled, match="no backend 'nowhere'; installed are local"):
        mmlu_pipe.run(backend="nowhere")


@pytest.mark.usefixtures("here")
def test_a_plugin_can_object_before_anything_is_written() -> None:
    class Objector:
        @hookimpl
        def before_submit(self, plan: dict) -> list[str]:
            return [f"{plan['lines']} lines are too many"]

    manager().register(objector := Objector())
    try:
        with pytest.raises(SubmissionBlocked, match="114 lines are too many"):
            mmlu_pipe.run()
    finally:
        manager().unregister(objector)
    assert not Path("runs").exists()


class Elsewhere(LocalBackend):
    """A backend that costs money, for what the tests care."""

    demands_verification = True


@pytest.mark.usefixtures("here")
def test_a_backend_that_costs_money_takes_only_what_was_verified(
    write_dataset: WriteDataset, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plugin:
        @hookimpl
        def register_backends(self, register: Callable[[str, object], None]) -> None:
            register("elsewhere", Elsewhere())

    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    manager().register(plugin := Plugin())
    try:
        dataset = write_dataset(30)
        with AoaiServer(answer=picks) as server:
            config = write_config(server.endpoint)
            with pytest.raises(SubmissionBlocked, match="takes only what was verified") as caught:
                mmlu_pipe.run(dataset, other_config=config, backend="elsewhere")
            assert (caught.value.exit_code, server.requests) == (2, [])
            mmlu_pipe.run(dataset, other_config=config, cassette="tape", record_mode="once", output_dir="recorded")
        with pytest.raises(SubmissionBlocked, match="to verify: mmlu-pipe verify"):
            mmlu_pipe.run(dataset, cassette="tape", backend="elsewhere")
        assert mmlu_pipe.verify(dataset, "zero_shot", cassette="tape").passed
        assert mmlu_pipe.run(dataset, cassette="tape", backend="elsewhere").status == "completed"
        with pytest.raises(SubmissionBlocked, match="seed"):
            mmlu_pipe.run(dataset, cassette="tape", backend="elsewhere", seed=7)
    finally:
        manager().unregister(plugin)


@pytest.mark.usefixtures("here")
def test_scoring_a_run_folder_gives_the_score_of_the_run(tmp_path: Path) -> None:
    run = mmlu_pipe.run(limit=20)
    assert mmlu_pipe.score(run.run_dir) == run.score
    written = tmp_path / "again.json"
    assert mmlu_pipe.score(run.run_dir, score_dataset=written) == run.score
    assert written.read_bytes() == run.outputs["score.json"].read_bytes()


@pytest.mark.usefixtures("here")
def test_scoring_never_overwrites(tmp_path: Path) -> None:
    run = mmlu_pipe.run(limit=2)
    with pytest.raises(ConfigError, match="exists already"):
        mmlu_pipe.score(run.run_dir, score_dataset=run.run_dir / "score.json")


@pytest.mark.usefixtures("here")
def test_no_secret_and_no_place_is_in_a_run_folder(
    write_dataset: WriteDataset, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "k3y-0123456789abcdef"
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", secret)
    with AoaiServer(key=secret, deployments={"secret-deployment": "gpt-4o"}, answer=picks) as server:
        config = write_config(server.endpoint, aoai_deployment="secret-deployment")
        mmlu_pipe.run(write_dataset(3), other_config=config, cassette="tape", record_mode="all", output_dir="out")
    for path in [*Path("out").iterdir(), *Path("tape").iterdir()]:
        text = path.read_text(encoding="utf-8")
        for hidden in (secret, "secret-deployment", "127.0.0.1", str(tmp_path)):
            assert hidden not in text, (path, hidden)


@pytest.mark.usefixtures("here")
def test_a_single_requirement_may_be_a_text_and_numbers_must_be_numbers() -> None:
    assert mmlu_pipe.run(limit=1, require="temperature=0").status == "completed"
    with pytest.raises(ConfigError, match="workers must be a whole number, not '8'"):
        mmlu_pipe.run(workers="8")  # type: ignore[arg-type]


@pytest.mark.usefixtures("here")
def test_scores_and_datasets_show_themselves_escaped(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    row = {"subject": "<b>law</b>", "question": "Pick 1", "choices": ["a", "b", "c", "d"], "answer": 1}
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    created = mmlu_pipe.create_dataset("all", split="test", source=str(source), output_dir=tmp_path / "<i>")
    assert "<i>" not in created._repr_html_()
    answered = tmp_path / "answered.jsonl"
    answered.write_text(json.dumps(json.loads(created.path.read_text(encoding="utf-8")) | {"x": 1}), encoding="utf-8")
    shown = mmlu_pipe.score(answered)._repr_html_()
    assert "&lt;b&gt;law" in shown
    assert "<b>" not in shown


@pytest.mark.usefixtures("here")
def test_no_notebook_widget_is_made() -> None:
    from guidance.registry import _registry

    mmlu_pipe.run(limit=1)
    assert _registry._renderer is None


@pytest.mark.usefixtures("here")
def test_recordings_that_no_line_asks_for_are_told(
    write_dataset: WriteDataset, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch, mmlu_pipe_command: Command
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    dataset = write_dataset(12)
    with AoaiServer(answer=picks) as server:
        mmlu_pipe.run(dataset, other_config=write_config(server.endpoint), cassette="tape", record_mode="once")
    whole = mmlu_pipe_command("run", "--dataset", dataset, "--cassette", "tape")
    assert "recordings" not in whole.stdout
    part = mmlu_pipe_command("run", "--dataset", write_dataset(9, "part.jsonl"), "--cassette", "tape")
    assert "recordings    9 used, 3 not (the first: astronomy.yaml, item 10)" in part.stdout
    limited = mmlu_pipe_command("run", "--dataset", dataset, "--cassette", "tape", "--limit", "2")
    assert "recordings" not in limited.stdout


def test_a_run_is_scored_again_by_its_own_keys(write_dataset, tmp_path, monkeypatch, write_config):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    lines = [json.loads(line) for line in write_dataset(4).read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line |= {"gold": (line["correct_answer"] + 1) % 4, "human_choice": 0}
    Path("gold.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    text = bundled_program("zero_shot").read_text(encoding="utf-8").replace("zero_shot_choice", "answer")
    Path("mine.py").write_text(text, encoding="utf-8")
    with AoaiServer() as server:
        run = mmlu_pipe.run("gold.jsonl", "mine.py", other_config=write_config(server.endpoint), correct_key="gold")
    assert (run.score.correct_key, run.score.response_key) == ("gold", "answer")
    assert mmlu_pipe.score(run.run_dir) == run.score
    assert mmlu_pipe.score(run.run_dir, response_key="human_choice").response_key == "human_choice"
