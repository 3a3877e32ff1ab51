from collections import Counter

import pytest

from mmlu_pipe import bundled, jsonl
from mmlu_pipe.scoring.categories import CATEGORIES, SUBJECTS, category


def test_there_are_57_subjects_sorted_and_different():
    assert len(SUBJECTS) == 57
    assert list(SUBJECTS) == sorted(set(SUBJECTS))


def test_every_subject_has_a_category_and_the_authors_sizes_hold():
    # Counted from categories.py of github.com/hendrycks/test at 4450500f923c49f1fb1dd3d99108a0bd9717b660.
    assert Counter(map(category, SUBJECTS)) == {"STEM": 18, "humanities": 13, "social sciences": 12, "other": 14}


def test_the_category_names_and_their_order_are_fixed():
    assert CATEGORIES == ("STEM", "humanities", "social sciences", "other")


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("abstract_algebra", "STEM"),
        ("electrical_engineering", "STEM"),
        ("high_school_statistics", "STEM"),
        ("formal_logic", "humanities"),
        ("moral_scenarios", "humanities"),
        ("prehistory", "humanities"),
        ("econometrics", "social sciences"),
        ("human_sexuality", "social sciences"),
        ("public_relations", "social sciences"),
        ("anatomy", "other"),  # some other tools count it as STEM; the authors' file says health
        ("business_ethics", "other"),
        ("professional_accounting", "other"),
        ("virology", "other"),
    ],
)
def test_subjects_are_where_the_authors_put_them(subject, expected):
    assert category(subject) == expected


@pytest.mark.parametrize("subject", ["", "all", "Anatomy", "abstract algebra", "other"])
def test_what_is_no_mmlu_subject_has_no_category(subject):
    assert category(subject) is None


def test_the_subjects_of_the_bundled_sample_are_mmlu_subjects():
    lines = [line for _, line in jsonl.read_objects(bundled.SAMPLE_DATASETS["sample"])]
    assert {line["subject"] for line in lines} <= set(SUBJECTS)
