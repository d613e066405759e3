"""A lane under its lock (`FOR NO KEY UPDATE`, which arrivals pass), and what was read once it was held.

Two statements: one that has waited for the lock would read the rows beside the lane as they were before it waited.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.db import DatabaseError

from config.database.prepared import prepared_cursor
from reliability.core import db_pipeline, lock_waits
from reliability.models import Breaker, Lane, Scope, Workflow
from reliability.models.rows import Columns

LANES, WORKFLOWS, BREAKERS, SHARED = (
    Columns(Lane, "l"),
    Columns(Workflow, "w"),
    Columns(Breaker, "b"),
    Columns(Breaker, "i"),
)
LOCK = f"SELECT 1 FROM {Lane._meta.db_table} WHERE id = %s FOR NO KEY UPDATE"  # noqa: S608  # names of our own models
# The limit is set for the whole transaction, and before the row is locked: a condition holds rows back from that step.
# One statement less per look, of which a busy dispatcher has hundreds a second.
LIMITED = LOCK.replace("FOR NO KEY", "AND set_config('lock_timeout', %s, true) <> '' FOR NO KEY")
PIPELINED = LIMITED.replace("FOR NO KEY", f"AND {db_pipeline.SET_TRANSACTION_TIMEOUT} FOR NO KEY")
# What a transaction under a lane's lock may take in all, where it is pipelined: rounds take milliseconds.
TRANSACTION_LIMIT = timedelta(seconds=20)
READ = f"""
SELECT clock_timestamp(), {LANES.sql}, {WORKFLOWS.sql}, {BREAKERS.sql}, {SHARED.sql}
FROM {Lane._meta.db_table} l
JOIN {Workflow._meta.db_table} w ON w.id = l.workflow_id
JOIN {Breaker._meta.db_table} b ON b.lane_id = l.id
LEFT JOIN {Breaker._meta.db_table} i ON i.scope = '{Scope.INSTANCE}'
WHERE l.id = %s
"""  # noqa: S608  # as above


@dataclass(frozen=True, slots=True)
class LockedLane:
    """A lane under its lock since `now`. `shared` is the instance's breaker as it was then, unlocked, if it is made."""

    lane: Lane
    shared: Breaker | None
    now: datetime


class LaneLocked(Exception):
    """Another session holds the lane's lock."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a dispatcher waits for the lane's own lock, if at all, and for any other lock of its transaction."""

    for_lane: bool
    wait: timedelta


# A short wait is usual where several workers share a lane. One in vain is not repeated at once: then it is `BRIEF`.
PATIENT = Patience(for_lane=True, wait=timedelta(milliseconds=100))
BRIEF = Patience(for_lane=False, wait=timedelta(milliseconds=10))


def lock_lane(*, lane_id: int, patience: Patience | None = None) -> LockedLane:
    """Lock a lane; return it with its workflow and its breaker. Raises `Lane.DoesNotExist`.

    With `patience`, all waits of the transaction have a limit, and a lane that is locked raises `LaneLocked`.
    """
    statement, limits = _statement(patience)
    with prepared_cursor() as holder, prepared_cursor() as reader:
        try:
            with nullcontext() if patience is None else db_pipeline.pipelined():
                holder.execute(statement, [lane_id, *limits])
                reader.execute(READ, [lane_id])
        except DatabaseError as error:
            if patience is not None and lock_waits.is_conflict(error):
                raise LaneLocked from error
            raise
        row = reader.fetchone()
        if row is None:
            raise Lane.DoesNotExist
        if holder.fetchone() is None:
            raise LaneLocked
    ends = [1]
    for columns in (LANES, WORKFLOWS, BREAKERS, SHARED):
        ends.append(ends[-1] + len(columns))
    lanes, workflows, breakers, shared = (row[at:to] for at, to in pairwise(ends))
    lane, breaker = LANES.instance(lanes), BREAKERS.instance(breakers)
    lane.workflow = WORKFLOWS.instance(workflows)
    lane.breaker, breaker.lane = breaker, lane
    return LockedLane(lane, SHARED.instance(shared) if shared[0] is not None else None, row[0])


def _statement(patience: Patience | None) -> tuple[str, list[str]]:
    """Return the statement that locks a lane, and the values of its limits."""
    if patience is None:
        return LOCK, []
    statement, limits = LIMITED, [lock_waits.milliseconds(patience.wait)]
    if db_pipeline.can_pipeline():
        statement, limits = PIPELINED, [*limits, lock_waits.milliseconds(TRANSACTION_LIMIT)]
    return statement if patience.for_lane else f"{statement} SKIP LOCKED", limits


def lock(*, lane_id: int) -> Lane:
    """Return the lane, its workflow and its breaker, under the lane's lock. Raises `Lane.DoesNotExist`."""
    return lock_lane(lane_id=lane_id).lane
