import codecs
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.components.jsonl_score_multiplechoice import jsonl_score_multiplechoice as score_component
from mmlu_pipe.config import RunConfig
from mmlu_pipe.dataset.schema import check_dataset
from mmlu_pipe.errors import ConfigError, DatasetError, RunFolderError
from mmlu_pipe.pipeline import mmlu_pipeline
from mmlu_pipe.records import ERROR_KEY, Score
from mmlu_pipe.scoring.categories import SUBJECTS
from mmlu_pipe.scoring.columns import MIN_BYTES, count_alike

MODULE = "mmlu_pipe.components.jsonl_score_multiplechoice"
REPAIR = "mmlu-pipe score RUN_DIR --response-key KEY (answers are kept; scoring again costs nothing)"


def question(response=..., *, key="zero_shot_choice", correct=1, subject="anatomy", **more):
    line = {
        "dataset": "mmlu",
        "subject": subject,
        "question": "Which bone is the longest?",
        "choices": ["Ulna", "Femur", "Tibia", "Radius"],
        "correct_answer": correct,
        **more,
    }
    return line if response is ... else line | {key: response}


def failed(kind="refused", subject="anatomy"):
    error = {"line_number": 1, "kind": kind, "error_type": "Refused", "message": "no"}
    return question(subject=subject) | {ERROR_KEY: error}


def write(path, lines, prefix=b""):
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_bytes(prefix + text.encode())
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def scored(folder, lines, errors=None, **options):
    """The score of `lines`, through files and the component in this process."""
    source = write(folder / "output.jsonl", lines)
    if errors is not None:
        options["error_dataset"] = write(folder / "errors.jsonl", errors)
    score_component(input_dataset=source, score_dataset=folder / "score.json", **options)
    return json.loads((folder / "score.json").read_bytes())


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(Path(mmlu_pipe.__file__).parents[1])}
    command = [sys.executable, "-m", MODULE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment, encoding="utf-8", check=False)


def many_lines():
    chooser = random.Random(20)
    spellings = [0, 1, 2, 3, "1", " 1", 1.0, 4, "B", True, None, ...]
    return [question(chooser.choice(spellings), subject=chooser.choice([*SUBJECTS, "地理"])) for _ in range(400)]


def test_in_process_and_as_a_process_the_bytes_are_equal(folder):
    source = write(folder / "output.jsonl", many_lines())
    errors = write(folder / "errors.jsonl", [failed("truncated"), failed("refused", "地理"), failed("refused")])
    calls = write(folder / "calls.jsonl", [{"line_number": 1, "latency_s": 0.25}])
    keys = json.dumps(["dataset", "subject", "question", "choices", "地理"])
    values = {"input_dataset": source, "error_dataset": errors, "calls_dataset": calls, "dataset_keys": keys}
    score_component(**values, score_dataset=folder / "in_process.json")
    done = start(*score_component.arguments(values | {"score_dataset": folder / "as_process.json"}))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "as_process.json").read_bytes() == (folder / "in_process.json").read_bytes()


def test_the_score_file_is_indented_utf8_with_line_feeds_and_a_final_one(folder):
    scored(folder, [question(1, subject="地理")])
    content = (folder / "score.json").read_bytes()
    assert content.startswith(b'{\n  "count": 1,\n  "n_correct": 1,\n')
    assert content.endswith(b"\n}\n")
    assert b"\r" not in content
    assert not content.startswith(codecs.BOM_UTF8)
    assert '    "地理": {\n'.encode() in content


def test_the_score_file_has_the_keys_of_the_record_in_their_order(folder):
    found = scored(folder, [question(1), question(0), question(None)], [failed()])
    of_a_part = [
        *("count", "n_correct", "accuracy", "stderr", "ci95", "answered", "unanswered", "failed", "invalid"),
        *("accuracy_answered", "ci95_answered", "macro"),
    ]
    assert list(found) == [
        *of_a_part,
        *("failed_by_kind", "response_key", "correct_key", "by_subject", "by_category"),
        *("position_bias", "calibration"),
    ]
    part = {key: found[key] for key in of_a_part}
    assert part["accuracy"] == 0.25
    assert found["accuracy_answered"] == 0.5
    assert list(part["ci95"]) == ["low", "high"]
    assert part["macro"] == {"subjects": 1, "accuracy": 0.25, "stderr": 0.25}
    assert found["by_subject"] == {"anatomy": part | {"macro": None}}
    assert found["by_category"] == {"other": part}
    assert list(found["by_subject"]["anatomy"]) == list(part)


def test_the_order_of_the_lines_makes_no_difference_to_the_bytes(folder):
    lines = many_lines()
    scored(folder, lines, [failed("b"), failed("a")])
    first = (folder / "score.json").read_bytes()
    scored(folder, lines[::-1], [failed("a"), failed("b")])
    assert (folder / "score.json").read_bytes() == first


@pytest.mark.parametrize(
    ("response", "n_correct", "invalid", "unanswered"),
    [
        (1, 1, 0, 0),
        (1.0, 1, 0, 0),
        ("1", 1, 0, 0),
        (" 1\n", 1, 0, 0),
        (0, 0, 0, 0),
        (4, 0, 1, 0),
        (-1, 0, 1, 0),
        ("Femur", 0, 1, 0),
        ("B", 0, 1, 0),
        (True, 0, 1, 0),
        (None, 0, 0, 1),
        (..., 0, 0, 1),
    ],
)
def test_each_response_is_right_wrong_invalid_or_unanswered(folder, response, n_correct, invalid, unanswered):
    found = scored(folder, [question(response), question(1)])
    assert found["n_correct"] - 1 == n_correct
    assert found["invalid"] == invalid
    assert found["unanswered"] == unanswered
    assert found["answered"] == 2 - unanswered


def test_a_dataset_with_its_answers_in_digits_scores_as_with_integers(folder):
    responses = [0, 1, "1", " 1\n", 1.0, 2, 4, "Femur", None]
    (folder / "data.jsonl").write_text(json.dumps(question(correct="1")) + "\n", encoding="utf-8")
    assert check_dataset(folder / "data.jsonl").lines == 1
    spelt = scored(folder, [question(response, correct="1") for response in responses])
    assert spelt == scored(folder, [question(response, correct=1) for response in responses])
    assert (spelt["n_correct"], spelt["invalid"], spelt["answered"]) == (4, 2, 8)


def test_a_custom_correct_key_with_letters_is_compared_exactly(folder):
    lines = [question(letter, correct=0, letter="B") for letter in ("B", "b", "A", 1)]
    found = scored(folder, lines, correct_key="letter", response_key="zero_shot_choice")
    assert (found["n_correct"], found["invalid"], found["correct_key"]) == (1, 0, "letter")


def test_failed_lines_count_in_the_whole_their_subject_category_and_kind(folder):
    found = scored(folder, [question(1)], [failed("refused"), failed("refused", "sociology"), {"subject": "anatomy"}])
    assert (found["count"], found["failed"], found["accuracy"], found["accuracy_answered"]) == (4, 3, 0.25, 1.0)
    assert found["failed_by_kind"] == {"refused": 2, "unknown": 1}
    assert {name: part["count"] for name, part in found["by_subject"].items()} == {"anatomy": 3, "sociology": 1}
    assert {name: part["count"] for name, part in found["by_category"].items()} == {"social sciences": 1, "other": 3}


def test_lines_without_a_subject_count_only_in_the_whole(folder):
    line = question(1)
    del line["subject"]
    found = scored(folder, [line])
    assert (found["count"], found["by_subject"], found["by_category"]) == (1, {}, {})


def test_a_subject_outside_mmlu_is_in_no_category(folder):
    found = scored(folder, [question(1, subject="knots")])
    assert (list(found["by_subject"]), found["by_category"]) == (["knots"], {})


def test_zero_lines_have_no_accuracy_and_do_not_fail(folder):
    found = scored(folder, [])
    assert (found["count"], found["accuracy"], found["accuracy_answered"], found["ci95"]) == (0, None, None, None)
    assert found["response_key"] == "zero_shot_choice"


def test_a_run_whose_lines_all_failed_has_accuracy_0(folder):
    found = scored(folder, [], [failed(), failed()])
    assert (found["count"], found["failed"], found["accuracy"], found["accuracy_answered"]) == (2, 2, 0.0, None)
    assert found["ci95"]["low"] == 0.0
    assert found["response_key"] == "zero_shot_choice"


def test_a_byte_order_mark_and_windows_line_ends_make_no_difference(folder):
    lines = [question(1), question(2)]
    plain = scored(folder, lines)
    content = (folder / "output.jsonl").read_bytes()
    (folder / "output.jsonl").write_bytes(codecs.BOM_UTF8 + content.replace(b"\n", b"\r\n"))
    errors = write(folder / "errors.jsonl", [], prefix=codecs.BOM_UTF8)
    score_component(input_dataset=folder / "output.jsonl", error_dataset=errors, score_dataset=folder / "again.json")
    assert json.loads((folder / "again.json").read_bytes()) == plain


def test_zero_shot_choice_is_the_response_if_any_line_has_it(folder):
    lines = [question(3, key="other_choice"), question(1, other_choice=0)]
    found = scored(folder, lines)
    assert (found["response_key"], found["n_correct"], found["unanswered"]) == ("zero_shot_choice", 1, 1)


def test_the_one_key_added_to_every_line_is_the_response(folder):
    lines = [question(1, key="few_shot_choice", note="x"), question(2, key="few_shot_choice")]
    found = scored(folder, lines)
    assert (found["response_key"], found["n_correct"]) == ("few_shot_choice", 1)


def test_a_custom_correct_key_is_not_taken_for_the_response(folder):
    line = question(1, key="my_choice", letter="B")
    del line["correct_answer"]
    assert scored(folder, [line], correct_key="letter")["response_key"] == "my_choice"


def own_keys(folder, lines):
    """The keys of a dataset as the pipeline binds them."""
    facts = check_dataset(write(folder / "data.jsonl", lines))
    pipeline = mmlu_pipeline(
        RunConfig(), dataset=facts.path, program=facts.path, endpoint=None, cassette=None, dataset_keys=facts.keys
    )
    return pipeline.steps[-1].inputs["dataset_keys"]


def test_a_key_that_the_dataset_had_before_is_not_taken_for_the_response(folder):
    lines = [question(id=number, tags=["bone"]) for number in range(3)]
    known = own_keys(folder, lines)
    assert json.loads(known) == ["choices", "correct_answer", "dataset", "id", "question", "subject", "tags"]
    found = scored(folder, [line | {"my_choice": 1} for line in lines], dataset_keys=known)
    assert (found["response_key"], found["n_correct"]) == ("my_choice", 3)
    with pytest.raises(ConfigError, match="every line has 'id', 'tags', 'mine'"):
        scored(folder, [line | {"mine": 1} for line in lines])


def test_of_several_new_keys_the_only_choice_is_the_response(folder):
    lines = [question(1, key="my_choice", my_votes=[1, 1], my_reasoning="so") for _ in range(3)]
    found = scored(folder, lines)
    assert (found["response_key"], found["n_correct"]) == ("my_choice", 3)
    with pytest.raises(ConfigError, match="every line has 'your_choice', 'my_choice'"):
        scored(folder, [question(1, key="my_choice", your_choice=1)])


def test_a_zero_shot_choice_that_the_dataset_had_before_is_not_the_response(folder):
    lines = [question(0), question(0)]
    found = scored(folder, [line | {"my_choice": 1} for line in lines], dataset_keys=own_keys(folder, lines))
    assert (found["response_key"], found["n_correct"]) == ("my_choice", 2)


def test_the_pipeline_binds_no_keys_where_they_are_not_known(folder):
    pipeline = mmlu_pipeline(RunConfig(), dataset=folder, program=folder, endpoint=None, cassette=None)
    assert pipeline.steps[-1].inputs["dataset_keys"] is None


@pytest.mark.parametrize("text", ["", "id,tags", '{"id": 1}', '["id", 1]', "null", '"id"', "[" * 100_000])
@pytest.mark.parametrize("response_key", [None, "zero_shot_choice"])
def test_dataset_keys_that_are_no_list_of_names_are_refused(folder, text, response_key):
    with pytest.raises(ConfigError, match="dataset_keys must be a JSON list of names") as caught:
        scored(folder, [question(1)], dataset_keys=text, response_key=response_key)
    assert caught.value.key == "dataset_keys"
    assert len(str(caught.value)) < 200


def test_a_response_key_that_no_line_has_is_refused_with_the_free_repair(folder):
    with pytest.raises(ConfigError, match="no line has the response key 'mine'; the lines have") as caught:
        scored(folder, [question(1)], response_key="mine")
    assert str(caught.value).endswith(REPAIR)


def test_a_named_response_key_wins_over_zero_shot_choice(folder):
    found = scored(folder, [question(0, few_shot_choice=1)], response_key="few_shot_choice")
    assert (found["response_key"], found["n_correct"]) == ("few_shot_choice", 1)


def test_a_named_response_key_that_a_line_lacks_leaves_it_unanswered(folder):
    found = scored(folder, [question(0), question(0, mine=1)], response_key="mine")
    assert (found["unanswered"], found["n_correct"]) == (1, 1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([question(1, key="first", second=2), question(1, key="first", second=2)], "every line has 'second', 'first'"),
        (
            [question(1, key="first"), question(1, key="second")],
            "no key was added to every line, some have 'first', 'second'",
        ),
        ([question()], "no key was added to the dataset's own"),
    ],
)
def test_a_response_key_that_cannot_be_told_is_asked_for(folder, lines, said):
    with pytest.raises(ConfigError) as caught:
        scored(folder, lines)
    message = str(caught.value)
    assert said in message
    assert message.endswith(REPAIR)
    assert str(folder / "output.jsonl") in message
    assert caught.value.key == "response_key"
    assert not (folder / "score.json").exists()


def test_lines_without_the_correct_answer_are_all_listed_with_file_line_and_key(folder):
    lacking, null = question(1), question(1, correct=None)
    del lacking["correct_answer"]
    with pytest.raises(DatasetError) as caught:
        scored(folder, [question(1), lacking, question(1), null])
    message = str(caught.value)
    assert f"{folder / 'output.jsonl'}: 2 bad lines" in message
    assert "line 2: has no correct answer 'correct_answer'; it has dataset, subject, question" in message
    assert "line 4: the correct answer 'correct_answer' is null" in message
    assert (caught.value.path, caught.value.line_number) == (folder / "output.jsonl", 2)
    assert not (folder / "score.json").exists()


def test_a_long_list_of_bad_lines_is_cut_and_counted(folder):
    with pytest.raises(DatasetError) as caught:
        scored(folder, [question(1)] * 60, correct_key="answr")
    assert "60 bad lines" in str(caught.value)
    assert "… and 10 more" in str(caught.value)


@pytest.mark.parametrize("port", ["input_dataset", "error_dataset"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"a": \n', ":2: is not JSON"),
        (b'{"correct_answer": 1}\n[1]\n', ":2: is a JSON array, not an object"),
        (b'{"correct_answer": NaN}\n', ":1: holds NaN"),
        (b'{"correct_answer": "\xff"}\n', ":1: is not UTF-8"),
        ('{"correct_answer": 1}\n'.encode("utf-16"), "is UTF-16 or UTF-32"),
        (None, "cannot be read"),
    ],
)
def test_an_unreadable_dataset_is_named_with_its_line(folder, port, content, said):
    path = folder / "bad.jsonl"
    if content is not None:
        path.write_bytes(content)
    values = {"input_dataset": write(folder / "output.jsonl", [question(1)])} | {port: path}
    with pytest.raises(DatasetError) as caught:
        score_component(**values, score_dataset=folder / "score.json", response_key="zero_shot_choice")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert not (folder / "score.json").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[1]\n", ":1: is a JSON array, not an object"),
        (b'\n{"a": \n', ":2: is not JSON"),
        (b'{"a": "\xff"}\n', ":1: is not UTF-8"),
        (b'{"line_number": 1}\nnot json\n', ":2: is not JSON"),
        (b'{"latency_s": 1}\n', ":1: line_number is None"),
        (None, "cannot be read"),
    ],
)
def test_unreadable_calls_are_named(folder, content, said):
    path = folder / "calls.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        scored(folder, [question(1)], calls_dataset=path)
    assert f"{path}{said}" in str(caught.value) or (content is None and said in str(caught.value))
    assert not (folder / "score.json").exists()


def called(distribution, number=1, **more):
    return {"line_number": number, "index": 0, "distribution": distribution, "latency_s": 0.25, "error": None} | more


def test_calls_without_distributions_make_no_difference_to_the_score(folder):
    without = scored(folder, [question(1), question(0)])
    calls = write(folder / "calls.jsonl", [called(None, 1), called(None, 2)])
    assert scored(folder, [question(1), question(0)], calls_dataset=calls) == without
    assert without["calibration"] is None


def test_the_distributions_of_the_calls_tell_how_far_they_can_be_trusted(folder):
    calls = write(
        folder / "calls.jsonl",
        [called({"1": 0.75, "0": 0.25}, 1), called({"0": 0.6}, 3, error="cut"), called({"0": 0.5, "2": 0.3}, 4)],
    )
    found = scored(folder, [question(1), question(0)], [at_line(failed("truncated"), 3)], calls_dataset=calls)
    assert found["calibration"]["lines"] == 2
    assert found["calibration"]["brier"] == pytest.approx((2 * 0.25**2 + 0.625**2 + 0.375**2 + 1) / 2)
    assert found["calibration"]["mass_outside"] == pytest.approx(0.1)
    assert found["calibration"] | {"bins": None} == scored(
        folder,
        [question(1), question(0)],
        calls_dataset=write(
            folder / "calls.jsonl", [called({"1": 0.75, "0": 0.25}, 1), called({"0": 0.5, "2": 0.3}, 2)]
        ),
    )["calibration"] | {"bins": None}


def at_line(line, number):
    return line | {ERROR_KEY: line[ERROR_KEY] | {"line_number": number}}


def test_times_and_attempts_of_the_calls_leave_no_trace_in_the_score(folder):
    for latency in (0.25, 99.5):
        calls = write(folder / "calls.jsonl", [called({"1": 0.9}, 1, latency_s=latency, attempts=round(latency))])
        score_component(
            input_dataset=write(folder / "output.jsonl", [question(1)]),
            calls_dataset=calls,
            score_dataset=folder / f"{latency}.json",
        )
    assert (folder / "0.25.json").read_bytes() == (folder / "99.5.json").read_bytes()


def test_with_calls_in_process_and_as_a_process_the_bytes_are_equal(folder):
    chooser = random.Random(7)
    shares = [[chooser.random() for _ in range(4)] for _ in range(300)]
    source = write(folder / "output.jsonl", [question(share.index(max(share))) for share in shares])
    calls = write(
        folder / "calls.jsonl",
        [called({str(at): value / 4 for at, value in enumerate(share)}, 1 + at) for at, share in enumerate(shares)],
    )
    values = {"input_dataset": source, "calls_dataset": calls}
    score_component(**values, score_dataset=folder / "in_process.json")
    done = start(*score_component.arguments(values | {"score_dataset": folder / "as_process.json"}))
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "as_process.json").read_bytes() == (folder / "in_process.json").read_bytes()
    assert json.loads((folder / "in_process.json").read_bytes())["calibration"]["lines"] == 300


def test_letters_chosen_and_correct_are_counted(folder):
    found = scored(folder, [question(3), question(3, correct=0), question(1), question("x"), question(None)])
    assert (found["position_bias"]["chosen"], found["position_bias"]["correct"]) == ([0, 1, 0, 2], [1, 2, 0, 0])
    assert found["position_bias"]["marginal_homogeneity"]["degrees"] == 2


def test_a_score_read_from_its_file_is_the_score_that_was_written(folder):
    calls = write(folder / "calls.jsonl", [called({"1": 0.9}, 1), called({"0": 0.9}, 2)])
    value = scored(folder, [question(1), question(0)], [], calls_dataset=calls)
    assert json.loads(json.dumps(Score.from_json(value).to_json())) == value
    assert Score.from_json(value | {"of_a_later_version": 1}) == Score.from_json(value)


@pytest.mark.parametrize("lost", ["macro", "by_subject", "position_bias", "count"])
def test_a_score_of_an_older_version_is_refused_with_the_free_repair(folder, lost):
    value = scored(folder, [question(1)])
    del value[lost]
    with pytest.raises(ConfigError, match=r"one of an older version .* mmlu-pipe score RUN_DIR --output FILE"):
        Score.from_json(value)


def test_an_output_folder_gets_score_json_in_it(folder):
    source = write(folder / "output.jsonl", [question(1)])
    score_component(input_dataset=source, score_dataset=folder)
    assert json.loads((folder / "score.json").read_bytes())["count"] == 1


def test_missing_parent_folders_of_the_output_are_made(folder):
    source = write(folder / "output.jsonl", [question(1)])
    score_component(input_dataset=source, score_dataset=folder / "a" / "b" / "score")
    assert (folder / "a" / "b" / "score").is_file()


def test_an_output_that_cannot_be_written_is_one_clear_error(folder):
    source = write(folder / "output.jsonl", [question(1)])
    with pytest.raises(RunFolderError, match=r"cannot be written \(.+\); choose another"):
        score_component(input_dataset=source, score_dataset=source / "score.json")


def test_a_subject_that_utf8_cannot_hold_does_not_stop_the_score(folder):
    source = folder / "output.jsonl"
    source.write_bytes(json.dumps(question(1, subject="\ud800")).encode())
    score_component(input_dataset=source, score_dataset=folder / "score.json")
    assert list(json.loads((folder / "score.json").read_bytes())["by_subject"]) == ["\ud800"]


LARGE = 14_000  # lines of `question`, beyond the size from which they are counted by columns


def large(folder, lines):
    source = write(folder / "output.jsonl", lines)
    assert source.stat().st_size > MIN_BYTES
    return source


def large_lines(**more):
    chooser = random.Random(4)
    text = "Which bone? " * 90
    return [
        question(chooser.randrange(4), correct=chooser.randrange(4), subject=chooser.choice(SUBJECTS), question=text)
        | more
        for _ in range(LARGE)
    ]


def modules_of_a_run(source, output):
    """Whether a process that scores a file loads DuckDB."""
    code = (
        f"import runpy, sys; sys.argv = ['x', '--input_dataset={source}', '--score_dataset={output}']\n"
        f"try:\n    runpy.run_module({MODULE!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end\n"
        "print('duckdb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip() == "True"


def test_a_large_file_has_the_bytes_of_the_score_that_its_lines_have_one_by_one(folder):
    lines = large_lines()
    lines[5::1000] = many_lines()[: len(lines[5::1000])]
    source = large(folder, lines)
    assert count_alike(source, keys=frozenset({"subject", "correct_answer", "zero_shot_choice"}))
    score_component(input_dataset=source, score_dataset=folder / "by_columns.json")
    source.write_bytes(b"\f\n" + source.read_bytes())  # a blank line of a kind that is read line by line
    score_component(input_dataset=source, score_dataset=folder / "by_lines.json")
    assert (folder / "by_columns.json").read_bytes() == (folder / "by_lines.json").read_bytes()
    assert json.loads((folder / "by_columns.json").read_bytes())["count"] == LARGE


def test_only_a_large_file_loads_the_columnar_engine(folder):
    assert modules_of_a_run(large(folder, large_lines()), folder / "score.json")
    assert not modules_of_a_run(write(folder / "few.jsonl", large_lines()[:114]), folder / "score.json")


def test_the_response_of_a_large_file_is_found_as_that_of_a_small_one(folder):
    lines = [{("mine" if key == "zero_shot_choice" else key): line[key] for key in line} for line in large_lines()]
    small = scored(folder, lines[:10])
    score_component(input_dataset=large(folder, lines), score_dataset=folder / "score.json")
    found = json.loads((folder / "score.json").read_bytes())
    assert (small["response_key"], found["response_key"], found["unanswered"]) == ("mine", "mine", 0)
    with pytest.raises(ConfigError, match="every line has 'mine', 'note'"):
        scored(folder, [line | {"note": "x"} for line in lines])
    lines[-1] |= {"zero_shot_choice": 2}
    found = scored(folder, lines)
    assert (found["response_key"], found["answered"]) == ("zero_shot_choice", 1)
    with pytest.raises(ConfigError, match="no line has the response key 'yours'"):
        scored(folder, lines, response_key="yours")
    lines[-1]["zero_shot_choice"] = None
    found = scored(folder, lines)
    assert (found["response_key"], found["answered"]) == ("zero_shot_choice", 0)
    del lines[-1]["zero_shot_choice"], lines[-1]["mine"]
    with pytest.raises(ConfigError, match="no key was added to every line, some have 'mine'"):
        scored(folder, lines)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_scoring_of_a_large_file(folder, number, code):
    source = large(folder, large_lines())
    source.write_bytes(source.read_bytes() * 12)
    arguments = f"['--input_dataset={source}', '--score_dataset={folder / 'score.json'}']"
    program = (
        "import os, sys, threading, duckdb\n"
        f"from {MODULE} import jsonl_score_multiplechoice as component\n"
        f"threading.Timer(0.2, os.kill, (os.getpid(), {number:d})).start()\n"
        f"sys.exit(component.main({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert not (folder / "score.json").exists()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b'{"correct_answer": 1, "z": }', ":5000: is not JSON"),
        (b'{"correct_answer": [1,]}', ":5000: is not JSON"),
        (b'{"correct_answer": NaN}', ":5000: holds NaN"),
        (b'{"correct_answer": 1}\x0c', ":5000: is not JSON"),
        (b"null", ":5000: is a JSON null"),
        (b'{"correct_answer": "\xff"}', ":5000: is not UTF-8"),
        (b'{"correct_answer": 1', ":5000: is not JSON"),
        (b'{"zero_shot_choice": 1}', "line 5000: has no correct answer 'correct_answer'; it has zero_shot_choice"),
        (b'{"correct_answer": null}', "line 5000: the correct answer 'correct_answer' is null"),
    ],
)
def test_a_bad_line_of_a_large_file_is_named_with_its_number(folder, bad, said):
    source = large(folder, large_lines())
    lines = source.read_bytes().split(b"\n")
    lines[4999] = bad
    source.write_bytes(b"\n".join(lines))
    with pytest.raises(DatasetError, match=re.escape(said)):
        score_component(input_dataset=source, score_dataset=folder / "score.json")
    assert not (folder / "score.json").exists()


def test_a_large_file_is_read_leniently_where_the_score_does_not_look(folder):
    source = large(folder, large_lines())
    lines = source.read_bytes().split(b"\n")
    lines[4999] = b'{"correct_answer": 1, "zero_shot_choice": 1, "subject": "mine", "z": [NaN, 1e400,],}'
    source.write_bytes(b"\n".join(lines))
    score_component(input_dataset=source, score_dataset=folder / "score.json")
    assert json.loads((folder / "score.json").read_bytes())["by_subject"]["mine"]["n_correct"] == 1
    (folder / "few.jsonl").write_bytes(lines[4999])
    with pytest.raises(DatasetError, match="is not JSON"):
        score_component(input_dataset=folder / "few.jsonl", score_dataset=folder / "few.json")


def test_blank_lines_are_no_lines(folder):
    source = folder / "output.jsonl"
    source.write_bytes(b"\n" + json.dumps(question(1)).encode() + b"\n\n  \n")
    score_component(input_dataset=source, score_dataset=folder / "score.json")
    assert json.loads((folder / "score.json").read_bytes())["count"] == 1


def test_the_declaration_names_the_ports_that_backends_bind():
    found = [(port.name, port.type, port.direction, port.optional, port.default) for port in score_component.ports]
    assert found == [
        ("input_dataset", "uri_file", "input", False, None),
        ("correct_key", "string", "input", False, "correct_answer"),
        ("response_key", "string", "input", True, None),
        ("dataset_keys", "string", "input", True, None),
        ("error_dataset", "uri_file", "input", True, None),
        ("calls_dataset", "uri_file", "input", True, None),
        ("score_dataset", "uri_file", "output", False, None),
    ]
    assert score_component.name == "jsonl_score_multiplechoice"
    assert score_component.deterministic is True
    assert score_component.module == MODULE


def test_as_a_process_bad_input_ends_with_2_and_one_message(folder):
    done = start("--input_dataset", folder / "nowhere.jsonl", "--score_dataset", folder / "score.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "nowhere.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_a_process_bad_usage_ends_with_2(folder):
    done = start("--input_dataset", folder / "output.jsonl")
    assert done.returncode == 2
    assert "--score_dataset" in done.stderr


def test_the_entry_point_runs_in_process_too(folder, capsys):
    handler = signal.getsignal(signal.SIGTERM)
    try:
        source = write(folder / "output.jsonl", [question(1, key="a", b=1)])
        arguments = ["--input_dataset", str(source), "--score_dataset", str(folder / "score.json")]
        assert score_component.main(arguments) == 2
        assert "--response-key" in capsys.readouterr().err
        assert score_component.main([*arguments, "--response_key", "b"]) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_help_describes_every_port():
    done = start("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    for port in score_component.ports:
        assert f"--{port.name}" in done.stdout
    assert "accuracy with a 95 % interval" in done.stdout


def test_help_shows_the_command_that_runs_it():
    assert f"python -m {MODULE}" in " ".join(start("--help").stdout.split())
