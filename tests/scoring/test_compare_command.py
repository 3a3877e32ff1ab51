import json
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.scoring.compare import compare


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs of the bundled sample, the second on fewer lines."""
    monkeypatch.chdir(tmp_path)
    return [mmlu_pipe.run(output_dir=name, limit=limit).run_dir for name, limit in (("a", 40), ("b", 30))]


def test_the_command_prints_the_object_that_python_has(runs, mmlu_pipe_command):
    done = mmlu_pipe_command("compare", *runs, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    value = json.loads(done.stdout)
    assert value == json.loads(json.dumps(compare(runs)[0].to_json()))
    assert (value["n"], value["unpaired_a"]) == (30, 10)


def test_more_than_two_runs_are_a_list_of_comparisons(runs, mmlu_pipe_command):
    value = json.loads(mmlu_pipe_command("compare", *runs, runs[0], "--json").stdout)
    assert [(each["run_a"], each["run_b"]) for each in value["comparisons"]] == [("a", "b"), ("a", "a")]


def test_for_people_the_summary_fits_80_columns(runs, mmlu_pipe_command):
    done = mmlu_pipe_command("compare", *runs, runs[0])
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.count("paired bootstrap") == 2


def test_names_of_what_is_allowed_come_by_commas_or_one_by_one(runs, mmlu_pipe_command):
    assert mmlu_pipe_command("compare", *runs, "--allow", "program,model", "--allow", "strategy").returncode == 0
    done = mmlu_pipe_command("compare", *runs, "--allow", "program,modle")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--allow 'modle': use program, model, strategy, settings" in done.stderr


def test_a_folder_without_a_run_is_one_clear_error(runs, mmlu_pipe_command):
    Path("empty").mkdir()
    done = mmlu_pipe_command("compare", runs[0], "empty")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "name the folder of a completed run" in done.stderr
