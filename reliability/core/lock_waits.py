"""How long a transaction waits for locks, and what is done where it waited in vain.

The order in which locks are taken is in `reliability.core.lock_order`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import backoff
from django.db import DatabaseError, connection, transaction
from psycopg import errors

# What a job of a worker waits for a row at the most, before it is put off.
JOB_WAIT = timedelta(seconds=2)
# When a job that waited in vain is done again.
CONFLICT_RETRY_DELAY = timedelta(seconds=5)
# Seconds, for all tries of a transaction, and the longest wait before the second one; it doubles.
MAX_TRIES, MAX_SECONDS, FIRST_WAIT = 5, 2.0, 0.02
SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"


def is_conflict(error: BaseException) -> bool:
    """Whether a statement was given up for a lock: it waited too long, or PostgreSQL broke up a deadlock."""
    return isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected)


def milliseconds(wait: timedelta) -> str:
    """Write a wait as PostgreSQL reads it. 0 would mean no limit."""
    return f"{max(1, round(wait.total_seconds() * 1000))}ms"


@contextmanager
def transaction_with_lock_timeout(wait: timedelta = JOB_WAIT) -> Iterator[None]:
    """A transaction in which no statement waits longer for a lock: it ends with an error that `is_conflict` then."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(SET_LOCK_TIMEOUT, [milliseconds(wait)])
        yield


def is_rolled_back(error: BaseException) -> bool:
    """Whether PostgreSQL undid the transaction for others': a deadlock, or a failure to serialize (in isolation levels
    that know that). It may be done again."""
    return isinstance(error.__cause__, errors.DeadlockDetected | errors.SerializationFailure)


def _is_final(error: Exception) -> bool:
    return connection.in_atomic_block or not is_rolled_back(error)


# Calls a function again that is one transaction, where PostgreSQL undid it for others': nothing of it was kept.
# Within an outer transaction the error goes on to whoever began that.
deadlocks_retried = backoff.on_exception(
    backoff.expo,
    DatabaseError,
    max_tries=MAX_TRIES,
    max_time=MAX_SECONDS,
    giveup=_is_final,
    jitter=backoff.full_jitter,
    factor=FIRST_WAIT,
    logger=None,
)
