"""How the engine stands, and the deletion of its ended jobs: what reads Procrastinate's own tables."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction


def workers_alive() -> int:
    """Return how many worker processes have given a sign of life lately: they do so every ten seconds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '30 seconds'"
        )
        return int(cursor.fetchone()[0])


# An ended job's last event says when it ended. One in the hands of a worker that is gone ends no more: it began then.
_ENDED = """
SELECT id FROM procrastinate_jobs j
WHERE (status IN ('succeeded', 'failed', 'cancelled', 'aborted') OR (status = 'doing' AND NOT EXISTS (
        SELECT 1 FROM procrastinate_workers w
        WHERE w.id = j.worker_id AND w.last_heartbeat > now() - interval '60 seconds')))
    AND (SELECT max(at) FROM procrastinate_events e WHERE e.job_id = j.id) < %s
ORDER BY id LIMIT %s
"""


def ended_jobs(*, before: datetime, limit: int) -> int:
    """Return how many jobs ended, or were lost with their worker, before then and are still there, up to `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_ENDED}) AS ended", [before, limit])  # noqa: S608  # our own words
        return int(cursor.fetchone()[0])


def delete_ended_jobs(*, before: datetime, limit: int) -> int:
    """Delete up to `limit` of these jobs, with their events; return how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM procrastinate_jobs WHERE id IN ({_ENDED} FOR UPDATE SKIP LOCKED)",  # noqa: S608  # likewise
            [before, limit],
        )
        return int(cursor.rowcount)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How the engine stands: jobs that wait and are due, those whose worker is gone, and those that failed."""

    workers: int
    due: int
    stalled: int
    failed: int


def engine_status() -> EngineStatus:
    """Look at the engine's own tables. Raises a `DatabaseError` where they are not there."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FILTER (WHERE j.status = 'todo' AND coalesce(j.scheduled_at, now()) <= now()),"
            " count(*) FILTER (WHERE j.status = 'doing' AND (w.id IS NULL"
            " OR w.last_heartbeat < now() - interval '60 seconds')), count(*) FILTER (WHERE j.status = 'failed')"
            " FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id"
        )
        due, stalled, failed = cursor.fetchone()
    return EngineStatus(workers_alive(), due, stalled, failed)
