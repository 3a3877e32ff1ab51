import json
import random
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from mmlu_pipe.errors import DatasetError
from mmlu_pipe.records import ERROR_KEY
from mmlu_pipe.scoring.calibration import Calibrator
from mmlu_pipe.scoring.calls import calibrate, calls_by_line

KEYS = {"response_key": "response", "correct_key": "correct"}
CHOICES = ["Ulna", "Femur", "Tibia", "Radius"]


def line(response, correct, choices=CHOICES):
    return {"choices": list(choices), "correct": correct, "response": response}


def call(distribution, number=1, error=None, index=0):
    return {"line_number": number, "index": index, "distribution": distribution, "error": error, "latency_s": 0.5}


def spread(values, spelling=str):
    return {spelling(place): value for place, value in enumerate(values) if value}


def calibrated(rows, spelling=str):
    """The calibration of (probabilities, response, correct answer)."""
    calibrator = Calibrator(**KEYS)
    for values, response, correct in rows:
        calibrator.add(line(response, correct), [call(spread(values, spelling))])
    return calibrator.result()


probabilities = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).flatmap(
    lambda raw: st.floats(0.3, 1).map(lambda mass: [value / sum(raw) * mass for value in raw])
)
rows = st.lists(
    st.tuples(probabilities, st.integers(0, 3)).map(lambda row: (row[0], int(np.argmax(row[0])), row[1])),
    min_size=1,
    max_size=60,
)


@given(rows)
@settings(deadline=None)
def test_the_brier_score_is_that_of_scikit_learn(found):
    shares = [np.array(values) / sum(values) for values, _, _ in found]
    known = brier_score_loss([correct for *_, correct in found], shares, labels=[0, 1, 2, 3], scale_by_half=False)
    assert calibrated(found).brier == pytest.approx(known)


@given(rows)
@settings(deadline=None)
def test_the_reliability_curve_is_that_of_scikit_learn(found):
    sure = [max(values) / sum(values) for values, _, _ in found]
    right = [response == correct for _, response, correct in found]
    accuracies, confidences = calibration_curve(right, sure, n_bins=10, strategy="uniform")
    bins = [each for each in calibrated(found).bins if each.count]
    assert [each.accuracy for each in bins] == pytest.approx(list(accuracies))
    assert [each.confidence for each in bins] == pytest.approx(list(confidences))


@given(rows)
@settings(deadline=None)
def test_the_calibration_error_is_the_mean_distance_in_the_bins(found):
    result = calibrated(found)
    gaps = [abs(each.accuracy - each.confidence) * each.count for each in result.bins if each.count]
    assert result.expected_calibration_error == pytest.approx(sum(gaps) / len(found))
    assert 0 <= result.expected_calibration_error <= 1
    assert sum(each.count for each in result.bins) == result.lines == len(found)


@given(rows)
def test_the_mass_outside_is_what_the_options_lack_of_1(found):
    result = calibrated(found)
    outside = [max(0.0, 1 - sum(values)) for values, _, _ in found]
    assert result.mass_outside == pytest.approx(fmean(outside))
    assert result.most_mass_outside == pytest.approx(max(outside))


def test_a_calibration_worked_by_hand():
    found = calibrated([([0.6, 0.2, 0.1, 0.1], 0, 0), ([0.5, 0.0, 0.0, 0.0], 0, 1), ([0.1, 0.0, 0.7, 0.2], 2, 2)])
    assert found.brier == pytest.approx((0.16 + 0.04 + 0.01 + 0.01 + 1 + 1 + 0.01 + 0.09 + 0.04) / 3)
    assert found.expected_calibration_error == pytest.approx((0.4 + 1 + 0.3) / 3)
    assert found.mass_outside == pytest.approx(0.5 / 3)
    assert {each.low: (each.count, each.n_correct) for each in found.bins if each.count} == {
        0.5: (1, 1),
        0.6: (1, 1),
        0.9: (1, 0),
    }


@pytest.mark.parametrize(("confidence", "low"), [(0.5, 0.4), (0.500001, 0.5), (0.75, 0.7), (1.0, 0.9)])
def test_a_bin_holds_its_upper_end(confidence, low):
    (filled,) = [each for each in calibrated([([confidence, 1 - confidence, 0, 0], 0, 0)]).bins if each.count]
    assert filled.low == low


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("index", str),
        ("number", lambda index: str(index + 1)),
        ("letter", "ABCD".__getitem__),
        ("choice", CHOICES.__getitem__),
    ],
)
def test_options_are_read_as_the_program_spells_them(name, spelling):
    rows = [([0.7, 0.1, 0.1, 0.1], 0, 0), ([0.1, 0.1, 0.2, 0.6], 3, 1), ([0.0, 0.9, 0.1, 0.0], 1, 1)]
    found = calibrated(rows, spelling)
    assert found.options == name
    assert found.brier == pytest.approx(calibrated(rows).brier)
    assert found.lines == 3


def test_blanks_around_an_option_do_not_matter():
    assert calibrated([([0.7, 0.1, 0.1, 0.1], 0, 0)], lambda index: f" {index} ").lines == 1


def test_a_response_that_is_not_the_most_probable_option_keeps_its_own_probability():
    calibrator = Calibrator(**KEYS)
    for _ in range(3):
        calibrator.add(line(1, 1), [call({"0": 0.2, "1": 0.8})])
    calibrator.add(line(0, 0), [call({"0": 0.2, "1": 0.8})])
    found = calibrator.result()
    assert (found.lines, found.not_most_probable) == (4, 1)
    assert [(each.low, each.count) for each in found.bins if each.count] == [(0.1, 1), (0.7, 3)]


def test_responses_that_the_probabilities_do_not_tell_are_no_calibration():
    turned = [([0.7, 0.1, 0.1, 0.1], 1, 1), ([0.1, 0.1, 0.1, 0.7], 0, 0), ([0.1, 0.6, 0.1, 0.2], 2, 0)]
    assert calibrated(turned) is None


@pytest.mark.parametrize(("choices", "votes"), [(2, 5), (4, 5), (4, 2)])
@pytest.mark.parametrize("likes_a_place", [True, False])
def test_votes_over_turned_choices_are_no_calibration_however_often_the_last_one_agrees(choices, votes, likes_a_place):
    chance = random.Random(1)
    calibrator = Calibrator(**KEYS)
    for number in range(200):
        correct = chance.randrange(choices)
        orders = [list(range(choices)), *(chance.sample(range(choices), choices) for _ in range(votes - 1))]
        places = [0 if likes_a_place else order.index(correct) for order in orders]
        calls = [
            call({str(at): 0.9 if at == place else 0.01 for at in range(choices)}, index=index)
            | {"messages": [{"role": "user", "content": f"{number} {order}"}]}
            for index, (order, place) in enumerate(zip(orders, places, strict=True))
        ]
        chosen = [order[place] for order, place in zip(orders, places, strict=True)]
        calibrator.add(line(max(chosen, key=chosen.count), correct, CHOICES[:choices]), calls)
    assert calibrator.result() is None


def test_a_call_that_goes_on_in_the_conversation_of_an_earlier_one_is_no_vote():
    calibrator = Calibrator(**KEYS)
    first = [{"role": "user", "content": "Which?"}]
    second = [*first, {"role": "assistant", "content": "0"}, {"role": "user", "content": "Sure?"}]
    calibrator.add(
        line(2, 2), [call({"0": 0.6, "2": 0.4}) | {"messages": first}, call({"2": 0.7}) | {"messages": second}]
    )
    assert calibrator.result().lines == 1


def test_the_last_call_over_the_choices_counts():
    calibrator = Calibrator(**KEYS)
    calibrator.add(
        line(2, 2),
        [
            call({"0": 0.2, "2": 0.8}),
            call({"0": 0.4, "2": 0.6}),
            call({"0": 0.1, "2": 0.9}, error="cut"),
            call({"yes": 0.9, "no": 0.1}),
            call(None),
            call({"2": 0.5, "7": 0.5}),
        ],
    )
    (filled,) = [each for each in calibrator.result().bins if each.count]
    assert filled.confidence == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("response", "correct", "choices"),
    [(None, 1, CHOICES), (7, 1, CHOICES), ("B", "B", CHOICES), (1, 1, None), (True, 1, CHOICES)],
)
def test_lines_whose_answer_is_no_choice_are_left_out(response, correct, choices):
    calibrator = Calibrator(**KEYS)
    calibrator.add({"choices": choices, "correct": correct, "response": response}, [call({"0": 0.4, "1": 0.6})])
    assert calibrator.result() is None


@pytest.mark.parametrize("distribution", [{}, {"1": 0.0}, {"1": -0.5, "0": 1}, {"1": "much"}, [1], "1", None])
def test_what_is_no_distribution_is_left_out(distribution):
    calibrator = Calibrator(**KEYS)
    calibrator.add(line(1, 1), [call(distribution)])
    assert calibrator.result() is None


def test_two_choices_of_one_text_are_not_told_apart_by_their_text():
    calibrator = Calibrator(**KEYS)
    same = ["yes", "yes", "no", "maybe"]
    calibrator.add(line(0, 1, same), [call({"yes": 0.6, "no": 0.4})])
    assert calibrator.result() is None
    calibrator.add(line(0, 1, same), [call({"A": 0.6, "B": 0.4})])
    assert calibrator.result().options == "letter"


# The calls of a file beside the lines of another


def written(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def of_files(folder, lines, calls, failed=()):
    answers = written(folder / "output.jsonl", lines)
    return calibrate(answers, written(folder / "calls.jsonl", calls), set(failed), **KEYS)


def test_calls_belong_to_the_answered_line_of_their_place_though_lines_failed_or_were_blank(tmp_path):
    lines = [line(0, 0), line(1, 1), line(2, 0)]
    calls = [
        call({"0": 0.9, "1": 0.1}, 2),
        call({"3": 0.9, "1": 0.1}, 3),
        call({"1": 0.8, "2": 0.2}, 7),
        call(None, 9),
        call({"2": 0.7, "0": 0.3}, 9, index=1),
    ]
    found = of_files(tmp_path, lines, calls, failed={3})
    assert (found.lines, found.not_most_probable) == (3, 0)


@pytest.mark.parametrize("calls", [[call({"0": 1.0}, 1)], [call({"0": 1.0}, number) for number in (1, 2, 3)]])
def test_calls_that_cannot_be_told_to_lines_are_no_calibration_and_say_so(tmp_path, caplog, calls):
    assert of_files(tmp_path, [line(0, 0), line(0, 0)], calls) is None
    assert "not every answered line has calls there, and no other; no calibration" in caplog.text


def test_responses_that_do_not_follow_the_options_are_no_calibration_and_say_so(tmp_path, caplog):
    assert of_files(tmp_path, [line(0, 0)], [call({"0": 0.2, "1": 0.8})]) is None
    assert "do not follow the probabilities of the options; no calibration" in caplog.text


@pytest.mark.parametrize("calls", [[], [call(None, 1)], [call(None, 1), call(None, 2)], [call(None, 5)] * 3])
def test_calls_without_distributions_are_no_calibration_and_need_no_word(tmp_path, caplog, calls):
    assert of_files(tmp_path, [line(0, 0), line(1, 0)], calls) is None
    assert caplog.text == ""


@pytest.mark.parametrize("number", [None, "1", 0, -1, 1.0, True])
def test_a_call_without_the_number_of_its_line_is_refused(tmp_path, number):
    path = written(tmp_path / "calls.jsonl", [call(None, 1), {"line_number": number}])
    with pytest.raises(DatasetError, match=r"calls.jsonl:2: line_number is .* leave --calls out"):
        list(calls_by_line(path))


def test_calls_in_another_order_are_refused(tmp_path):
    path = written(tmp_path / "calls.jsonl", [call(None, 4), call(None, 3)])
    with pytest.raises(DatasetError, match="line_number is 3 after 4") as caught:
        list(calls_by_line(path))
    assert (caught.value.path, caught.value.line_number) == (path, 2)


def test_the_key_of_errors_is_not_in_the_way_of_answers(tmp_path):
    assert of_files(tmp_path, [line(1, 1) | {ERROR_KEY: "a key of the dataset"}], [call({"1": 1.0})]).lines == 1
