"""The concurrency limit: how many more deliveries may be sent, given those in flight."""


def available(*, limit: int, in_flight: int, ramp: int | None = None) -> int:
    """Return how many more may be sent. `ramp` lowers the limit during a slow start; 0 admits nothing."""
    ceiling = limit if ramp is None else min(limit, ramp)
    return max(0, ceiling - in_flight)


def next_ramp(*, ramp: int | None, limit: int, successes: int = 1) -> int | None:
    """Return the ramp after `successes`: one more for each, so it doubles with each full round.

    `None` once it no longer lowers the limit.
    """
    if ramp is None or ramp + successes >= limit:
        return None
    return ramp + successes
