"""Reads Procrastinate's own tables: the engine's status, and the deletion of ended jobs."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction


def workers_alive() -> int:
    """Return how many worker processes sent a heartbeat within 30 seconds: they send one every ten."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '30 seconds'"
        )
        return int(cursor.fetchone()[0])


# The last event of an ended job says when it ended. A `doing` job whose worker is gone never ends: its last event is
# its start.
_ENDED = """
SELECT id FROM procrastinate_jobs j
WHERE (status IN ('succeeded', 'failed', 'cancelled', 'aborted') OR (status = 'doing' AND NOT EXISTS (
        SELECT 1 FROM procrastinate_workers w
        WHERE w.id = j.worker_id AND w.last_heartbeat > now() - interval '60 seconds')))
    AND (SELECT max(at) FROM procrastinate_events e WHERE e.job_id = j.id) < %s
ORDER BY id LIMIT %s
"""


def ended_jobs(*, before: datetime, limit: int) -> int:
    """Return how many jobs that ended, or lost their worker, before `before` are still stored, up to `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_ENDED}) AS ended", [before, limit])  # noqa: S608  # our own words
        return int(cursor.fetchone()[0])


def delete_ended_jobs(*, before: datetime, limit: int) -> int:
    """Delete up to `limit` of these jobs, with their events; return how many."""
    # SKIP LOCKED: housekeeping waits for no worker (`core.lock_order`).
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM procrastinate_jobs WHERE id IN ({_ENDED} FOR UPDATE SKIP LOCKED)",  # noqa: S608  # likewise
            [before, limit],
        )
        return int(cursor.rowcount)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The engine's status: live workers, due jobs that wait, jobs whose worker is gone, failed jobs."""

    workers: int
    due: int
    stalled: int
    failed: int


def engine_status() -> EngineStatus:
    """Read the engine's status. Raises `DatabaseError` if its tables do not exist."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FILTER (WHERE j.status = 'todo' AND coalesce(j.scheduled_at, now()) <= now()),"
            " count(*) FILTER (WHERE j.status = 'doing' AND (w.id IS NULL"
            " OR w.last_heartbeat < now() - interval '60 seconds')), count(*) FILTER (WHERE j.status = 'failed')"
            " FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id"
        )
        due, stalled, failed = cursor.fetchone()
    return EngineStatus(workers_alive(), due, stalled, failed)
