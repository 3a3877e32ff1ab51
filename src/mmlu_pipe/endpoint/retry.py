"""When to ask again, and how long to wait first: the rules of the openai SDK, as pure functions.

Source: `BaseClient._should_retry` and `_calculate_retry_timeout` of openai-python 3.54; the SDK's own retries are
off because they sleep inside the call, unseen.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Mapping

__all__ = ["MAX_ATTEMPTS", "is_retryable", "retry_delay"]

MAX_ATTEMPTS = 6
_INITIAL_S = 0.5
_MAX_BACKOFF_S = 8.0
_MAX_RETRY_AFTER_S = 60.0


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a response invites another attempt: the service's own word, else 408, 409, 429 and 5xx."""
    said = headers.get("x-should-retry")
    if said in ("true", "false"):
        return said == "true"
    return status in (408, 409, 429) or status >= 500


def retry_delay(
    attempt: int,
    headers: Mapping[str, str],
    *,
    now: Callable[[], float] = time.time,
    jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads retries, protects nothing
) -> float:
    """Seconds to wait after the `attempt`-th attempt (from 1).

    A `retry-after-ms`, or `retry-after` in seconds or as an HTTP date, of up to a minute is obeyed; otherwise
    exponential back-off from 0.5 s to 8 s, less up to a quarter at random.
    """
    asked = _retry_after(headers, now)
    if asked is not None and 0 < asked <= _MAX_RETRY_AFTER_S:
        return asked
    backoff = min(_INITIAL_S * 2.0 ** (attempt - 1), _MAX_BACKOFF_S)
    return backoff * (1 - 0.25 * jitter())


def _retry_after(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    try:
        return float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        pass
    text = headers.get("retry-after", "")
    try:
        return float(text)
    except ValueError:
        date = email.utils.parsedate_tz(text)
        return None if date is None else email.utils.mktime_tz(date) - now()
