"""A run as data frames."""

import subprocess
import sys

import pytest

import mmlu_pipe
from mmlu_pipe.errors import ConfigError, MmluPipeError

PACKAGES = {"pandas": "pandas", "polars": "polars", "arrow": "pyarrow"}


def as_lists(frame, kind):
    """Column → values, null being None in every library."""
    if kind == "pandas":
        return frame.astype(object).where(frame.notna(), None).to_dict(orient="list")
    return frame.to_dict(as_series=False) if kind == "polars" else frame.to_pydict()


@pytest.fixture(params=PACKAGES)
def kind(request):
    pytest.importorskip(PACKAGES[request.param])
    return request.param


def test_a_loaded_run_has_its_score_and_its_manifest(run_dir):
    found = mmlu_pipe.load_run(run_dir)
    assert isinstance(found, mmlu_pipe.LoadedRun)
    assert found.score.failed == 2
    assert found.manifest["status"] == "completed"
    assert found.run_dir == run_dir


def test_every_library_gets_the_same_lines(run_dir, kind):
    lines = as_lists(mmlu_pipe.load_run(str(run_dir)).lines(kind), kind)
    assert lines["_line_number"] == list(range(1, 11))
    assert lines["_correct"] == [place in (0, 4, 8) for place in range(10)]
    assert lines["zero_shot_choice"] == [0, None, 0, 0, 0, 9, None, None, 0, 0]
    assert lines["_error_kind"] == [None] * 6 + ["content_filter", "truncated"] + [None] * 2
    assert [list(choices) for choices in lines["choices"]] == [["zero", "one", "two", "three"]] * 10
    assert lines["question"][8] == "? alone"


def test_every_library_gets_the_same_calls(run_dir, kind):
    calls = as_lists(mmlu_pipe.load_run(run_dir).calls(kind), kind)
    assert calls["line_number"] == list(range(1, 11))
    assert calls["messages"][0].startswith('[{"role": "system"')
    assert [text is None for text in calls["text"]] == [place == 6 for place in range(10)]


def test_every_library_gets_the_same_errors(run_dir, kind):
    errors = as_lists(mmlu_pipe.load_run(run_dir).errors(kind), kind)
    assert errors["_line_number"] == [7, 8]
    assert errors["_error_kind"] == ["content_filter", "truncated"]
    assert errors["_error_details"] == ['{"categories": {"violence": "medium"}}', None]
    assert errors["question"] == ["blocked", "cut"]


def test_a_run_without_failures_has_an_empty_table_of_errors(tmp_path, kind):
    run = mmlu_pipe.run(limit=2, output_dir=tmp_path / "run")
    assert mmlu_pipe.load_run(run.run_dir).errors(kind).shape == (0, 5)


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(run_dir, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    with pytest.raises(ConfigError, match=f"pip install {PACKAGES[kind]}$"):
        mmlu_pipe.load_run(run_dir).lines(kind)


def test_a_library_that_is_not_known_is_an_error_that_names_those_that_are(run_dir):
    with pytest.raises(ConfigError, match="known are pandas, polars, arrow"):
        mmlu_pipe.load_run(run_dir).lines("spark")


def test_what_is_no_run_is_refused_when_it_is_loaded(tmp_path):
    with pytest.raises(MmluPipeError, match="name the folder of a completed run"):
        mmlu_pipe.load_run(tmp_path)


def test_loading_a_run_loads_no_library_of_tables(run_dir):
    code = (
        "import sys, mmlu_pipe; mmlu_pipe.load_run(sys.argv[1]); "
        "print({'pandas', 'polars', 'pyarrow', 'duckdb', 'inspect_ai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, run_dir], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
