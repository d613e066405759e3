"""How many deliveries may go, by what is in flight and what the limit is."""


def available(*, limit: int, in_flight: int, ramp: int | None = None) -> int:
    """Return how many more may go. `ramp` narrows the limit for a while: 0 lets nothing through."""
    ceiling = limit if ramp is None else min(limit, ramp)
    return max(0, ceiling - in_flight)


def next_ramp(*, ramp: int | None, limit: int, successes: int = 1) -> int | None:
    """Return the ramp after so many successes: one wider for each, so doubled by each full round.

    `None` once it no longer narrows the limit.
    """
    if ramp is None or ramp + successes >= limit:
        return None
    return ramp + successes
