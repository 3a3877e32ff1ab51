"""When to ask again, and how long to wait first: the rules of the openai SDK, as pure functions.

Source: `BaseClient._should_retry`, `_calculate_retry_timeout` and `_parse_retry_after_header` of openai-python 3.54;
the SDK's own retries are off because they sleep inside the call, unseen. Two things differ: what is too long a wait is
`--max-wait`'s to say, where the SDK gives up above two minutes, and a wait that is asked for is stretched at random.
"""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Callable, Mapping

__all__ = ["MAX_ATTEMPTS", "is_retryable", "retry_after", "retry_delay"]

MAX_ATTEMPTS = 6
"""How often a request is sent that fails by anything but a rate limit."""

_INITIAL_S = 0.5
_MAX_BACKOFF_S = 8.0
_SPREAD = 0.1
_YEAR_S = 366 * 86400.0


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a response invites another attempt: the service's own word, else 408, 409, 429 and 5xx."""
    said = headers.get("x-should-retry")
    if said in ("true", "false"):
        return said == "true"
    return status in (408, 409, 429) or status >= 500


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that the service asks to wait, in (0, one year]; None where it asks for no wait that could be kept.

    Read are `retry-after-ms`, and `retry-after` in seconds or as an HTTP date.
    """
    asked = _asked(headers, now)
    return min(asked, _YEAR_S) if asked is not None and math.isfinite(asked) and asked > 0 else None


def retry_delay(
    attempt: int,
    headers: Mapping[str, str],
    *,
    now: Callable[[], float] = time.time,
    jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads retries, protects nothing
) -> float:
    """Seconds to wait after the `attempt`-th attempt (from 1).

    What the service asks for, and up to a tenth more at random, so that the refused do not come back all at once;
    otherwise exponential back-off from 0.5 s to 8 s, less up to a quarter at random.
    """
    asked = retry_after(headers, now=now)
    if asked is not None:
        return asked * (1 + _SPREAD * jitter())
    backoff = min(_INITIAL_S * 2.0 ** min(attempt - 1, 1000), _MAX_BACKOFF_S)
    return backoff * (1 - 0.25 * jitter())


def _asked(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """The number as it stands; one too large for a float is a very long time."""
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) / divisor
        except ValueError:
            continue
        overflown = math.isinf(seconds) and seconds > 0 and "inf" not in text.lower()
        return _YEAR_S if overflown else seconds
    try:
        date = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return None if date is None else email.utils.mktime_tz(date) - now()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
