"""Reads of other services, repeated after errors that pass quickly.

Only requests that change nothing are repeated, so never `client.send`, which has the delivery's own retry policy. Waits
between tries are random up to a limit that doubles ("full jitter"), so that many callers that failed together do not
come back together. `seconds` bounds all tries and waits: each try gets what is left.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import backoff

TRIES = 3
# Seconds: the longest first wait; the longest next one is twice that.
FIRST_WAIT = 0.25

Found = TypeVar("Found")


def repeated(
    read: Callable[[float], Found],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    seconds: float,
    is_transient: Callable[[Exception], bool] = lambda _: True,
) -> Found:
    """Call `read` with the seconds that are left, and return its result.

    It is called again if it raises one of `on` for which `is_transient` is true; the last error is raised.
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
