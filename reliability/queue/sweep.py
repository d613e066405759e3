"""Plans a job for every row that needs one, when a worker starts.

Jobs can be missing: after a restore of a backup that has the rows only, or after a manual change in the database. Where
a job is planned already, its queueing lock keeps a second one out.
"""

from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

import psycopg.errors
from procrastinate.connector import BaseAsyncConnector
from procrastinate.exceptions import ConnectorException

PAGE = 500

LANES: LiteralString = """
SELECT l.id FROM reliability_lane l WHERE l.id > %(after)s AND EXISTS (SELECT 1 FROM reliability_delivery d
    WHERE d.lane_id = l.id AND d.state IN ('pending', 'sending', 'awaiting_callback'))
ORDER BY l.id LIMIT %(limit)s
"""
# A lane whose advisory lock another transaction holds exclusively is skipped until the next sweep: waiting for it would
# delay the other lanes. While a dispatcher promises to check the lane (`attended_until`), `backstop_wake` does nothing,
# so the job is planned for the end of the promise.
WAKE_LANE: LiteralString = """
SELECT CASE WHEN attended_until > clock_timestamp() THEN backstop_wake_at(id, attended_until)
    ELSE backstop_wake(id) END
FROM reliability_lane WHERE id = %(lane)s AND pg_try_advisory_xact_lock_shared(1112757840, id)
"""
LANE_EXISTS: LiteralString = "SELECT 1 FROM reliability_lane WHERE id = %(lane)s"
OPERATIONS: LiteralString = """
SELECT id FROM reliability_operation
WHERE state = 'running' OR (state IN ('cancelled', 'stopped') AND next_at IS NOT NULL) ORDER BY id
"""
WAKE_OPERATION: LiteralString = "SELECT backstop_wake_operation(%(operation)s, clock_timestamp())"

LOOK_UPS: LiteralString = """
SELECT id, look_up_at AS due FROM reliability_failurereport
WHERE state = 'looking_up' AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""
RETRIES: LiteralString = """
SELECT id, due_at AS due FROM reliability_executionretry
WHERE state IN ('pending', 'asked') AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""
NOTICES: LiteralString = """
SELECT id, greatest(next_at, lease_until) AS due FROM reliability_alertnotice
WHERE state = 'waiting' AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""
# As `jobs._defer` does: due two seconds (`LEAD`) before its moment, which it carries as `at`. The queueing lock is the
# sweep's own: the row's own lock must stay free for a job that is planned later. Rows that have a job need none.
PLAN: LiteralString = """
INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args, scheduled_at)
SELECT %(queue)s, %(task)s, 'sweep:' || %(key)s || id, jsonb_build_object(%(argument)s::text, id)
        || CASE WHEN due > clock_timestamp() THEN jsonb_build_object('at', extract(epoch FROM due)) ELSE '{}' END,
    due - interval '2 seconds'
FROM unnest(%(ids)s::uuid[], %(dues)s::timestamptz[]) AS waiting (id, due)
WHERE NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.queueing_lock = %(key)s || id AND j.status = 'todo')
ORDER BY id
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows of one kind, and the job that each of them needs."""

    rows: LiteralString
    queue: str
    task: str
    key: str
    argument: str


KINDS = (
    Kind(LOOK_UPS, "n8n", "look_up", "look-up:", "report_id"),
    Kind(RETRIES, "n8n", "retry_execution", "retry:", "retry_id"),
    Kind(NOTICES, "operation", "tell", "tell:", "notice_id"),
)


async def sweep(connector: BaseAsyncConnector) -> int:
    """Plan missing jobs; return how many lanes and operations were locked. Raises `ConnectorException`."""
    # Each lane and each operation has a transaction of its own. One that wakes several would hold a lane's lock while
    # it waits for another's, and could deadlock with intake, which wakes in the order of its keys.
    left = await _sweep_lanes(connector)
    for row in await connector.execute_query_all_async(OPERATIONS):
        left += not await wake_operation(connector, row["id"])
    for kind in KINDS:
        await _sweep_rows(connector, kind)
    return left


async def _sweep_lanes(connector: BaseAsyncConnector) -> int:
    after, left = 0, 0
    while page := await connector.execute_query_all_async(LANES, after=after, limit=PAGE):
        for row in page:
            left += not await wake_lane(connector, row["id"])
        after = page[-1]["id"]
    return left


async def wake_lane(connector: BaseAsyncConnector, lane_id: int) -> bool:
    """Wake a lane; return `False` if another transaction holds a lock that this needs."""
    try:
        if await connector.execute_query_all_async(WAKE_LANE, lane=lane_id):
            return True
    except ConnectorException as error:
        return _raise_unless_locked(error)
    # No row came back: the lane is locked, or it does not exist any more, which counts as done.
    return not await connector.execute_query_all_async(LANE_EXISTS, lane=lane_id)


async def wake_operation(connector: BaseAsyncConnector, operation_id: UUID) -> bool:
    """Wake a bulk operation, as `wake_lane` does a lane."""
    try:
        await connector.execute_query_async(WAKE_OPERATION, operation=operation_id)
    except ConnectorException as error:
        return _raise_unless_locked(error)
    return True


def _raise_unless_locked(error: ConnectorException) -> bool:
    """Return `False` if the wait for a lock timed out, so that the sweep goes on; raise any other error."""
    if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
        return False
    raise error


async def _sweep_rows(connector: BaseAsyncConnector, kind: Kind) -> None:
    after = UUID(int=0)
    while page := await connector.execute_query_all_async(kind.rows, after=after, limit=PAGE):
        ids, dues = [row["id"] for row in page], [row["due"] for row in page]
        names = {"queue": kind.queue, "task": kind.task, "key": kind.key, "argument": kind.argument}
        await connector.execute_query_async(PLAN, ids=ids, dues=dues, **names)
        after = page[-1]["id"]
