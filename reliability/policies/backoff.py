"""How long to wait before the next attempt."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# Beyond this many doublings every delay is at its maximum, whatever the base; without the limit, a large `k` would make
# an integer of thousands of digits.
DOUBLINGS = 40


def delay(*, k: int, base_delay_ms: int, max_delay_ms: int, jitter_factor: float, jitter: float) -> timedelta:
    """Return the wait after attempt `k` (from 0).

    `min(max_delay, base_delay * 2^k + jitter * jitter_factor * base_delay)`, `jitter` being a sample in [0, 1).
    """
    grown = base_delay_ms * 2 ** min(max(k, 0), DOUBLINGS) + jitter * jitter_factor * base_delay_ms
    return timedelta(milliseconds=min(max_delay_ms, grown))


def honour_retry_after(*, delay: timedelta, retry_after: timedelta | None, max_delay_ms: int) -> timedelta:
    """Return the longer of `delay` and `Retry-After`, the latter capped at the policy's maximum."""
    if retry_after is None:
        return delay
    return max(delay, min(retry_after, timedelta(milliseconds=max_delay_ms)))


def parse_retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """Read a `Retry-After` header (RFC 9110, 10.2.3): seconds or a date; `None` if it is neither."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        # Cut first: a header of a million digits must not become an integer.
        return timedelta(seconds=min(int(text[:12]), 10**9))
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(timedelta(0), moment - now)


def seconds_up(wait: timedelta) -> int:
    """Return whole seconds for a `Retry-After` header, rounded up, at least one."""
    return max(1, math.ceil(wait.total_seconds()))
