"""Takes away jobs that no worker will end, and wakes what they were about.

A killed worker leaves its jobs as `doing`. A worker that was only stopped for a while is taken for killed; when it
comes back, it finds its jobs gone, and goes on. That does no harm, as a job only says where to look: leases, states
and locks keep two workers from doing the same.

The wake-ups come first, the deletion last, each in a transaction of its own. A crash between them, or two workers at
once, wake twice and lose nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any, LiteralString
from uuid import UUID

from procrastinate.connector import BaseAsyncConnector

from .sweep import wake_lane, wake_operation

LIMIT = 500
# Six signs of life were missed: none for less than that is rare even under load.
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
# A key of its own: under the job's key a later look may be planned, which this one must not wait for.
REQUEUE: LiteralString = """
INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args)
VALUES (%(queue)s, %(task)s, 'lost:' || %(key)s, %(args)s)
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""
REQUEUED_TASKS = ("look_up", "retry_execution", "tell")


async def recover(connector: BaseAsyncConnector, *, unfinished: Iterable[int] = ()) -> list[int]:
    """Wake what up to `LIMIT` lost jobs were about, and delete them; return their ids.

    `unfinished` are jobs whose end a living worker could not write down. Raises `ConnectorException`.
    """
    values = {"unfinished": list(unfinished), "silent": HEARTBEAT_TIMEOUT_SECONDS}
    found = await connector.execute_query_all_async(FIND, limit=LIMIT, **values)
    ids = [row["id"] for row in found if await _wake(connector, row)]
    gone = await connector.execute_query_all_async(DELETE, ids=ids, **values) if ids else []
    await connector.execute_query_async(DELETE_WORKERS, silent=HEARTBEAT_TIMEOUT_SECONDS)
    return [row["id"] for row in gone]


async def _wake(connector: BaseAsyncConnector, job: Mapping[str, Any]) -> bool:
    """Wake what a job was about; return whether the job may go. A routine waits for the next ping."""
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
