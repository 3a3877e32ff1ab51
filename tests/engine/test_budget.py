from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.engine.budget import ErrorBudget
from mmlu_pipe.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "total", "allowed"),
    [
        ("0", 100, 0),
        ("10", 100, 10),
        ("10", 3, 10),
        (" 7 ", 100, 7),
        ("007", 100, 7),
        ("0%", 100, 0),
        ("5%", 100, 5),
        ("5%", 19, 0),
        ("5%", 20, 1),
        ("100%", 7, 7),
        ("100.0%", 7, 7),
        ("0.5%", 1531, 7),
        ("4.35%", 10_000, 435),  # 434 in floating point
        ("29%", 100, 29),
        ("33.333%", 3, 0),
        ("5%", 0, 0),
    ],
)
def test_a_number_or_a_percentage_of_all_lines_rounded_down(text, total, allowed):
    budget = ErrorBudget.parse(text, total)
    assert budget == ErrorBudget(text.strip(), allowed)
    assert not budget.exceeded(allowed)
    assert budget.exceeded(allowed + 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "1.5",
        "10.0",
        "101%",
        "100.1%",
        "-5%",
        "%",
        "5 %",
        "5%%",
        "1e3",
        "0x10",
        "١٠",
        "ten",
        "nan",
        "inf%",
        "5%\n6",
    ],
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"--max-errors .* such as 10, or a percentage such as 5%") as caught:
        ErrorBudget.parse(text, 100)
    assert (caught.value.exit_code, caught.value.key) == (2, "max_errors")


@given(st.integers(0, 10_000), st.integers(0, 20_000))
def test_a_percentage_never_allows_more_than_its_share(hundredths, total):
    allowed = ErrorBudget.parse(f"{hundredths // 100}.{hundredths % 100:02}%", total).allowed
    assert Fraction(allowed) <= Fraction(hundredths, 10_000) * total < allowed + 1
