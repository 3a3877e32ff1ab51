"""A run as a log of inspect-ai, read again by that package."""

import json
import sys
import warnings

import pytest

import mmlu_pipe
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.reporting.export import export_run


@pytest.fixture
def found(run_dir):
    log = pytest.importorskip("inspect_ai.log")
    path = export_run(run_dir, "inspect")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return log.read_eval_log(path)


def test_inspects_own_reader_takes_the_log_without_a_warning(found, caplog):
    assert caplog.records == []
    assert (found.status, found.version) == ("success", 2)
    assert found.eval.task == "program"
    assert (found.eval.dataset.name, found.eval.dataset.samples) == ("questions", 10)
    assert found.eval.model == "gpt-4o"
    assert found.eval.packages["mmlu-pipe"] == mmlu_pipe.__version__
    assert found.eval.metadata["manifest"]["status"] == "completed"


def test_the_log_tells_when_the_run_was(found, run_dir):
    manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
    assert (found.eval.created, found.stats.started_at) == (manifest["started"], manifest["started"])
    assert found.stats.completed_at == manifest["finished"]


def test_a_sample_has_the_line_and_what_was_sent_and_answered(found):
    sample = found.samples[2]
    assert (sample.id, sample.epoch, sample.target, sample.choices) == (3, 1, "C", ["zero", "one", "two", "three"])
    assert [message.role for message in sample.input] == ["system", "user"]
    assert sample.input[1].content == 'a "quote", a comma\nand a second line'
    assert [message.role for message in sample.messages] == ["system", "user", "assistant"]
    assert sample.output.completion == '{"choice": "0"}'
    assert sample.output.stop_reason == "stop"
    (score,) = sample.scores.values()
    assert (score.value, score.answer) == ("I", "A")
    assert sample.metadata["subject"] == "astronomy"
    assert sample.metadata["zero_shot_choice"] == 0
    assert sample.metadata["_distribution"]["0"] == pytest.approx(0.7)
    assert sample.model_usage["gpt-4o"].total_tokens == sample.output.usage.total_tokens > 0


def test_every_outcome_has_its_value(found):
    told = [(next(iter(sample.scores.values())).value, sample.metadata["_outcome"]) for sample in found.samples]
    assert told[:3] == [("C", "correct"), ("N", "unanswered"), ("I", "wrong")]
    assert told[5:8] == [("I", "invalid"), ("I", "failed"), ("I", "failed")]
    assert next(iter(found.samples[5].scores.values())).answer == "9"


def test_a_failed_line_is_a_sample_with_its_error(found):
    blocked, cut = found.samples[6:8]
    assert blocked.error.message == "ContentFiltered: the content filter blocked the prompt (violence)"
    assert blocked.metadata["_error"]["categories"] == {"violence": "medium"}
    assert [message.role for message in blocked.messages] == ["system", "user"]
    assert cut.error.message.startswith("Truncated: ")
    assert [message.role for message in cut.messages] == ["system", "user", "assistant"]
    assert cut.output.stop_reason == "max_tokens"
    assert [sample.id for sample in found.samples if sample.error] == [7, 8]


def test_a_log_in_json_says_the_same(found, run_dir, tmp_path):
    from inspect_ai.log import read_eval_log

    path = export_run(run_dir, "inspect", tmp_path / "log.json")
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 2
    again = read_eval_log(path)
    assert again.results == found.results
    assert again.samples == found.samples


def test_a_run_exported_again_is_the_same_evaluation(found, run_dir, tmp_path):
    from inspect_ai.log import read_eval_log

    again = read_eval_log(export_run(run_dir, "inspect", tmp_path / "again.eval"))
    assert again.eval == found.eval
    assert [sample.uuid for sample in again.samples] == [sample.uuid for sample in found.samples]


def test_without_the_package_the_command_that_installs_it_is_told(run_dir, monkeypatch):
    monkeypatch.delitem(sys.modules, "mmlu_pipe.reporting.export.inspect_log", raising=False)
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(ConfigError, match=r'pip install "mmlu-pipe\[inspect\]"'):
        export_run(run_dir, "inspect")
    assert not (run_dir / "inspect.eval").exists()
