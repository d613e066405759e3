"""A lane under its lock (`FOR NO KEY UPDATE`, which arrivals pass), and what was read once it was held.

Two statements: one that has waited for the lock would read the rows beside the lane as they were before it waited.
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.db import connection

from reliability.models import Breaker, Lane, Scope, Workflow
from reliability.models.rows import Columns

from .together import together

LANES, WORKFLOWS, BREAKERS, SHARED = (
    Columns(Lane, "l"),
    Columns(Workflow, "w"),
    Columns(Breaker, "b"),
    Columns(Breaker, "i"),
)
LOCK = f"SELECT 1 FROM {Lane._meta.db_table} WHERE id = %s FOR NO KEY UPDATE"  # noqa: S608  # names of our own models
READ = f"""
SELECT clock_timestamp(), {LANES.sql}, {WORKFLOWS.sql}, {BREAKERS.sql}, {SHARED.sql}
FROM {Lane._meta.db_table} l
JOIN {Workflow._meta.db_table} w ON w.id = l.workflow_id
JOIN {Breaker._meta.db_table} b ON b.lane_id = l.id
LEFT JOIN {Breaker._meta.db_table} i ON i.scope = '{Scope.INSTANCE}'
WHERE l.id = %s
"""  # noqa: S608  # as above


@dataclass(frozen=True, slots=True)
class Held:
    """A lane under its lock since `now`. `shared` is the instance's breaker as it was then, unlocked, if it is made."""

    lane: Lane
    shared: Breaker | None
    now: datetime


def hold(*, lane_id: int) -> Held:
    """Lock a lane; return it with its workflow and its breaker. Raises `Lane.DoesNotExist`."""
    with connection.cursor() as holder, connection.cursor() as reader:
        with together():
            holder.execute(LOCK, [lane_id])
            reader.execute(READ, [lane_id])
        row = reader.fetchone()
    if row is None:
        raise Lane.DoesNotExist
    ends = [1]
    for columns in (LANES, WORKFLOWS, BREAKERS, SHARED):
        ends.append(ends[-1] + len(columns))
    lanes, workflows, breakers, shared = (row[at:to] for at, to in pairwise(ends))
    lane, breaker = LANES.instance(lanes), BREAKERS.instance(breakers)
    lane.workflow = WORKFLOWS.instance(workflows)
    lane.breaker, breaker.lane = breaker, lane
    return Held(lane, SHARED.instance(shared) if shared[0] is not None else None, row[0])


def lock(*, lane_id: int) -> Lane:
    """Return the lane, its workflow and its breaker, under the lane's lock. Raises `Lane.DoesNotExist`."""
    return hold(lane_id=lane_id).lane
