"""The rate limit: the generic cell rate algorithm (GCRA), whose state is one timestamp (TAT)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Grant:
    """How many may start, the theoretical arrival time to store, and when to ask for more (`None`: all granted)."""

    count: int
    tat: datetime | None
    retry_at: datetime | None


def grant(
    *, tat: datetime | None, now: datetime, per_minute: int | None, wanted: int, burst: int | None = None
) -> Grant:
    """Grant up to `wanted` starts at `now` under a limit of `per_minute`; `None` is no limit.

    `burst` may start at once (by default one second's share, at least one).
    """
    if per_minute is None:
        return Grant(wanted, tat, None)
    interval = MINUTE / per_minute
    tolerance = interval * (max(1, burst if burst is not None else per_minute // 60))
    # A `tat` further ahead than the burst allows was written before the clock was set back: it is brought nearer.
    next_slot = now if tat is None else min(max(tat, now), now + tolerance)
    count = min(wanted, (now + tolerance - next_slot) // interval)
    after = next_slot + interval * count
    retry_at = after + interval - tolerance if count < wanted else None
    return Grant(count, after if count else tat, retry_at)
