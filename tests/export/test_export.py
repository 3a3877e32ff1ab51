"""A run as files for other tools."""

import csv
import json
import re

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmlu_pipe
from mmlu_pipe.errors import ConfigError, RunFolderError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.reporting.export import FORMATS, export_run
from mmlu_pipe.reporting.export.columns import Kind, cell, kinds_of
from mmlu_pipe.reporting.export.files import csv_cell
from mmlu_pipe.reporting.export.rows import line_table
from mmlu_pipe.reporting.export.source import Source
from mmlu_pipe.reporting.html import write_report

TABLES = [form for form in FORMATS if form != "inspect"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
TYPES = {Kind.BOOLEAN: bool, Kind.INTEGER: int, Kind.NUMBER: float, Kind.TEXT: str, Kind.TEXTS: list, Kind.JSON: str}


def parquet_rows(path):
    return duckdb.sql(f"SELECT * FROM '{path}'").fetchall()


def csv_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def rewrite_manifest(folder, change):
    path = folder / "manifest.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def replace(folder, name, content):
    """Put another file in the place of one of a run, as if the run had left it so."""
    (folder / name).write_bytes(content)
    digest = sha256_file(folder / name)
    rewrite_manifest(folder, lambda value: value["outputs"].update({name: digest}))


def test_score_terminal_report_and_every_export_tell_the_same_figures(run_dir, mmlu_pipe_command):
    log = pytest.importorskip("inspect_ai.log")
    score = json.loads((run_dir / "score.json").read_text(encoding="utf-8"))
    assert score["failed"] == 2
    accuracy, count = score["accuracy"], score["count"]

    terminal = mmlu_pipe_command("score", run_dir).stdout
    low, high = (100 * score["ci95"][end] for end in ("low", "high"))
    assert re.search(rf"^accuracy +{100 * accuracy:.1f} %  \({low:.1f} to {high:.1f}\)", terminal, re.MULTILINE)
    assert re.search(rf"^correct +{score['n_correct']} of {count} lines$", terminal, re.MULTILINE)

    assert f'<data value="{accuracy}">{100 * accuracy:.1f} %</data>' in write_report(run_dir).read_text(
        encoding="utf-8"
    )

    found = log.read_eval_log(export_run(run_dir, "inspect"))
    (told,) = found.results.scores
    assert {name: metric.value for name, metric in told.metrics.items()} == {
        "accuracy": accuracy,
        "stderr": score["stderr"],
    }
    assert (found.results.total_samples, found.results.completed_samples) == (count, count - score["failed"])
    values = [sample.scores[told.name].value for sample in found.samples]
    assert (values.count("C") / len(values), values.count("N")) == (accuracy, score["unanswered"])
    assert sum(sample.error is not None for sample in found.samples) == score["failed"]

    parquet = export_run(run_dir, "parquet")
    counts = "count(*), count(_error_kind), count(*) FILTER (_outcome = 'invalid')"
    (figures,) = duckdb.sql(f"SELECT avg(_correct::INT), {counts} FROM '{parquet}'").fetchall()
    assert figures == (accuracy, count, score["failed"], score["invalid"])

    head, *rows = csv_rows(export_run(run_dir, "csv"))
    assert [row[head.index("_correct")] for row in rows].count("true") / len(rows) == accuracy

    frame = mmlu_pipe.load_run(run_dir).lines()
    assert (frame["_correct"].mean(), len(frame)) == (accuracy, count)


def test_a_table_has_one_row_a_line_with_what_it_was_and_what_became_of_it(run_dir):
    path = export_run(run_dir, "parquet")
    names = [name for name, *_ in duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
    rows = [dict(zip(names, row, strict=True)) for row in parquet_rows(path)]
    assert [row["_line_number"] for row in rows] == list(range(1, 11))
    right, unanswered, wrong, invalid, failed = (rows[place] for place in (0, 1, 2, 5, 6))
    assert (right["_outcome"], right["_chosen_letter"], right["_correct_letter"], right["_calls"]) == (
        "correct",
        "A",
        "A",
        1,
    )
    assert right["_prompt_tokens"] > 0
    assert right["_completion_tokens"] > 0
    assert right["_latency_s"] > 0
    assert right["choices"] == ["zero", "one", "two", "three"]
    assert (unanswered["_outcome"], unanswered["_chosen_letter"], unanswered["zero_shot_choice"]) == (
        "unanswered",
        None,
        None,
    )
    assert (wrong["_outcome"], wrong["_chosen_letter"], wrong["_correct_letter"]) == ("wrong", "A", "C")
    assert wrong["question"] == 'a "quote", a comma\nand a second line'
    assert (invalid["_outcome"], invalid["_chosen_letter"], invalid["zero_shot_choice"]) == ("invalid", None, 9)
    assert (failed["_outcome"], failed["_chosen_letter"], failed["_correct_letter"]) == ("failed", None, "C")
    assert (failed["_error_kind"], failed["_error_type"]) == ("content_filter", "ContentFiltered")
    assert "content filter" in failed["_error_message"]


def test_the_probability_of_the_correct_choice_is_the_one_that_the_calibration_counts(run_dir):
    source = Source.read(run_dir)
    place = line_table(source).names.index("_correct_probability")
    told = [(row[2], row[place]) for row in line_table(source).rows() if row[place] is not None]
    calibration = source.score.calibration
    assert len(told) == calibration.lines
    call = json.loads((run_dir / "calls.jsonl").read_bytes().splitlines()[2])
    assert told[1] == (False, call["distribution"]["2"] / sum(call["distribution"].values()))
    sure = [probability for correct, probability in told if correct]
    assert sum(sure) / len(sure) == pytest.approx(next(bin.confidence for bin in calibration.bins if bin.count))


def test_without_a_calibration_there_is_no_probability(run_dir):
    score = json.loads((run_dir / "score.json").read_text(encoding="utf-8")) | {"calibration": None}
    replace(run_dir, "score.json", json.dumps(score).encode())
    found = duckdb.sql(f"SELECT count(_correct_probability) FROM '{export_run(run_dir, 'parquet')}'").fetchall()
    assert found == [(0,)]


def test_values_of_several_types_are_json_text(run_dir):
    notes = duckdb.sql(f"SELECT note FROM '{export_run(run_dir, 'parquet')}'").fetchall()
    assert [json.loads(note) for (note,) in notes[:3]] == ["-text", ["a", {"b": 1}], ["a", {"b": 2}]]


@pytest.mark.parametrize("form", TABLES)
def test_the_same_run_gives_the_same_bytes(run_dir, tmp_path, form):
    first, second = (export_run(run_dir, form, tmp_path / name).read_bytes() for name in ("one", "two"))
    assert first == second


@pytest.mark.parametrize("form", TABLES)
def test_a_byte_order_mark_in_the_files_of_a_run_makes_no_difference(run_dir, run_dir_with_bom, form):
    rows = parquet_rows if form == "parquet" else csv_rows
    one, other = (rows(export_run(folder, form)) for folder in (run_dir, run_dir_with_bom))
    timing = 12
    assert [row[:timing] + row[timing + 1 :] for row in one] == [row[:timing] + row[timing + 1 :] for row in other]


def test_no_cell_of_a_csv_begins_as_a_formula_and_every_text_can_be_had_again(run_dir):
    head, *rows = csv_rows(export_run(run_dir, "csv"))
    questions = [row[head.index("question")] for row in rows]
    assert not [text for text in questions if text.startswith(("=", "+", "-", "@"))]
    told = [text.removeprefix("'") for text in questions]
    expected = [row[0] for row in duckdb.sql(f"SELECT question FROM '{export_run(run_dir, 'parquet')}'").fetchall()]
    assert told == expected
    assert {"=1+1", "'apostrophe"} <= set(told)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_comes_back_from_its_cell_of_a_csv(text):
    (row,) = csv.reader([csv_cell(text)]) if "\n" not in text and "\r" not in text else [[_unquoted(csv_cell(text))]]
    assert row[0].removeprefix("'") == text or (row[0] == text and not text.startswith("'"))
    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


def _unquoted(text):
    return text[1:-1].replace('""', '"')


def test_null_and_the_empty_text_differ_in_a_csv():
    assert [csv_cell(value) for value in (None, "", True, 1, 0.5)] == ["", '""', "true", "1", "0.5"]


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("ab"), JSON), max_size=5))
def test_every_value_fits_the_column_that_it_is_in(rows):
    kinds = kinds_of(rows, {})
    for row in rows:
        for name, value in row.items():
            told = cell(value, kinds[name])
            assert told is None if value is None else type(told) is TYPES[kinds[name]]
            if kinds[name] is Kind.JSON and value is not None and "?" not in told:
                assert json.loads(told) == value


def test_integers_and_numbers_are_numbers_together_and_too_large_integers_are_text():
    rows = [{"a": 1, "b": 1, "c": None}, {"a": 0.5, "b": 1 << 63, "c": None}]
    assert kinds_of(rows, {}) == {"a": Kind.NUMBER, "b": Kind.JSON, "c": Kind.TEXT}
    assert [cell(row["b"], Kind.JSON) for row in rows] == ["1", "9223372036854775808"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_there_is_never_overwritten(run_dir, tmp_path, form):
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{re.escape(str(taken))}: exists already; give --output another name"):
        export_run(run_dir, form, taken)
    assert taken.read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name != run_dir.name] == ["taken"]


def test_a_file_that_cannot_be_written_says_where_and_nothing_is_left_behind(run_dir, tmp_path):
    with pytest.raises(RunFolderError, match=re.escape(str(tmp_path / "none" / "lines.csv"))):
        export_run(run_dir, "csv", tmp_path / "none" / "lines.csv")
    changed = (run_dir / "output.jsonl").read_bytes().replace(b'"question"', b'"_correct"')
    replace(run_dir, "output.jsonl", changed)
    before = sorted(run_dir.iterdir())
    with pytest.raises(ConfigError, match="line 1 has the key '_correct', which is a column of every table"):
        export_run(run_dir, "csv")
    assert sorted(run_dir.iterdir()) == before


@pytest.mark.parametrize("name", ["output.jsonl", "errors.jsonl", "calls.jsonl", "score.json"])
def test_a_run_of_which_a_file_has_changed_is_refused(run_dir, name):
    with (run_dir / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(RunFolderError, match=rf"{name}: is not as the run left it .*; restore it"):
        export_run(run_dir, "csv")
    (run_dir / name).unlink()
    with pytest.raises(RunFolderError, match=name):
        export_run(run_dir, "csv")
    assert not (run_dir / "lines.csv").exists()


def test_a_folder_without_a_completed_run_is_refused(run_dir, tmp_path):
    with pytest.raises(RunFolderError, match="name the folder of a completed run"):
        export_run(tmp_path / "none", "csv")
    rewrite_manifest(run_dir, lambda value: value.update(status="failed"))
    with pytest.raises(RunFolderError, match="has not completed"):
        export_run(run_dir, "csv")


def test_a_format_that_there_is_not_is_an_error_that_names_those_that_there_are(run_dir):
    with pytest.raises(ConfigError, match="known are inspect, parquet, csv"):
        export_run(run_dir, "xlsx")


def test_a_run_goes_on_to_be_read_and_run_again_after_an_export(run_dir):
    export_run(run_dir, "csv")
    export_run(run_dir, "csv", run_dir / "again.csv")
    assert mmlu_pipe.load_run(run_dir).score.count == 10


def test_the_command_prints_where_the_file_is(run_dir, mmlu_pipe_command, tmp_path):
    done = mmlu_pipe_command("export", run_dir, "--format", "csv")
    assert (done.returncode, done.stdout.strip()) == (0, str(run_dir / "lines.csv"))
    done = mmlu_pipe_command("export", run_dir, "--format", "parquet", "--output", tmp_path / "mine.parquet")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "mine.parquet"))
    done = mmlu_pipe_command("export", tmp_path, "--format", "csv")
    assert done.returncode == RunFolderError.exit_code
    assert "Traceback" not in done.stderr


def test_a_key_that_no_parquet_file_can_have_is_refused_and_csv_has_it(run_dir):
    replace(run_dir, "output.jsonl", (run_dir / "output.jsonl").read_bytes().replace(b'"dataset"', b'""'))
    with pytest.raises(
        ConfigError, match=r"cannot be written as Parquet .*zero-length.*; mend what it names, or take csv$"
    ):
        export_run(run_dir, "parquet")
    assert not (run_dir / "lines.parquet").exists()
    assert "" in csv_rows(export_run(run_dir, "csv"))[0]
