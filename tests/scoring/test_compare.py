"""Real runs on a loopback endpoint, compared."""

import json
import math
import shutil
from pathlib import Path

import pytest

import mmlu_pipe
from mmlu_pipe.errors import ConfigError, DatasetError, MmluPipeError, RunFolderError
from mmlu_pipe.scoring.compare import compare
from tests.conftest import ROOT
from tests.servers.aoai import AoaiServer, Reply

KEYS = ["n", "both", "only_a", "only_b", "neither", "delta", "ci95", "p_value", "method"]
SUBJECTS = ("astronomy", "virology", "anatomy")


def asked(body):
    """The number of the question, which is the right answer modulo 4."""
    return int(body["messages"][1]["content"].partition("Question ")[2].partition(":")[0])


def right_on(numbers, **reply):
    """A model that is right on these questions, and wrong by one on the others."""

    def answer(body, _count):
        number = asked(body)
        return Reply(json.dumps({"choice": str((number + (number not in numbers)) % 4)}), **reply)

    return answer


@pytest.fixture
def desk(tmp_path, monkeypatch, write_config):
    """Make a run: what is asked, who answers, and the options of the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")

    def make(name, answer, *, count=60, blank=(), **options):
        dataset = tmp_path / "questions.jsonl"
        if not dataset.exists():
            lines = [
                json.dumps(
                    {
                        "dataset": "test",
                        "subject": SUBJECTS[number % 3],
                        "question": f"Question {number}: think",
                        "choices": ["zero", "one", "two", "three"],
                        "correct_answer": number % 4,
                    }
                )
                + ("\n\n" if number in blank else "\n")
                for number in range(count)
            ]
            dataset.write_text("".join(lines), encoding="utf-8")
        with AoaiServer(answer=answer) as server:
            config = write_config(server.endpoint)
            return mmlu_pipe.run(dataset, other_config=config, output_dir=name, **options).run_dir

    return make


def test_lines_are_counted_by_which_run_has_them_right(desk):
    a, b = desk("a", right_on(range(40))), desk("b", right_on(range(10, 55)))
    (found,) = compare([a, b])
    assert vars(found.cells) == {"both": 30, "only_a": 10, "only_b": 15, "neither": 5}
    assert (found.cells.n, found.delta) == (60, 5 / 60)
    assert found.p_value == pytest.approx(2 * sum(math.comb(25, k) for k in range(11)) / 2**25)
    assert found.ci95.low < 0 < 5 / 60 < found.ci95.high
    assert [line.line_number for line in found.changed] == [*range(1, 11), *range(41, 56)]
    first = found.changed[0]
    assert (first.subject, first.correct, first.response_a, first.response_b) == ("astronomy", 0, 0, 1)
    assert (first.outcome_a, first.outcome_b) == ("correct", "wrong")
    assert found.lines_for_80_percent_power > 60


def test_the_object_begins_with_the_keys_of_a_comparison_and_is_json(desk):
    a, b = desk("a", right_on(range(40))), desk("b", right_on(range(10, 55)))
    value = json.loads(json.dumps(compare([a, b])[0].to_json()))
    assert list(value)[: len(KEYS)] == KEYS
    assert (value["n"], value["only_a"], value["ci95"].keys()) == (60, 10, {"low", "high"})
    assert value["method"].startswith("exact McNemar test; paired bootstrap")
    assert value["by_subject"].keys() == set(SUBJECTS)
    assert value["by_subject"]["astronomy"]["n"] == 20
    assert (value["run_a"], value["run_b"]) == ("a", "b")
    assert len(value["changed"]) == 25


def test_subjects_are_told_with_p_values_for_as_many_tests_as_there_are_subjects(desk):
    a, b = desk("a", right_on([])), desk("b", right_on(range(0, 60, 3)))
    (found,) = compare([a, b])
    told = found.by_subject["astronomy"]
    assert (told.cells.only_b, found.by_subject["virology"].cells.neither) == (20, 20)
    assert told.p_value == pytest.approx(2 / 2**20)
    assert told.p_holm == pytest.approx(3 * told.p_value)
    assert found.by_subject["virology"].p_holm == 1.0


def test_the_same_seed_gives_the_same_object_and_another_one_does_not_change_the_test(desk):
    a, b = desk("a", right_on(range(40))), desk("b", right_on(range(10, 55)))
    first, again, other = (compare([a, b], seed=seed)[0].to_json() for seed in (0, 0, 1))
    assert first == again
    assert (other["p_value"], other["delta"]) == (first["p_value"], first["delta"])
    assert "seed 1" in other["method"]


def test_a_run_beside_itself_does_not_differ(desk):
    a = desk("a", right_on(range(40)))
    (found,) = compare([a, a])
    assert (found.delta, found.p_value, found.changed) == (0.0, 1.0, ())
    assert found.lines_for_80_percent_power is None


def test_every_further_run_is_compared_with_the_first_and_p_values_know_how_many(desk):
    runs = [desk("a", right_on([])), desk("b", right_on(range(8))), desk("c", right_on(range(9)))]
    b, c = compare(runs)
    assert (b.run_a, b.run_b, c.run_a, c.run_b) == ("a", "b", "a", "c")
    assert (b.cells.only_b, c.cells.only_b) == (8, 9)
    assert c.p_holm == pytest.approx(2 * c.p_value)
    assert b.p_holm == pytest.approx(max(b.p_value, c.p_holm))


def fails_on(numbers, right):
    good = right_on(right)
    return lambda body, count: Reply(finish_reason="length") if asked(body) in numbers else good(body, count)


@pytest.mark.parametrize("blank", [(), (3, 20)])
def test_failed_lines_count_as_wrong_in_their_place_and_are_told(desk, blank):
    a = desk("a", fails_on({0, 17, 30}, range(60)), blank=blank)
    b = desk("b", fails_on({17, 59}, range(60)), blank=blank)
    (found,) = compare([a, b])
    assert vars(found.cells) == {"both": 56, "only_a": 1, "only_b": 2, "neither": 1}
    assert (found.no_answer_a, found.no_answer_b) == ({"failed": 3}, {"failed": 2})
    assert [(line.outcome_a, line.outcome_b) for line in found.changed] == [
        ("failed", "correct"),
        ("failed", "correct"),
        ("correct", "failed"),
    ]
    assert [line.response_a for line in found.changed] == [None, None, 3]


def test_lines_of_one_run_only_are_left_out_and_told(desk):
    a = desk("a", right_on(range(60)), lines="3,17,20-24")
    b = desk("b", fails_on({2, 21}, range(60)), limit=22)
    (found,) = compare([a, b])
    assert (found.cells.n, found.unpaired_a, found.unpaired_b) == (5, 2, 17)
    assert [line.line_number for line in found.changed] == [3, 22]


def test_runs_without_a_common_line_are_refused(desk):
    a, b = desk("a", right_on([]), lines="50"), desk("b", right_on([]), limit=5)
    with pytest.raises(ConfigError, match="b: has no line that a has too"):
        compare([a, b])


def test_runs_on_different_datasets_are_refused_whatever_is_allowed(desk):
    a = desk("a", right_on([]))
    Path("questions.jsonl").unlink()
    b = desk("b", right_on([]), count=61)
    with pytest.raises(ConfigError, match="runs on different datasets"):
        compare([a, b], allow=("program", "model", "strategy", "settings"))


def refused(a, b, name, told):
    others = [each for each in ("program", "model", "strategy", "settings") if each != name]
    for allow in ((), others):
        with pytest.raises(ConfigError, match="b differs from a in more than was asked for") as caught:
            compare([a, b], allow=allow)
        assert told in str(caught.value)
        assert str(caught.value).endswith(f"--allow {name}")
        assert (caught.value.key, caught.value.exit_code) == ("allow", 2)
    (found,) = compare([a, b], allow=(name,))
    assert list(found.differences) == [name]
    return found


def test_another_served_model_has_to_be_asked_for(desk):
    a = desk("a", right_on([], served_model="gpt-4o-2024-08-06"))
    b = desk("b", right_on([3], served_model="gpt-4o-2024-11-20"))
    found = refused(a, b, "model", "model: gpt-4o-2024-08-06 there, gpt-4o-2024-11-20 here")
    assert found.differences["model"] == ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
    assert found.cells.only_b == 1


def test_another_strategy_has_to_be_asked_for(desk):
    a = desk("a", right_on([]))
    b = desk("b", lambda body, _count: str(asked(body) % 4), select_strategy="text")
    assert refused(a, b, "strategy", "strategy: json_schema there, text-v1 here").cells.only_b == 60


def test_a_strategy_that_auto_took_is_the_strategy_of_that_name(desk):
    a, b = desk("a", right_on([])), desk("b", right_on([]), select_strategy="json_schema")
    assert compare([a, b])[0].differences == {}


def test_another_program_has_to_be_asked_for(desk):
    a = desk("a", right_on([]))
    text = (ROOT / "guidance_programs" / "zero_shot.py").read_text(encoding="utf-8")
    Path("mine.py").write_text(text.replace("zero_shot_choice", "my_choice"), encoding="utf-8")
    b = desk("b", right_on([4]), guidance_program="mine.py")
    assert refused(a, b, "program", "program: zero_shot.py (").cells.only_b == 1


def test_one_program_scored_by_another_of_its_keys_has_to_be_asked_for(desk):
    text = (ROOT / "guidance_programs" / "zero_shot.py").read_text(encoding="utf-8")
    text = text.replace('{"zero_shot_choice": int(lm["choice"])}', '{"one": int(lm["choice"]), "two": 0}')
    Path("mine.py").write_text(text, encoding="utf-8")
    a, b = (
        desk(name, right_on(range(60)), guidance_program="mine.py", response_key=key, count=8)
        for name, key in (("a", "one"), ("b", "two"))
    )
    assert refused(a, b, "program", "program: mine.py (").cells.only_a == 6


def test_another_seed_of_sampling_has_to_be_asked_for(desk):
    a, b = desk("a", right_on([])), desk("b", right_on([]), seed=0)
    refused(a, b, "settings", "settings: none there, seed 0 here")


def test_another_key_of_the_correct_answer_is_refused(desk):
    a = desk("a", right_on([]))
    score = json.loads((a / "score.json").read_text(encoding="utf-8")) | {"correct_key": "other"}
    shutil.copytree(a, "b")
    Path("b/score.json").write_text(json.dumps(score), encoding="utf-8")
    with pytest.raises(ConfigError, match="a was scored by the key 'correct_answer', b by 'other'"):
        compare([a, Path("b")])


def test_a_slip_in_what_is_allowed_is_refused(desk):
    with pytest.raises(ConfigError, match="--allow 'modle': use program, model, strategy, settings"):
        compare(["a", "b"], allow=["modle"])


def test_one_run_is_not_enough():
    with pytest.raises(ConfigError, match="give two or more run folders"):
        compare(["a"])


def test_a_run_that_did_not_complete_is_refused(desk):
    a = desk("a", right_on([]))
    with pytest.raises(MmluPipeError):
        desk("b", fails_on(range(60), []), max_errors=2)
    with pytest.raises(RunFolderError, match=r"b: the run has not completed \(it is 'failed'\); repeat its command"):
        compare([a, Path("b")])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.json", None, "cannot be read"),
        ("manifest.json", "{", "cannot be read"),
        ("manifest.json", "[]", "is no JSON object"),
        ("manifest.json", '{"status": "completed"}', "do not tell all that is needed"),
        ("score.json", None, "cannot be read"),
        ("score.json", "{}", "do not tell all that is needed"),
        ("errors.jsonl", '{"question": "?"}\n', "without _error.line_number"),
        ("output.jsonl", "", "does not hold 60 lines"),
        ("output.jsonl", '{"question": "?"}\n' * 60, "does not hold 60 lines"),
        ("output.jsonl", '{"correct_answer": 1}\n' * 60, "its line 1 is not that of a"),
        ("output.jsonl", "{\n", "is not JSON"),
    ],
)
def test_a_folder_that_is_not_as_a_run_leaves_it_is_refused(desk, name, content, said):
    a = desk("a", right_on([]))
    shutil.copytree(a, "b")
    if content is None:
        Path("b", name).unlink()
    else:
        Path("b", name).write_text(content, encoding="utf-8")
    with pytest.raises((RunFolderError, DatasetError), match=said) as caught:
        compare([a, Path("b")])
    assert "b" in str(caught.value)


def test_a_folder_with_an_answer_too_many_is_refused(desk):
    a = desk("a", right_on([]))
    shutil.copytree(a, "b")
    with Path("b/output.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"correct_answer": 1}\n')
    with pytest.raises(RunFolderError, match="does not hold 60 lines"):
        compare([a, Path("b")])


def test_a_run_whose_score_an_older_version_wrote_is_compared(desk):
    a = desk("a", right_on([]))
    shutil.copytree(a, "b")
    old = {"response_key": "zero_shot_choice", "correct_key": "correct_answer", "count": 60}
    Path("b/score.json").write_text(json.dumps(old), encoding="utf-8")
    assert compare([a, Path("b")])[0].cells.n == 60


def test_a_program_that_makes_no_calls_on_some_lines_is_paired_too(desk):
    text = (ROOT / "guidance_programs" / "zero_shot.py").read_text(encoding="utf-8")
    head = "def guidance_generation(lm: Any, input: dict[str, Any]) -> dict[str, Any]:\n"
    skip = '    if "Question 5:" in input["question"]:\n        return {"zero_shot_choice": 1}\n'
    Path("mine.py").write_text(text.replace(head, head + skip), encoding="utf-8")
    for lines in (None, "2-12,40"):
        a = desk(f"a{lines}", fails_on({2}, range(60)), guidance_program="mine.py", lines=lines)
        b = desk(f"b{lines}", fails_on({9}, range(60)), guidance_program="mine.py", lines=lines)
        assert [line.line_number for line in compare([a, b])[0].changed] == [3, 10]


def test_the_numbers_are_those_of_the_scores(desk):
    a, b = desk("a", fails_on({4}, range(40))), desk("b", right_on(range(10, 55)))
    (found,) = compare([a, b])
    scores = [mmlu_pipe.score(run) for run in (a, b)]
    right = [found.cells.both + only for only in (found.cells.only_a, found.cells.only_b)]
    assert right == [score.n_correct for score in scores]
    assert found.delta == pytest.approx(scores[1].accuracy - scores[0].accuracy)
