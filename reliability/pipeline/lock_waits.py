"""How long a transaction waits for locks, and what is done where it waited in vain.

The order in which locks are taken is in `reliability.lock_order`.
"""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, connection, transaction
from psycopg import errors

P = ParamSpec("P")
T = TypeVar("T")

# What a job of a worker waits for a row at the most, before it is put off.
JOB_WAIT = timedelta(seconds=2)
# When a job that waited in vain is done again.
PUT_OFF = timedelta(seconds=5)
TRIES, PAUSE = 3, 0.05
BOUND = "SELECT set_config('lock_timeout', %s, true)"


def is_conflict(error: BaseException) -> bool:
    """Whether a statement was given up for a lock: it waited too long, or PostgreSQL broke up a deadlock."""
    return isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected)


def milliseconds(wait: timedelta) -> str:
    """Write a wait as PostgreSQL reads it. 0 would mean no limit."""
    return f"{max(1, round(wait.total_seconds() * 1000))}ms"


@contextmanager
def bounded(wait: timedelta = JOB_WAIT) -> Iterator[None]:
    """A transaction in which no statement waits longer for a lock: it ends with an error that `is_conflict` then."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(BOUND, [milliseconds(wait)])
        yield


def deadlocks_retried(function: Callable[P, T]) -> Callable[P, T]:
    """Call a function again that is one transaction, where PostgreSQL broke up a deadlock: nothing of it was kept.

    Within an outer transaction the error goes on to whoever began that.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for number in range(1, TRIES):
            try:
                return function(*args, **kwargs)
            except DatabaseError as error:
                if connection.in_atomic_block or not isinstance(error.__cause__, errors.DeadlockDetected):
                    raise
                time.sleep(PAUSE * number)
        return function(*args, **kwargs)

    return call
