"""A sweep on recordings: its grid, its folder, what a failed or stopped cell does to it, and its one table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmlu_pipe
from mmlu_pipe.bundled import bundled_cassette
from mmlu_pipe.config import RunConfig
from mmlu_pipe.errors import ConfigError, RunCancelled, RunFolderError
from mmlu_pipe.grid import axes_of, cells_of
from mmlu_pipe.plugins import hookimpl, manager
from mmlu_pipe.reporting.sweep import sweep_table
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer

Command = Callable[..., subprocess.CompletedProcess[str]]
PICKS = "def guidance_generation(lm, input):\n    return {{'choice': {}}}\n"
LONG = "a_dataset_of_a_name_that_fills_a_line_of_a_terminal_all_by_itself"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("limit: 6\nworkers: 2\n", encoding="utf-8")
    return tmp_path


def names(*over: str, **options: Any) -> list[str]:
    return [cell.name for cell in cells_of(RunConfig(**options), axes_of(over), Path("s"))]


def test_there_is_a_cell_for_every_combination_in_a_folder_named_after_it() -> None:
    cells = cells_of(RunConfig(workers=3), axes_of(["seed=1,2", "guidance_program=a/few.py,zero_shot"]), Path("s"))
    assert [cell.name for cell in cells] == [
        "seed=1,guidance_program=few",
        "seed=1,guidance_program=zero_shot",
        "seed=2,guidance_program=few",
        "seed=2,guidance_program=zero_shot",
    ]
    assert [(cell.config.seed, cell.config.guidance_program) for cell in cells][1:3] == [
        (1, "zero_shot"),
        (2, "a/few.py"),
    ]
    assert {(cell.config.workers, cell.config.output_dir == Path("s", cell.name)) for cell in cells} == {(3, True)}


def test_an_axis_over_several_texts_keeps_the_others_of_the_file() -> None:
    over = ["program_option=k=3,k=5", "program_option=n=1,2"]
    cells = cells_of(RunConfig(program_option=("k=1", "seed=7")), axes_of(["program_option=k=3,k=5"]), Path("s"))
    assert [(cell.name, cell.config.program_option) for cell in cells] == [
        ("k=3", ("seed=7", "k=3")),
        ("k=5", ("seed=7", "k=5")),
    ]
    assert len(names(*over)) == 4


def test_a_value_with_a_comma_stands_in_quotes_and_null_leaves_an_option_out() -> None:
    cells = cells_of(RunConfig(lines="9"), axes_of(['lines="3,17",20-24,null']), Path("s"))
    assert [cell.config.lines for cell in cells] == ["3,17", "20-24", None]
    assert [cell.name for cell in cells] == ["lines=3_17", "lines=20-24", "lines=null"]


def test_folders_of_values_that_look_alike_are_told_apart_in_the_same_way_each_time() -> None:
    for long in ("", "x" * 300):
        over = ("guidance_program=a/p.py,b/P.py", f"record_note=n{long}")
        found = names(*over)
        assert len({name.casefold() for name in found}) == 2
        assert found == names(*over)
        assert max(map(len, found)) < 200
        assert all(name.startswith("guidance_program=") and "/" not in name for name in found)


def test_files_of_one_name_are_told_apart_by_their_place_and_not_by_how_they_are_written() -> None:
    plain, dotted = (axes_of([f"guidance_program={place}a/p.py,{place}b/p.py"]) for place in ("", "./"))
    assert plain[0].labels == dotted[0].labels == ("p#1", "p#2")
    assert [cell.name for cell in cells_of(RunConfig(), plain, Path("s"))] == [
        cell.name for cell in cells_of(RunConfig(), dotted, Path("s"))
    ]


def test_an_option_of_a_program_is_told_apart_from_one_of_the_run() -> None:
    cells = cells_of(RunConfig(), axes_of(["seed=1,2", "program_option=seed=0,n=5"]), Path("s"))
    assert [dict(cell.options) for cell in cells][:2] == [
        {"seed": "1", "program_option.seed": "0"},
        {"seed": "1", "n": "5"},
    ]


def test_one_cassette_is_not_filled_once_by_several_cells() -> None:
    base = RunConfig(record_mode="once", cassette=Path("tape"), other_config=Path("other.json"))
    with pytest.raises(ConfigError, match="use new_episodes"):
        cells_of(base, axes_of(["seed=1,2"]), Path("s"))
    assert len(cells_of(base, axes_of(["cassette=a,b"]), Path("s"))) == 2


@pytest.mark.parametrize(
    ("over", "told"),
    [
        (["sed=1,2"], "there is no option 'sed'; did you mean seed?"),
        (["seed=1,two"], "--over seed=1,two: seed must be a whole number, not 'two'"),
        (["seed="], "has no values"),
        (["seed=1,,2"], "has an empty value"),
        (["seed"], "is not KEY=VALUE,VALUE"),
        (['lines="3,4'], "a quoted value is not closed"),
        (["seed=1,2", "seed=3"], "seed is given twice"),
        (["seed=1,2,01"], "01 is given twice"),
        (["program_option=k=1,k=2", "program_option=k=3"], "are the same run"),
        (["output_dir=a,b"], "output_dir cannot vary"),
        (["record-mode=none,all"], "record_mode cannot vary"),
        (["backend=local,azureml"], "backend cannot vary"),
        ([], "--over is missing"),
    ],
)
def test_a_bad_axis_is_one_message(over: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names(*over)
    assert told in str(caught.value)


def test_a_sweep_leaves_runs_and_a_table_and_repeated_it_runs_nothing_again(here: Path) -> None:
    over = {"select_strategy": ["auto", "json_schema"], "limit": [4, 6]}
    found = mmlu_pipe.sweep("run.yaml", over=over, output_dir="out")
    assert (found.status, found.failed) == ("completed", ())
    left = {path: path.stat().st_mtime_ns for path in here.glob("out/*/*")}
    assert {path.parent.name for path in left} == {cell.name for cell in found.cells}
    first, wider, *_ = found.cells
    alone = mmlu_pipe.run(limit=6)
    assert wider.score == alone.score
    assert (first.score.count, first.calls, first.difference) == (4, 4, None)
    beside = [(cell.difference.cell, cell.difference.n) for cell in found.cells[1:] if cell.difference]
    assert beside == [(first.name, 4)] * 3
    again = mmlu_pipe.sweep("run.yaml", over=over, output_dir="out")
    assert again.to_json() == found.to_json()
    assert {path: path.stat().st_mtime_ns for path in here.glob("out/*/*")} == left
    written = json.loads((here / "out" / "sweep.json").read_text(encoding="utf-8"))
    assert (written["status"], written["cells"]) == ("completed", found.to_json()["cells"])
    assert str(here) not in json.dumps(written)


def test_the_difference_of_a_cell_is_the_one_that_compare_tells(
    here: Path, write_dataset: Callable[..., Path], write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    write_dataset(40, "x.jsonl")
    write_dataset(8, f"{LONG}.jsonl")
    for name, choice in {
        "zero": "0",
        "half": "input['correct_answer'] // 2",
        "right": "input['correct_answer']",
    }.items():
        (here / f"{name}.py").write_text(PICKS.format(choice), encoding="utf-8")
    with AoaiServer() as server:
        found = mmlu_pipe.sweep(
            over={"guidance_program": ["zero.py", "half.py", "right.py"], "dataset": ["x.jsonl", f"{LONG}.jsonl"]},
            other_config=write_config(server.endpoint),
            output_dir="out",
        )
    x, y = found.cells[::2], found.cells[1::2]
    assert [cell.difference and cell.difference.cell for cell in (*x, *y)] == [
        *(None, x[0].name, x[0].name),
        *(None, y[0].name, y[0].name),
    ]
    told = mmlu_pipe.compare([cell.run_dir for cell in x], allow=["program"])
    assert [(each.delta, each.ci95, each.p_value, each.p_holm) for each in told] == [
        (cell.difference.delta, cell.difference.ci95, cell.difference.p_value, cell.difference.p_holm) for cell in x[1:]
    ]
    table = sweep_table(found)
    assert max(map(len, table.splitlines())) <= 80
    assert "5  guidance_program=right, dataset=x  (beside 1)" in table
    assert x[2].difference.p_holm == 2 * x[2].difference.p_value < 0.05


def test_a_cell_whose_files_were_changed_is_an_error_of_its_own(here: Path) -> None:
    over = {"limit": [1, 2]}
    first = mmlu_pipe.sweep("run.yaml", over=over, output_dir="out")
    (here / "out" / "limit=1" / "output.jsonl").write_text("", encoding="utf-8")
    found = mmlu_pipe.sweep("run.yaml", over=over, output_dir="out")
    assert [(cell.status, type(cell.error)) for cell in found.cells] == [
        ("failed", RunFolderError),
        ("completed", type(None)),
    ]
    assert found.cells[1].score == first.cells[1].score


def test_cells_that_share_no_line_are_not_compared_and_say_why(here: Path) -> None:
    found = mmlu_pipe.sweep("run.yaml", over={"lines": ["1-3", "4-6"]}, limit=None, output_dir="out")
    assert found.status == "completed"
    assert "has no line that" in (found.cells[1].not_compared or "")


def test_a_sweep_that_is_another_one_is_refused_and_says_in_what(here: Path) -> None:
    mmlu_pipe.sweep("run.yaml", over={"limit": [2]}, output_dir="out")
    before = {path: path.read_bytes() for path in here.glob("out/**/*") if path.is_file()}
    with pytest.raises(RunFolderError, match=r"another sweep.*--over \(it was \['limit=2'\], now \['limit=2,3'\]\)"):
        mmlu_pipe.sweep("run.yaml", over={"limit": [2, 3]}, output_dir="out")
    with pytest.raises(RunFolderError, match=r"select_strategy \(it was 'auto', now 'json_schema'\)"):
        mmlu_pipe.sweep("run.yaml", over={"limit": [2]}, select_strategy="json_schema", output_dir="out")
    assert {path: path.read_bytes() for path in here.glob("out/**/*") if path.is_file()} == before
    mmlu_pipe.sweep("run.yaml", over={"limit": [2]}, workers=1, output_dir="out")


def test_a_sweep_whose_program_changed_meanwhile_is_refused_before_a_cell_goes_on(here: Path) -> None:
    program = here / "mine.py"
    program.write_text(PICKS.format(0), encoding="utf-8")
    options = {"guidance_program": "mine.py", "cassette": bundled_cassette("sample", "zero_shot"), "output_dir": "out"}
    mmlu_pipe.sweep(over={"limit": [1, 2]}, **options)
    shutil.rmtree(here / "out" / "limit=2")
    program.write_text(PICKS.format(1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"nothing was started\n  limit=1: .* differs in guidance_program"):
        mmlu_pipe.sweep(over={"limit": [1, 2]}, **options)
    assert not (here / "out" / "limit=2").exists()


def test_a_program_that_changes_while_the_sweep_runs_is_an_error_of_the_cells_that_follow(here: Path) -> None:
    program = here / "mine.py"
    program.write_text(PICKS.format(0), encoding="utf-8")

    class Changes:
        @hookimpl
        def run_finished(self) -> None:
            program.write_text(PICKS.format(1), encoding="utf-8")

    manager().register(changes := Changes())
    cassette = bundled_cassette("sample", "zero_shot")
    try:
        found = mmlu_pipe.sweep(over={"limit": [1, 2]}, guidance_program="mine.py", cassette=cassette)
    finally:
        manager().unregister(changes)
    assert [cell.status for cell in found.cells] == ["completed", "failed"]
    assert "mine.py: changed since the sweep began" in str(found.cells[1].error)


@pytest.mark.parametrize("name", ["notes.txt", "sweep.json"])
def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(here: Path, name: str) -> None:
    (here / "out").mkdir()
    (here / "out" / name).write_text("{}", encoding="utf-8")
    with pytest.raises(RunFolderError, match="give --output-dir a new"):
        mmlu_pipe.sweep("run.yaml", over={"limit": [2]}, output_dir="out")
    assert [path.read_text(encoding="utf-8") for path in here.glob("out/*")] == ["{}"]


def test_cells_that_would_be_refused_are_told_together_before_anything_starts(here: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        mmlu_pipe.sweep("run.yaml", over={"guidance_program": ["zero_shot", "none"], "limit": [1, 2]})
    told = str(caught.value)
    assert told.startswith("nothing was started\n  guidance_program=none,limit=1 and 1 more: none: no such file")
    assert list(here.glob("runs/*")) == []


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ("max_errors=5,bogus", "max_errors=bogus: --max-errors 'bogus': give a whole number"),
        ("select_strategy=auto,bogus", "select_strategy=bogus: --select-strategy 'bogus': use one of"),
        ("require=temperature=0,bogus=1", "bogus=1: --require bogus=1: unknown field"),
        ("lines=1-3,9000", "has no line 9000"),
    ],
)
def test_what_a_cell_would_stumble_over_is_told_before_another_is_paid_for(here: Path, over: str, told: str) -> None:
    with pytest.raises(ConfigError, match="nothing was started") as caught:
        mmlu_pipe.sweep(over={over.partition("=")[0]: over.partition("=")[2].split(",")}, output_dir="out")
    assert told in str(caught.value)
    assert not (here / "out").exists()


def test_values_that_are_no_list_are_refused() -> None:
    for values in (20, "few_shot"):
        with pytest.raises(ConfigError, match="must be a list of values"):
            mmlu_pipe.sweep(over={"limit": values})  # type: ignore[dict-item]


def test_a_stopped_sweep_goes_on_where_it_was(here: Path) -> None:
    class StopsInTheSecondCell:
        cells = lines = 0

        @hookimpl
        def run_started(self) -> None:
            self.cells += 1

        @hookimpl
        def line_finished(self) -> None:
            self.lines += 1
            if self.cells == 2:
                os.kill(os.getpid(), signal.SIGINT)

    over = {"limit": [2, 6, 3]}
    manager().register(stops := StopsInTheSecondCell())
    try:
        with pytest.raises(RunCancelled, match="repeat the command with --output-dir out"):
            mmlu_pipe.sweep("run.yaml", over=over, output_dir="out", workers=1)
    finally:
        manager().unregister(stops)
    assert sorted(path.name for path in here.glob("out/*")) == ["limit=2", "limit=6", "sweep.json"]
    found = mmlu_pipe.sweep("run.yaml", over=over, output_dir="out", workers=1)
    assert [cell.score and cell.score.count for cell in found.cells] == [2, 6, 3]


def test_a_cell_that_fails_does_not_keep_the_others_from_running(here: Path, mmlu_pipe_command: Command) -> None:
    command = ("sweep", "run.yaml", "limit=3", "--over", "select_strategy=auto,logprob,json_schema", "--json")
    done = mmlu_pipe_command(*command, "--output-dir", "out")
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"]) == (1, "failed"), done.stderr
    assert [(cell["status"], cell["lines"]) for cell in told["cells"]] == [
        ("completed", 3),
        ("failed", None),
        ("completed", 3),
    ]
    assert told["cells"][1]["error"]["type"] == "CassetteMiss"
    assert '"error": "CassetteMiss"' in (here / "out" / "sweep.json").read_text(encoding="utf-8")
    assert "1 of 3 cells failed\n  select_strategy=logprob: CassetteMiss: " in done.stderr
    assert done.stderr.rstrip().endswith("to go on, repeat the command with --output-dir out")


def test_the_command_of_the_docs_prints_the_table_of_the_docs(here: Path, mmlu_pipe_command: Command) -> None:
    page = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    (here / "run.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    (command,) = [line for line in page.splitlines() if line.startswith("mmlu-pipe sweep")]
    done = mmlu_pipe_command(*command.split()[1:])
    assert done.returncode == 0, done.stderr
    *shown, _ = page.partition("```text\n")[2].partition("```")[0].splitlines()
    *table, folder = done.stdout.splitlines()
    assert table == shown
    assert (here / folder.removeprefix("sweep folder  ") / "sweep.json").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--config", "run.yaml", "wrkers=2"),
        ("sweep", "run.yaml", "--over", "sed=1,2"),
    ],
)
def test_bad_usage_is_one_message_and_exit_2(arguments: tuple[str, ...], here: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mmlu_pipe", *arguments], cwd=here, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert not (here / "runs").exists()
