"""Procrastinate's job manager, extended for our workers.

Procrastinate's worker does all its work in the database through its manager. Where upstream lets the error of one
statement end the worker, or end one of its side tasks without notice, this one goes on:
docs/decisions/0001-job-manager.md.
"""

import asyncio
import logging
from collections.abc import Iterable

import psycopg.errors
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Notification, Status
from procrastinate.manager import JobManager, NotificationCallback

from .process import PROCESS

# Seconds between tries to record that a job has ended.
FINISH_RETRY_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
# Seconds until the next try to listen for notifications.
LISTEN_RETRY_WAIT = 2.0

logger = logging.getLogger(__name__)


class Manager(JobManager):
    """The manager of one worker."""

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self._notifications = 0

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Return a job if one is waiting, else `None`; also `None` while the database is unavailable."""
        # Workaround: upstream's worker clears its notifications when a fetch ends. A job that came while the fetch was
        # about to find nothing would wait for the next poll, seconds later. So a fetch that found nothing is made again
        # if a notification came meanwhile. None can come between the comparison and the return, since nothing is
        # awaited there.
        try:
            while True:
                before = self._notifications
                job = await super().fetch_job(queues=queues, worker_id=worker_id)
                if job is not None or self._notifications == before:
                    return job
        except ConnectorException as error:
            match error.__cause__:
                case psycopg.errors.ForeignKeyViolation():  # another worker took this one for dead and deleted its row
                    logger.warning("worker_was_taken_for_dead", extra={"worker": worker_id})
                    await PROCESS.restore_row(self)
                case psycopg.OperationalError() | psycopg.InterfaceError():
                    _warn("jobs_not_fetched", error)
                case _:  # the database is there: the process ends, and its supervisor starts a new one
                    raise
            return None

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Listen for notifications until cancelled."""
        # Workaround: upstream's listener ends with its connection, and nothing notices; the worker would only poll.

        async def note(*, channel: str, notification: Notification) -> None:
            self._notifications += 1
            await on_notification(channel=channel, notification=notification)

        try:
            while True:
                try:
                    await super().listen_for_jobs(on_notification=note, queues=queues)
                except ConnectorException as error:
                    _warn("not_listening", error)
                await asyncio.sleep(LISTEN_RETRY_WAIT)
        except asyncio.CancelledError:
            PROCESS.stop()  # a worker that ends stops listening first, then waits for its jobs
            raise

    async def finish_job_by_id_async(self, job_id: int, status: Status, delete_job: bool) -> None:
        """Record that a job has ended; tries again while the database is unavailable.

        A job that another worker deleted meanwhile is over already.
        """
        # A job that is cut off by this worker's end stays `doing`: without the worker's row it counts as lost, and
        # another worker wakes its row. Recorded as aborted, it would be missing.
        if status is Status.ABORTED and PROCESS.is_stopping:
            return
        for wait in (*FINISH_RETRY_WAITS, None):
            try:
                await super().finish_job_by_id_async(job_id=job_id, status=status, delete_job=delete_job)
            except ConnectorException as error:
                if isinstance(error.__cause__, psycopg.errors.RaiseException):
                    logger.info("job_was_taken_away", extra={"job": job_id})
                    return
                if wait is None:
                    _warn("job_not_finished", error)
                    PROCESS.unfinished.add(job_id)
                    return
                await asyncio.sleep(wait)
            else:
                return

    async def register_worker(self) -> int:
        """Return the worker id of this process. Its loops share one, so that workers are counted by process."""
        return await PROCESS.register(self, super().register_worker)

    async def unregister_worker(self, worker_id: int) -> None:
        try:
            await PROCESS.unregister(lambda: super(Manager, self).unregister_worker(worker_id=worker_id))
        except ConnectorException as error:
            _warn("worker_not_unregistered", error)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Send a heartbeat."""
        # `heartbeat` raises nothing of the database: an error would end upstream's side task, and this worker would
        # seem dead for the rest of its life.
        await PROCESS.heartbeat(self)

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Do nothing: `lost_jobs` deletes dead workers together with their jobs."""
        return []


def _warn(event: str, error: ConnectorException) -> None:
    cause = error.__cause__ or error
    logger.warning(event, extra={"error": type(cause).__name__})
