"""Reads of other services, repeated where they failed for a moment.

Only what changes nothing elsewhere is repeated, so never `transport.send`, which has the delivery's own policy. The
waits between the tries are random up to a limit that doubles ("full jitter"), so that many who failed together do not
come back together. `seconds` bounds all tries and waits: each try gets what is left.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import backoff

TRIES = 3
# Seconds: the first wait is up to so long, the next up to twice as long.
FIRST_WAIT = 0.25

Found = TypeVar("Found")


def repeated(
    read: Callable[[float], Found],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    seconds: float,
    is_transient: Callable[[Exception], bool] = lambda _: True,
) -> Found:
    """Return what `read` does with the seconds that it has left.

    It is tried again where it raises one of `on` that `is_transient` says is for a moment; the last one is raised.
    """
    deadline = time.monotonic() + seconds

    def is_final(error: Exception) -> bool:
        return not is_transient(error) or time.monotonic() >= deadline

    @backoff.on_exception(
        backoff.expo,
        on,
        max_tries=TRIES,
        max_time=seconds,
        giveup=is_final,
        jitter=backoff.full_jitter,
        factor=FIRST_WAIT,
        logger=None,
    )
    def attempt() -> Found:
        return read(max(deadline - time.monotonic(), 0.1))

    return attempt()
