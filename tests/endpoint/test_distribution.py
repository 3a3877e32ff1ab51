"""Probabilities of the options, worked out by hand, and what holds for any tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.endpoint.distribution import json_choice_distribution, text_distribution

Json = dict[str, Any]


def token(text: str, probability: float, **others: float) -> Json:
    """A token that was taken with this probability, and its alternatives, itself the first."""
    alternatives = {text: probability} | others
    return entry(text, probability) | {"top_logprobs": [entry(name, share) for name, share in alternatives.items()]}


def entry(text: str, probability: float) -> Json:
    return {"token": text, "bytes": list(text.encode()), "logprob": math.log(probability) if probability else -9999.0}


def about(value: dict[str, float] | None) -> Any:
    return None if value is None else pytest.approx(value)


ASKED = ("0", "1", "2", "3")
CITIES = ("Paris, France", "Paris, Texas", "Rome")


@pytest.mark.parametrize(
    ("tokens", "options", "expected"),
    [
        pytest.param([token("2", 0.7, **{"1": 0.2, "x": 0.1})], ASKED, {"2": 0.7, "1": 0.2}, id="one token"),
        pytest.param([token("x", 0.7, **{"1": 0.2})], ASKED, {"1": 0.2}, id="taken is no option"),
        pytest.param([token("x", 0.7, y=0.2)], ASKED, None, id="nothing is an option"),
        pytest.param([], ASKED, None, id="no tokens"),
        pytest.param([token("12", 0.7, **{"1": 0.2, "10": 0.1})], ASKED, {"1": 0.2}, id="12 is not 1"),
        pytest.param([token("not", 0.7, no=0.3)], ("no", "yes"), {"no": 0.3}, id="not is not no"),
        pytest.param(
            [token("2.", 0.5, **{"1.": 0.2, "1": 0.1, "1\n": 0.05, "1:": 0.04})],
            ASKED,
            {"2": 0.5, "1": 0.35},
            id="with a full stop or blanks after it",
        ),
        pytest.param(
            [token(" 2", 0.5, **{"2": 0.1, "\n2": 0.05, "1": 0.2, " 1": 0.1})],
            ASKED,
            {"2": 0.65, "1": 0.3},
            id="blanks before it add up",
        ),
        pytest.param(
            [token(" ", 0.5, **{"1": 0.3}), token("\n", 0.5, **{"2": 0.4}), token("2", 0.8, **{"1": 0.2})],
            ASKED,
            {"1": 0.3 + 0.5 * 0.5 * 0.2, "2": 0.5 * 0.4 + 0.5 * 0.5 * 0.8},
            id="blanks of their own",
        ),
        pytest.param(
            [token("Par", 0.6, R=0.3, X=0.1), token("is, ", 0.9), token("Te", 0.8, Fr=0.2), token("xas", 1.0)],
            CITIES,
            {"Rome": 0.3, "Paris, Texas": 0.6 * 0.9 * 0.8, "Paris, France": 0.6 * 0.9 * 0.2},
            id="over several tokens, with a shared beginning",
        ),
        pytest.param(
            [token("P", 0.6, Par=0.2, Ro=0.1, Paris=0.1), token("ort", 0.5, aris=0.5)],
            ("Paris", "Porto", "Rome"),
            {"Paris": 0.2 + 0.1 + 0.6 * 0.5, "Rome": 0.1, "Porto": 0.6 * 0.5},
            id="longer and shorter tokens of the same option",
        ),
        pytest.param(
            [token("the ", 0.5, a=0.4), token("cat", 0.7, dog=0.2)],
            ("the cat", "the dog"),
            {"the cat": 0.35, "the dog": 0.1},
            id="what all options begin with may be left, too",
        ),
        pytest.param(
            [token("1", 0.6, **{"2": 0.4}), token("0", 0.7, **{"1": 0.1})],
            ("1", "10", "2"),
            {"2": 0.4, "10": 0.42},
            id="10 and not 1",
        ),
        pytest.param([token("1", 0.6, **{"2": 0.4})], ("1", "10", "2"), {"2": 0.4}, id="1 or not yet 10"),
        pytest.param(
            [token("1", 0.6, **{"2": 0.4}), token(".", 0.7, **{"0": 0.3})],
            ("1", "10", "2"),
            {"2": 0.4, "1": 0.42, "10": 0.18},
            id="1 and not 10",
        ),
        pytest.param(
            [token("1", 0.6, **{"10": 0.3}), token("1", 0.2, **{"2": 0.5})],
            ("1", "10"),
            {"10": 0.3},
            id="neither 1 nor 10",
        ),
        pytest.param([token("é", 0.6, è=0.4)], ("é", "è"), {"é": 0.6, "è": 0.4}, id="beyond ASCII"),
        pytest.param([token("a ", 0.6, b=0.4)], (" a ", "b\n"), {" a ": 0.6, "b\n": 0.4}, id="options with blanks"),
        pytest.param([token("a", 0.6)], ("a", " a"), None, id="options that differ in blanks only"),
        pytest.param([token("a", 0.6, **{".": 0.3})], ("a", ""), {"a": 0.6, "": 0.3}, id="an empty option"),
        pytest.param([token("a", 0.6, b=0.3)], ("a",), {"a": 0.6}, id="one option"),
        pytest.param([token("a", 0.6, b=0.3)], (), None, id="no option"),
    ],
)
def test_a_bare_answer(tokens: list[Json], options: Sequence[str], expected: dict[str, float] | None) -> None:
    assert text_distribution(tokens, options) == about(expected)


HEAD = [token('{"', 0.01), token("choice", 0.02)]


@pytest.mark.parametrize(
    ("tokens", "options", "expected"),
    [
        pytest.param(
            [*HEAD, token('":"', 0.03), token("2", 0.7, **{"1": 0.2}), token('"}', 1.0)],
            ASKED,
            {"2": 0.7, "1": 0.2},
            id="the head is given",
        ),
        pytest.param(
            [*HEAD, token('": "', 0.03), token("2", 0.7, **{"1": 0.2}), token('" }', 1.0)],
            ASKED,
            {"2": 0.7, "1": 0.2},
            id="with blanks",
        ),
        pytest.param(
            [*HEAD, token('":', 0.03), token(' "', 0.04), token("2", 0.7, **{"1": 0.2}), token('"\n}', 1.0)],
            ASKED,
            {"2": 0.7, "1": 0.2},
            id="the quote is given, too",
        ),
        pytest.param(
            [token('{"choice":"2"}', 0.7, **{'{"choice":"1"}': 0.2, '{"choice":"4"}': 0.1, '{"': 0.1})],
            ASKED,
            {"2": 0.7, "1": 0.2},
            id="all in one token",
        ),
        pytest.param(
            [*HEAD, token('":"', 0.03), token('2"', 0.5, **{'2"}': 0.2, "2": 0.1, '1"}': 0.1, '12"}': 0.1})],
            ASKED,
            {"2": 0.8, "1": 0.1},
            id="tokens with the closing quote",
        ),
        pytest.param(
            [*HEAD, token('":"', 1), token("1", 0.6, **{"10": 0.3, '1"': 0.1}), token('"}', 0.7, **{"0": 0.3})],
            ("1", "10"),
            {"1": 0.1 + 0.6 * 0.7, "10": 0.3 + 0.6 * 0.3},
            id="1 and 10 part at the closing quote",
        ),
        pytest.param(
            [*HEAD, token('":"', 1), token("New ", 0.5), token("York", 0.6, Delhi=0.4), token('"}', 1.0)],
            ("New York", "New Delhi"),
            {"New York": 0.3, "New Delhi": 0.2},
            id="a shared beginning inside the value is chosen",
        ),
        pytest.param(
            [*HEAD, token('":"', 1), token('\\"', 0.6, **{"\\\\": 0.3, "\\n": 0.1}), token('"}', 1)],
            ('"', "\\", "\n"),
            {'"': 0.6, "\\": 0.3, "\n": 0.1},
            id="escaped",
        ),
        pytest.param(
            [*HEAD, token('":"', 1), token('"}', 0.6, a=0.4)], ("", "a"), {"": 0.6, "a": 0.4}, id="the empty option"
        ),
        pytest.param(
            [*HEAD, token('":"', 1), token(" a", 0.6, a=0.4), token('"}', 1)],
            (" a", "a"),
            {" a": 0.6, "a": 0.4},
            id="blanks inside the quotes count",
        ),
        pytest.param([*HEAD, token('":', 1), token("2", 1), token("}", 1)], ASKED, None, id="no text"),
        pytest.param([*HEAD], ASKED, None, id="no value"),
        pytest.param([*HEAD, token('":"', 1)], ASKED, None, id="cut before the value"),
        pytest.param([token('{"other":"2"}', 1)], ASKED, None, id="another key"),
        pytest.param([token("2", 0.7)], ASKED, None, id="no JSON"),
    ],
)
def test_an_answer_in_json(tokens: list[Json], options: Sequence[str], expected: dict[str, float] | None) -> None:
    assert json_choice_distribution(tokens, options, "choice") == about(expected)


def test_a_character_may_be_parted_between_tokens() -> None:
    rocket, robot = "🚀".encode(), "🤖".encode()
    options = ("🚀", "🤖", "é")

    def part(*shares: tuple[bytes, float]) -> Json:
        top = [{"token": f"bytes:{data!r}", "bytes": list(data), "logprob": math.log(share)} for data, share in shares]
        return top[0] | {"top_logprobs": top}

    tokens = [part((rocket[:2], 0.6), ("é".encode(), 0.3)), part((rocket[2:], 0.9), (robot[2:], 0.05))]
    assert rocket[:2] == robot[:2]
    expected = about({"é": 0.3, "🚀": 0.54, "🤖": 0.03})
    assert text_distribution(tokens, options) == expected
    assert json_choice_distribution([*HEAD, token('":"', 1), *tokens, token('"}', 1)], options, "choice") == expected


@pytest.mark.parametrize("alternatives", [{}, {"top_logprobs": None}, {"top_logprobs": []}])
def test_without_alternatives_the_token_speaks_for_itself(alternatives: Json) -> None:
    assert text_distribution([entry("2", 0.7) | alternatives], ASKED) == about({"2": 0.7})


def test_a_token_that_is_not_among_its_alternatives_counts_once() -> None:
    tokens = [entry("2", 0.1) | {"top_logprobs": [entry("1", 0.6), entry("0", 0.2)]}]
    assert text_distribution(tokens, ASKED) == about({"2": 0.1, "1": 0.6, "0": 0.2})


def test_a_token_is_its_text_where_its_bytes_are_not_given() -> None:
    tokens = [{"token": "2", "bytes": None, "logprob": math.log(0.7), "top_logprobs": [{"token": "1", "logprob": -1}]}]
    assert text_distribution(tokens, ASKED) == about({"2": 0.7, "1": math.exp(-1)})


@pytest.mark.parametrize("logprob", [-9999, -9999.0, -math.inf, math.nan, None, "-1", -(10**400)])
def test_what_is_impossible_or_unknown_has_no_probability(logprob: Any) -> None:
    tokens = [{"token": "2", "logprob": logprob, "top_logprobs": [{"token": "1", "logprob": -1.0}]}]
    assert text_distribution(tokens, ASKED) == about({"1": math.exp(-1)})


@pytest.mark.parametrize("logprob", [0, 0.0, 1e-6, 10**400, math.inf])
def test_no_probability_is_over_one(logprob: float) -> None:
    assert text_distribution([{"token": "2", "logprob": logprob}], ASKED) == {"2": 1.0}


def test_alternatives_that_share_more_than_one_are_cut_to_one() -> None:
    assert text_distribution([token("2", 0.7, **{" 2": 0.7})], ASKED) == {"2": 1.0}


def test_options_are_listed_in_their_order() -> None:
    found = text_distribution([token("3", 0.4, **{"0": 0.1, "2": 0.2, "1": 0.3})], ASKED)
    assert list(found or ()) == list(ASKED)


# What holds for any tokens

TEXTS = st.text('ab1 ."\\\né🚀', max_size=3)
OPTIONS = st.lists(TEXTS, max_size=5, unique=True)


@st.composite
def spoken(draw: st.DrawFn) -> list[Json]:
    """Tokens whose alternatives are distinct and share a probability of at most 1."""
    tokens = []
    for _ in range(draw(st.integers(0, 4))):
        texts = draw(st.lists(TEXTS, min_size=1, max_size=5, unique=True))
        weights = draw(st.lists(st.floats(0, 1), min_size=len(texts), max_size=len(texts)))
        whole = max(1.0, sum(weights))
        shares = {text: weight / whole for text, weight in zip(texts, weights, strict=True)}
        tokens.append(token(texts[0], shares[texts[0]], **shares))
    return tokens


@given(tokens=spoken(), options=OPTIONS, in_json=st.booleans())
@settings(max_examples=300, deadline=None)
def test_probabilities_are_probabilities(tokens: list[Json], options: list[str], in_json: bool) -> None:
    if in_json:
        found = json_choice_distribution([*HEAD, token('":"', 1), *tokens], options, "choice")
    else:
        found = text_distribution(tokens, options)
    assert found is None or found
    assert set(found or ()) <= set(options)
    assert all(0 < value <= 1 for value in (found or {}).values())
    assert sum((found or {}).values()) <= 1 + 1e-9


@given(
    options=st.lists(TEXTS, min_size=2, max_size=5, unique=True),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_a_json_answer_of_tokens_that_are_certain_is_certain(options: list[str], data: st.DataObject) -> None:
    option = data.draw(st.sampled_from(options))
    text = json.dumps({"choice": option}, ensure_ascii=False, separators=(",", ":")).encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    tokens = [{"token": "�", "bytes": list(part), "logprob": 0.0, "top_logprobs": []} for part in parts]
    assert json_choice_distribution(tokens, options, "choice") == {option: 1.0}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ENTRY: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {}, optional={"token": TEXTS | ANYTHING, "logprob": st.floats() | ANYTHING, "bytes": ANYTHING}
)
TOKEN = st.builds(lambda one, top: one | {"top_logprobs": top}, ENTRY, st.lists(ENTRY, max_size=3) | ANYTHING)


@given(tokens=st.lists(TOKEN | ANYTHING, max_size=4), options=OPTIONS)
@settings(max_examples=300, deadline=None)
def test_no_tokens_make_it_fail(tokens: list[Any], options: list[str]) -> None:
    for found in (
        text_distribution(tokens, options),
        json_choice_distribution([*HEAD, token('":"', 1), *tokens], options, "choice"),
    ):
        assert set(found or ()) <= set(options)
        assert all(0 < value <= 1 for value in (found or {}).values())
