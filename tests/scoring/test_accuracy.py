import json
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.records import ERROR_KEY
from mmlu_pipe.scoring.accuracy import Outcome, json_equal, judge, score_lines
from mmlu_pipe.scoring.categories import CATEGORIES
from mmlu_pipe.scoring.intervals import stderr, wilson

CHOICES = ["a", "b", "c", "d"]
KEYS = {"response_key": "response", "correct_key": "correct"}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
subjects = st.sampled_from(["abstract_algebra", "anatomy", "law_of_the_sea", "prehistory", "sociology", None, 7])
responses = st.sampled_from([0, 1, 2, 3, 4, -1, 1.0, 1.5, "1", " 2 ", "B", "", True, None, [1]])
lines = st.fixed_dictionaries(
    {"subject": subjects, "choices": st.just(CHOICES), "correct": st.integers(0, 3)}, optional={"response": responses}
)
failed_lines = st.fixed_dictionaries(
    {"subject": subjects, ERROR_KEY: st.fixed_dictionaries({"kind": st.sampled_from(["refused", "truncated"])})}
)


def outcome(response, correct, choices=CHOICES):
    line = {"response": response, "correct": correct, "choices": choices}
    return judge(line, **KEYS)


@pytest.mark.parametrize("response", [2, 2.0, "2", " 2 ", "2\n", "\t2", "02"])
def test_a_response_that_is_the_integer_or_spells_it_in_digits_is_right(response):
    assert outcome(response, 2) is Outcome.CORRECT


@pytest.mark.parametrize("response", [0, 1, 3, "3", 0.0])
def test_another_index_of_the_choices_is_wrong(response):
    assert outcome(response, 2) is Outcome.WRONG


@pytest.mark.parametrize("response", [4, -1, 99, 4.0, "4", "99999999999999999999", "9" * 5000])
def test_a_response_out_of_range_is_invalid(response):
    assert outcome(response, 2) is Outcome.INVALID


@pytest.mark.parametrize(
    "response", [True, False, 1.5, "B", "", " ", "-1", "+1", "1.0", "1 1", "1_0", "²", "١", [1], {"1": 1}]
)
def test_a_response_that_is_no_integer_is_invalid_where_the_answer_is_an_integer(response):
    assert outcome(response, 1) is Outcome.INVALID


def test_true_is_not_1_and_false_is_not_0():
    assert outcome(True, 1) is not Outcome.CORRECT
    assert outcome(False, 0) is not Outcome.CORRECT
    assert outcome(1, True) is Outcome.WRONG


def test_a_response_out_of_range_is_wrong_even_where_the_dataset_says_so():
    assert outcome(4, 4) is Outcome.INVALID


def test_without_a_list_of_choices_the_range_is_not_judged():
    assert judge({"response": 7, "correct": 7}, **KEYS) is Outcome.CORRECT
    assert judge({"response": 8, "correct": 7}, **KEYS) is Outcome.WRONG
    assert outcome(7, 7, choices="abcd") is Outcome.CORRECT
    assert outcome("x", 7, choices=None) is Outcome.INVALID


def test_a_correct_answer_written_as_1_point_0_is_the_integer_1():
    assert outcome(1, 1.0) is Outcome.CORRECT
    assert outcome("1", 1.0) is Outcome.CORRECT
    assert outcome(4, 1.0) is Outcome.INVALID


@pytest.mark.parametrize(
    ("response", "correct", "expected"),
    [
        ("B", "B", Outcome.CORRECT),
        ("b", "B", Outcome.WRONG),
        (" B", "B", Outcome.WRONG),
        (9, "B", Outcome.WRONG),
        ("1914", "1914", Outcome.CORRECT),
        (1, "1914", Outcome.WRONG),
        ("1.0", "1.0", Outcome.CORRECT),
        (0.5, 0.5, Outcome.CORRECT),
        (True, True, Outcome.CORRECT),
        ([1, 2.0], [1.0, 2], Outcome.CORRECT),
        ([1], [True], Outcome.WRONG),
        ({"x": 1, "y": None}, {"y": None, "x": 1.0}, Outcome.CORRECT),
    ],
)
def test_a_correct_answer_that_is_no_integer_is_compared_as_json_only(response, correct, expected):
    assert outcome(response, correct) is expected


@pytest.mark.parametrize("correct", ["2", " 2", "02"])
@pytest.mark.parametrize(
    ("response", "expected"),
    [
        *((response, Outcome.CORRECT) for response in (2, 2.0, "2", " 2\n")),
        *((response, Outcome.WRONG) for response in (0, "3")),
        *((response, Outcome.INVALID) for response in (4, "4", -1, True, "C", "x")),
    ],
)
def test_a_correct_answer_in_digits_is_its_integer(response, correct, expected):
    assert outcome(response, correct) is expected is outcome(response, int(correct))


def test_without_a_list_of_choices_a_correct_answer_in_digits_is_a_text():
    assert outcome("2", "2", choices=None) is Outcome.CORRECT
    assert outcome(2, "2", choices=None) is Outcome.WRONG


@pytest.mark.parametrize("correct", [1, "B"])
def test_a_missing_or_null_response_is_unanswered(correct):
    assert outcome(None, correct) is Outcome.UNANSWERED
    assert judge({"correct": correct}, **KEYS) is Outcome.UNANSWERED


def test_a_line_without_the_correct_answer_cannot_be_judged():
    with pytest.raises(KeyError):
        judge({"response": 1}, **KEYS)


@given(json_values)
def test_a_json_value_equals_itself_read_back(value):
    assert json_equal(value, json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_json_equality_is_symmetric_and_told_apart_by_canonical_text(left, right):
    assert json_equal(left, right) == json_equal(right, left)
    if json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True):
        assert json_equal(left, right)


@given(st.integers(-(2**53), 2**53))
def test_an_integer_equals_the_float_of_the_same_value(number):
    assert json_equal(number, float(number))


@given(st.integers(0, 3), st.integers(0, 3))
def test_an_index_and_its_spellings_score_alike(response, correct):
    spellings = [response, float(response), str(response), f" {response}\n"]
    assert len({outcome(spelling, correct) for spelling in spellings}) == 1


@given(st.lists(lines), st.lists(failed_lines))
def test_the_counts_add_up(answered, failed):
    score = score_lines(answered, failed, **KEYS)
    assert score.count == len(answered) + len(failed) == score.answered + score.unanswered + score.failed
    assert score.n_correct + score.invalid <= score.answered
    assert score.failed == len(failed) == sum(score.failed_by_kind.values())
    named = [line for line in answered + failed if isinstance(line["subject"], str)]
    assert sum(part.count for part in score.by_subject.values()) == len(named)
    outside = score.by_subject.get("law_of_the_sea")
    in_categories = sum(part.count for part in score.by_category.values())
    assert in_categories == len(named) - (outside.count if outside else 0)


@given(st.lists(lines), st.lists(failed_lines), st.randoms(use_true_random=False))
def test_the_order_of_the_lines_makes_no_difference(answered, failed, shuffler):
    first = score_lines(answered, failed, **KEYS)
    shuffler.shuffle(answered)
    shuffler.shuffle(failed)
    second = score_lines(answered, failed, **KEYS)
    assert json.dumps(first.to_json()) == json.dumps(second.to_json())


@given(st.lists(lines, min_size=1), st.lists(failed_lines))
def test_every_part_has_the_accuracy_and_interval_of_its_counts(answered, failed):
    score = score_lines(answered, failed, **KEYS)
    for part in [score, *score.by_subject.values(), *score.by_category.values()]:
        assert part.accuracy == part.n_correct / part.count
        assert part.stderr == stderr(part.n_correct, part.count)
        assert part.ci95 == wilson(part.n_correct, part.count)


def test_a_score_worked_by_hand():
    answered = [
        {"subject": "sociology", "choices": CHOICES, "correct": 0, "response": 0},
        {"subject": "sociology", "choices": CHOICES, "correct": 1, "response": 0},
        {"subject": "anatomy", "choices": CHOICES, "correct": 3, "response": "3"},
        {"subject": "abstract_algebra", "choices": CHOICES, "correct": 2, "response": "two"},
        {"subject": "my_own", "choices": CHOICES, "correct": 2},
        {"choices": CHOICES, "correct": 2, "response": 2},
    ]
    failed = [
        {"subject": "sociology", ERROR_KEY: {"kind": "truncated"}},
        {"subject": "anatomy", ERROR_KEY: {"kind": "refused"}},
        {"subject": "anatomy", ERROR_KEY: {"kind": "truncated"}},
        {ERROR_KEY: "free text"},
        {"subject": "prehistory"},
    ]
    score = score_lines(answered, failed, **KEYS)
    assert (score.count, score.n_correct, score.answered, score.unanswered, score.failed) == (11, 3, 5, 1, 5)
    assert score.invalid == 1
    assert score.accuracy == 3 / 11
    assert score.accuracy_answered == 3 / 5
    assert list(score.failed_by_kind.items()) == [("refused", 1), ("truncated", 2), ("unknown", 2)]
    assert {name: (part.n_correct, part.count) for name, part in score.by_subject.items()} == {
        "abstract_algebra": (0, 1),
        "anatomy": (1, 3),
        "my_own": (0, 1),
        "prehistory": (0, 1),
        "sociology": (1, 3),
    }
    assert [(name, part.n_correct, part.count) for name, part in score.by_category.items()] == [
        ("STEM", 0, 1),
        ("humanities", 0, 1),
        ("social sciences", 1, 3),
        ("other", 1, 3),
    ]
    assert (score.response_key, score.correct_key) == ("response", "correct")


@given(st.lists(lines))
def test_subjects_are_sorted_by_name_and_categories_keep_their_order(answered):
    score = score_lines(answered, [], **KEYS)
    assert list(score.by_subject) == sorted(score.by_subject)
    assert list(score.by_category) == [name for name in CATEGORIES if name in score.by_category]


def test_no_lines_at_all_have_no_accuracy():
    score = score_lines([], [], **KEYS)
    assert (score.count, score.n_correct) == (0, 0)
    assert (score.accuracy, score.accuracy_answered, score.stderr, score.ci95) == (None, None, None, None)
    assert (score.by_subject, score.by_category, score.failed_by_kind) == ({}, {}, {})


def test_failed_lines_alone_have_accuracy_0():
    score = score_lines([], [{"subject": "anatomy", ERROR_KEY: {"kind": "refused"}}], **KEYS)
    assert (score.accuracy, score.accuracy_answered) == (0.0, None)
    assert score.by_category["other"].accuracy == 0.0


def test_memory_does_not_grow_with_the_number_of_lines():
    def many(count):
        chooser = random.Random(7)
        for _ in range(count):
            yield {"subject": "anatomy", "choices": CHOICES, "correct": 1, "response": chooser.randrange(4)}

    def peak(count):
        tracemalloc.start()
        try:
            score_lines(many(count), [], **KEYS)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(20_000) < peak(200) + 200_000
