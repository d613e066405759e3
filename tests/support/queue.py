"""Procrastinate's workers within the process of a test, and its tables."""

from contextlib import asynccontextmanager

from django.db import connection
from procrastinate import App, PsycopgConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.manager import JobManager


@asynccontextmanager
async def opened(manager: type[JobManager], connector: type[PsycopgConnector] = PsycopgConnector):
    """An app on the database of the tests, with this manager and this connector."""
    app = App(connector=connector(kwargs=connector_params()))
    app.job_manager = manager(app.connector)
    async with app.open_async():
        yield app


def rows(statement: str, *values) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def forget_all() -> None:
    """Delete every job and every worker, as a restored backup of the other tables does."""
    rows("DELETE FROM procrastinate_jobs")
    rows("DELETE FROM procrastinate_workers")


def silent_worker(seconds: int) -> int:
    """Make a worker whose last sign of life is so many seconds ago; return its id."""
    made = "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s * interval '1 s') RETURNING id"
    return rows(made, seconds)[0][0]


def job(task: str, worker: int | None, *, queue: str = "dispatch", status: str = "doing", args: str = "{}") -> int:
    made = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id, args)"
        " VALUES (%s, %s, %s, %s, %s) RETURNING id"
    )
    return rows(made, queue, task, status, worker, args)[0][0]
