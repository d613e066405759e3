"""What Procrastinate's worker does beyond its own: it hears of each job twice and writes down what it uses."""

import asyncio
import logging
import threading
from collections.abc import Iterable

from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Notification
from procrastinate.manager import JobManager, NotificationCallback

from reliability.pipeline import usage

# How long after a notification it is told once more, in seconds.
ECHO = 0.025

logger = logging.getLogger(__name__)

FIGURE = """
WITH gone AS (DELETE FROM reliability_workerfigure WHERE seen_at < now() - interval '1 hour')
INSERT INTO reliability_workerfigure (worker, memory_bytes, cpu_seconds, seen_at)
VALUES (%(worker)s, %(memory_bytes)s, %(cpu_seconds)s, now())
ON CONFLICT (worker) DO UPDATE SET
    memory_bytes = excluded.memory_bytes, cpu_seconds = excluded.cpu_seconds, seen_at = excluded.seen_at
"""

_stopping = threading.Event()


def listen_well() -> None:
    """Have Procrastinate's worker told of each new job twice, the second time after `ECHO`.

    A worker forgets its notifications when a fetch ends; one that comes while a fetch is about to find nothing
    would leave its job to the next poll, seconds later.
    """
    plain = JobManager.listen_for_jobs

    async def listen_for_jobs(
        self: JobManager, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        _stopping.clear()
        try:
            await plain(self, on_notification=echoing(on_notification), queues=queues)
        except asyncio.CancelledError:
            _stopping.set()  # a worker that ends stops listening first, then waits for its jobs
            raise

    JobManager.listen_for_jobs = listen_for_jobs  # type: ignore[method-assign]  # workers make their own managers


def tell_figures() -> None:
    """Have Procrastinate's worker write down, with each sign of life that it gives, what its process uses."""
    plain = JobManager.update_heartbeat

    async def update_heartbeat(self: JobManager, worker_id: int) -> None:
        await plain(self, worker_id)
        used = usage.own()
        values = {"memory_bytes": used.memory_bytes, "cpu_seconds": used.cpu_seconds}
        try:
            await self.connector.execute_query_async(query=FIGURE, worker=usage.NAME, **values)
        except ConnectorException as error:
            # A figure is no reason to seem dead.
            logger.warning("figures_not_kept", extra={"error": type(error).__name__})

    JobManager.update_heartbeat = update_heartbeat  # type: ignore[method-assign]  # workers make their own managers


def echoing(tell: NotificationCallback) -> NotificationCallback:
    """Return a callback that calls `tell` at once, and again after `ECHO`."""
    echoes: set[asyncio.Task[None]] = set()

    async def tell_again(channel: str, notification: Notification) -> None:
        await asyncio.sleep(ECHO)
        await tell(channel=channel, notification=notification)

    async def tell_twice(*, channel: str, notification: Notification) -> None:
        await tell(channel=channel, notification=notification)
        echo = asyncio.create_task(tell_again(channel, notification))
        echoes.add(echo)
        echo.add_done_callback(echoes.discard)

    return tell_twice


def is_stopping() -> bool:
    """Whether the worker of this process is about to end: then a routine does well to come to an end too."""
    return _stopping.is_set()
