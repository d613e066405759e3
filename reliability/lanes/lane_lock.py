"""Locks a lane and reads it with its workflow and breakers. See `core.lock_order` for its place among other locks."""

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.db import DatabaseError

from config.database.prepared import prepared_cursor
from reliability.core import db_pipeline, lock_waits
from reliability.models import Breaker, Lane, Scope, Workflow
from reliability.models.rows import Columns

LANES, WORKFLOWS, BREAKERS, INSTANCE = (
    Columns(Lane, "l"),
    Columns(Workflow, "w"),
    Columns(Breaker, "b"),
    Columns(Breaker, "i"),
)
# FOR NO KEY UPDATE, not FOR UPDATE: new deliveries refer to the lane by a foreign key, whose check takes FOR KEY SHARE.
# So the lock of a dispatcher does not stop arrivals.
LOCK = f"SELECT 1 FROM {Lane._meta.db_table} WHERE id = %s FOR NO KEY UPDATE"  # noqa: S608  # names of our own models
# The time limit is set by a condition of the same statement: a condition is evaluated before the row is locked. That
# saves a round trip per check, of which a busy dispatcher makes hundreds a second.
LOCK_WITH_TIMEOUT = LOCK.replace("FOR NO KEY", "AND set_config('lock_timeout', %s, true) <> '' FOR NO KEY")
LOCK_PIPELINED = LOCK_WITH_TIMEOUT.replace("FOR NO KEY", f"AND {db_pipeline.SET_TRANSACTION_TIMEOUT} FOR NO KEY")
# The longest transaction under a lane's lock, where it is pipelined (`core.db_pipeline`). Usual ones take milliseconds.
TRANSACTION_LIMIT = timedelta(seconds=20)
# A statement of its own: one that waited for the lock would still read the other rows as they were before its wait.
READ = f"""
SELECT clock_timestamp(), {LANES.sql}, {WORKFLOWS.sql}, {BREAKERS.sql}, {INSTANCE.sql}
FROM {Lane._meta.db_table} l
JOIN {Workflow._meta.db_table} w ON w.id = l.workflow_id
JOIN {Breaker._meta.db_table} b ON b.lane_id = l.id
LEFT JOIN {Breaker._meta.db_table} i ON i.scope = '{Scope.INSTANCE}'
WHERE l.id = %s
"""  # noqa: S608  # as above


@dataclass(frozen=True, slots=True)
class LockedLane:
    """A lane under its lock since `now`.

    `instance_breaker` is the instance's breaker as it was then, not locked; `None` before it is created.
    """

    lane: Lane
    instance_breaker: Breaker | None
    now: datetime


class LaneLocked(Exception):
    """Another session holds the lane's lock, or the wait for it timed out."""


@dataclass(frozen=True, slots=True)
class LockTimeout:
    """Whether a dispatcher waits for the lane's lock, and the time limit of every lock wait of its transaction."""

    waits_for_lane: bool
    timeout: timedelta


# Short waits are usual where several workers share a lane. After a wait that timed out, the next try is `SKIP_LOCKED`.
WAIT_BRIEFLY = LockTimeout(waits_for_lane=True, timeout=timedelta(milliseconds=100))
SKIP_LOCKED = LockTimeout(waits_for_lane=False, timeout=timedelta(milliseconds=10))


def lock_lane(*, lane_id: int, lock_timeout: LockTimeout | None = None) -> LockedLane:
    """Lock a lane and return it with its workflow and its breaker. Raises `Lane.DoesNotExist`.

    With `lock_timeout`, all lock waits of the transaction are limited, and a locked lane raises `LaneLocked`.
    """
    statement, limits = _statement(lock_timeout)
    with prepared_cursor() as lock_cursor, prepared_cursor() as read_cursor:
        try:
            with nullcontext() if lock_timeout is None else db_pipeline.pipelined():
                lock_cursor.execute(statement, [lane_id, *limits])
                read_cursor.execute(READ, [lane_id])
        except DatabaseError as error:
            if lock_timeout is not None and lock_waits.is_conflict(error):
                raise LaneLocked from error
            raise
        # The row is read although SKIP LOCKED may have skipped it: its absence tells a deleted lane from a locked one.
        row = read_cursor.fetchone()
        if row is None:
            raise Lane.DoesNotExist
        if lock_cursor.fetchone() is None:
            raise LaneLocked
    ends = [1]
    for columns in (LANES, WORKFLOWS, BREAKERS, INSTANCE):
        ends.append(ends[-1] + len(columns))
    lanes, workflows, breakers, instance_breaker = (row[at:to] for at, to in pairwise(ends))
    lane, breaker = LANES.instance(lanes), BREAKERS.instance(breakers)
    lane.workflow = WORKFLOWS.instance(workflows)
    lane.breaker, breaker.lane = breaker, lane
    return LockedLane(lane, INSTANCE.instance(instance_breaker) if instance_breaker[0] is not None else None, row[0])


def _statement(lock_timeout: LockTimeout | None) -> tuple[str, list[str]]:
    """Return the statement that locks a lane, and its time limits as parameters."""
    if lock_timeout is None:
        return LOCK, []
    statement, limits = LOCK_WITH_TIMEOUT, [lock_waits.milliseconds(lock_timeout.timeout)]
    if db_pipeline.can_pipeline():
        statement, limits = LOCK_PIPELINED, [*limits, lock_waits.milliseconds(TRANSACTION_LIMIT)]
    return statement if lock_timeout.waits_for_lane else f"{statement} SKIP LOCKED", limits


def lock(*, lane_id: int) -> Lane:
    """Lock a lane, waiting as long as the session allows; return it as `lock_lane`. Raises `Lane.DoesNotExist`."""
    return lock_lane(lane_id=lane_id).lane
