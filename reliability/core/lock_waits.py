"""How long a transaction waits for locks, and what happens when the wait times out.

The order in which locks are taken is in `reliability.core.lock_order`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import backoff
from django.db import DatabaseError, connection, transaction
from psycopg import errors

# The longest wait of a worker's job for a row. Longer, and it would hold a thread that other jobs need.
JOB_WAIT = timedelta(seconds=2)
# When a job whose wait timed out is run again.
CONFLICT_RETRY_DELAY = timedelta(seconds=5)
# Tries of a transaction, seconds for all of them, and the longest wait before the second one; it doubles.
MAX_TRIES, MAX_SECONDS, FIRST_WAIT = 5, 2.0, 0.02
# `true`: for this transaction only, so that a pooled session keeps its own limit.
SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"


def is_conflict(error: BaseException) -> bool:
    """Whether a statement failed for a lock: its wait timed out, or PostgreSQL ended a deadlock."""
    return isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected)


def milliseconds(wait: timedelta) -> str:
    """Return a wait as PostgreSQL reads it; at least 1 ms, since 0 means no limit."""
    return f"{max(1, round(wait.total_seconds() * 1000))}ms"


@contextmanager
def transaction_with_lock_timeout(wait: timedelta = JOB_WAIT) -> Iterator[None]:
    """Open a transaction in which no statement waits longer than `wait` for a lock.

    A longer wait raises a `DatabaseError` of which `is_conflict` is true, and rolls the transaction back.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(SET_LOCK_TIMEOUT, [milliseconds(wait)])
        yield


def is_rolled_back(error: BaseException) -> bool:
    """Whether PostgreSQL rolled the transaction back because of another one, so that it may be run again.

    That is a deadlock, or a serialization failure (only in isolation levels above read committed).
    """
    return isinstance(error.__cause__, errors.DeadlockDetected | errors.SerializationFailure)


def _is_final(error: Exception) -> bool:
    return connection.in_atomic_block or not is_rolled_back(error)


# Decorator: runs a function that is one transaction again where PostgreSQL rolled it back, so that nothing of it was
# kept. Within an outer transaction it is not run again: the rollback undid the caller's statements too, so only the
# caller can repeat them.
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
