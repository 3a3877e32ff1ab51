"""When to ask again and how long to wait, held against the openai SDK's own rules."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Iterator
from types import SimpleNamespace

import httpx2
import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import _base_client as sdk
from openai._models import FinalRequestOptions

from mmlu_pipe.endpoint.retry import MAX_ATTEMPTS, is_retryable, retry_after, retry_delay

NOW = 1_750_000_000.0
THEIR_LIMIT_S = 120  # where the SDK gives up; ours is --max-wait
YEAR_S = 366 * 86400
MOMENTS = st.floats(min_value=-400, max_value=400).map(lambda offset: NOW + offset)
NUMBERS = st.one_of(
    st.integers(min_value=-10, max_value=200_000).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.sampled_from(["nan", "-nan", "inf", "-inf", "Infinity", "+inf", "1e400", "-1e400", "1e-400", "1_0", " 7 ", "0"]),
)
DATES = MOMENTS.map(lambda moment: email.utils.formatdate(moment, usegmt=True))
GARBAGE = st.one_of(
    st.text(alphabet=st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
    st.sampled_from(["", "soon", "Wed, 99 Foo 2025", "Mon, 01 Jan 99999 00:00:00 GMT", "1 1 1 1", "Thu, 01 Jan 0001"]),
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-should-retry": st.sampled_from(["true", "false", "True", "1", ""]),
        "retry-after-ms": st.one_of(NUMBERS, GARBAGE),
        "retry-after": st.one_of(NUMBERS, DATES, GARBAGE),
    },
)
STATUSES = st.sampled_from([400, 401, 404, 408, 409, 410, 422, 425, 429, 499, 500, 502, 503, 504, 529, 599])


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url="http://localhost:1", http_client=httpx2.Client()) as client:
        yield client


@pytest.fixture(autouse=True, scope="module")
def still_clock() -> Iterator[None]:
    """The SDK asks the clock and the dice itself; both stand still while they are compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sdk, "time", SimpleNamespace(time=lambda: NOW))
        patch.setattr(sdk, "random", lambda: 0.5)
        yield


def known(headers: dict[str, str]) -> httpx2.Headers:
    return httpx2.Headers([(name.encode(), value.encode("latin-1")) for name, value in headers.items()])


@settings(max_examples=1000, deadline=None)
@given(STATUSES, HEADERS)
@example(429, {"retry-after": "86400"})
@example(429, {"retry-after": "120", "retry-after-ms": "garbage"})
@example(429, {"retry-after": "1e400"})
def test_what_is_asked_again_is_what_the_sdk_asks_again_where_the_wait_is_short(
    client: openai.OpenAI, status: int, headers: dict[str, str]
) -> None:
    response = httpx2.Response(status, headers=known(headers))
    asked = retry_after(response.headers, now=lambda: NOW)
    short = asked is None or asked <= THEIR_LIMIT_S
    assert (short and is_retryable(status, response.headers)) == client._should_retry(response)


@settings(max_examples=1000, deadline=None)
@given(HEADERS)
@example({"retry-after": "1e400"})
@example({"retry-after-ms": "nan", "retry-after": "5"})
@example({"retry-after": "inf"})
def test_the_wait_that_is_asked_for_is_what_the_sdk_reads(client: openai.OpenAI, headers: dict[str, str]) -> None:
    theirs = client._parse_retry_after_header(known(headers))
    ours = retry_after(known(headers), now=lambda: NOW)
    if theirs is None or not math.isfinite(theirs) or theirs <= 0:
        assert ours is None
    elif ours == YEAR_S:
        assert theirs > THEIR_LIMIT_S
    else:
        assert ours == pytest.approx(theirs)


@settings(max_examples=1000, deadline=None)
@given(st.integers(min_value=1, max_value=2000), HEADERS)
@example(1, {"retry-after-ms": "nan", "retry-after": "5"})
@example(1, {"retry-after-ms": "-5", "retry-after": "5"})
def test_the_wait_is_the_sdks_and_up_to_a_tenth_more_where_it_was_asked_for(
    client: openai.OpenAI, attempt: int, headers: dict[str, str]
) -> None:
    options = FinalRequestOptions(method="post", url="/", max_retries=2000)
    theirs = client._calculate_retry_timeout(2000 - (attempt - 1), options, known(headers))
    ours = retry_delay(attempt, known(headers), now=lambda: NOW, jitter=lambda: 0.5)
    asked = retry_after(known(headers), now=lambda: NOW)
    assert 0 < ours <= YEAR_S * 1.1
    if asked is None:
        assert ours == pytest.approx(theirs)
    else:
        assert ours == pytest.approx(asked * 1.05)
        assert asked > THEIR_LIMIT_S or theirs == pytest.approx(asked)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "120"}, 120),
        ({"retry-after": email.utils.formatdate(NOW + 30, usegmt=True)}, 30),
        ({"retry-after": email.utils.formatdate(NOW - 30, usegmt=True)}, 0.5),
        ({"retry-after": "0"}, 0.5),
        ({"retry-after": "-3"}, 0.5),
        ({"retry-after": "nan"}, 0.5),
        ({"retry-after": "inf"}, 0.5),
        ({"retry-after": "soon"}, 0.5),
        ({"retry-after": "86400"}, 86400),
        ({"retry-after": "1e400"}, YEAR_S),
        ({}, 0.5),
    ],
)
def test_the_service_says_how_long(headers: dict[str, str], expected: float) -> None:
    assert retry_delay(1, headers, now=lambda: NOW, jitter=lambda: 0.0) == pytest.approx(expected)


def test_the_wait_doubles_up_to_a_limit_less_a_quarter_at_random() -> None:
    waits = [retry_delay(attempt, {}, jitter=lambda: 0.0) for attempt in range(1, MAX_ATTEMPTS + 2)]
    assert waits == [0.5, 1, 2, 4, 8, 8, 8]
    assert [retry_delay(attempt, {}, jitter=lambda: 1.0) for attempt in (1, 5)] == [0.375, 6]
    assert all(0.375 <= retry_delay(1, {}) <= 0.5 for _ in range(50))


def test_a_wait_that_is_asked_for_is_never_cut_short_and_spread_by_a_tenth() -> None:
    waits = [retry_delay(3, {"retry-after": "10"}) for _ in range(200)]
    assert min(waits) >= 10
    assert max(waits) <= 11
    assert max(waits) - min(waits) > 0.5


def test_without_a_clock_given_the_clock_of_the_machine_is_read() -> None:
    asked = retry_after({"retry-after": email.utils.formatdate(time.time() + 100, usegmt=True)})
    assert asked is not None
    assert 0 < asked <= 101
