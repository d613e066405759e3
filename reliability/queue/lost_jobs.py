"""Deletes jobs whose worker is gone, and wakes the rows that they were about.

A worker that was killed leaves its jobs as `doing`. A worker that was only stopped for a while looks the same; when it
continues, its jobs are gone, and it finishes them. That does no harm, since a job only says which row to check: leases,
states and locks keep two workers from doing the same work.
"""

from collections.abc import Iterable, Mapping
from typing import Any, LiteralString
from uuid import UUID

from procrastinate.connector import BaseAsyncConnector

from .sweep import wake_lane, wake_operation

LIMIT = 500
# Six heartbeats missed. Fewer are missed now and then under load, and a false alarm costs a needless job.
HEARTBEAT_TIMEOUT_SECONDS = 60.0

_LOST: LiteralString = """
j.status = 'doing' AND (j.id = ANY(%(unfinished)s::bigint[]) OR NOT EXISTS (
    SELECT 1 FROM procrastinate_workers w
    WHERE w.id = j.worker_id AND w.last_heartbeat > now() - %(silent)s * interval '1 second'))
"""
FIND: LiteralString = f"""
SELECT j.id, j.queue_name, j.task_name, j.queueing_lock, j.args FROM procrastinate_jobs j
WHERE {_LOST} ORDER BY j.id LIMIT %(limit)s
"""  # noqa: S608  # our own words
DELETE: LiteralString = f"""
DELETE FROM procrastinate_jobs WHERE id IN (
    SELECT j.id FROM procrastinate_jobs j WHERE j.id = ANY(%(ids)s) AND {_LOST} FOR UPDATE SKIP LOCKED)
RETURNING id
"""  # noqa: S608  # our own words
DELETE_WORKERS: LiteralString = """
DELETE FROM procrastinate_workers WHERE id IN (SELECT id FROM procrastinate_workers
    WHERE last_heartbeat < now() - %(silent)s * interval '1 second' FOR UPDATE SKIP LOCKED)
"""
# A queueing lock of its own: under the job's own lock a later job may be waiting, which would keep this one out.
REQUEUE: LiteralString = """
INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args)
VALUES (%(queue)s, %(task)s, 'lost:' || %(key)s, %(args)s)
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""
REQUEUED_TASKS = ("look_up", "retry_execution", "tell")


async def recover(connector: BaseAsyncConnector, *, unfinished: Iterable[int] = ()) -> list[int]:
    """Wake the rows of up to `LIMIT` lost jobs, then delete the jobs; return the ids of those deleted.

    `unfinished` are ids of jobs that this live worker finished but could not record. Raises `ConnectorException`.
    """
    values = {"unfinished": list(unfinished), "silent": HEARTBEAT_TIMEOUT_SECONDS}
    found = await connector.execute_query_all_async(FIND, limit=LIMIT, **values)
    # Wake first, delete last, each in a transaction of its own. After a crash in between, or with two workers at once,
    # a row is woken twice; in the other order it could stay without a job.
    ids = [row["id"] for row in found if await _wake(connector, row)]
    gone = await connector.execute_query_all_async(DELETE, ids=ids, **values) if ids else []
    await connector.execute_query_async(DELETE_WORKERS, silent=HEARTBEAT_TIMEOUT_SECONDS)
    return [row["id"] for row in gone]


async def _wake(connector: BaseAsyncConnector, job: Mapping[str, Any]) -> bool:
    """Wake the row of a job; return whether the job may be deleted. A routine comes back with its next ping."""
    arguments = job["args"]
    match job["task_name"]:
        case "dispatch":
            return await wake_lane(connector, int(arguments["lane_id"]))
        case "operate":
            return await wake_operation(connector, UUID(arguments["operation_id"]))
        case task if task in REQUEUED_TASKS:
            args = {name: value for name, value in arguments.items() if name != "at"}
            key = job["queueing_lock"] or str(job["id"])
            await connector.execute_query_async(REQUEUE, queue=job["queue_name"], task=task, key=key, args=args)
    return True
