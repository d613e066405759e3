"""The worker process as a whole: its row in `procrastinate_workers`, its heartbeats, and the sweep at its start.

All loops of a process share one row, so that workers are counted by process, and one heartbeat in ten seconds.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, LiteralString

from procrastinate.connector import BaseAsyncConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager

from reliability.core import process_usage

from . import lost_jobs
from .database_time import DATABASE_TIME
from .sweep import sweep

# Seconds for which a heartbeat of one loop serves the other loops too.
HEARTBEAT_SHARED_SECONDS = 5.0
SWEEP_RETRY_FIRST, SWEEP_RETRY_LAST = 1.0, 30.0

# An upsert: the row may be gone, since another worker deletes it after a minute without heartbeats.
HEARTBEAT: LiteralString = """
INSERT INTO procrastinate_workers (id, last_heartbeat) OVERRIDING SYSTEM VALUE VALUES (%(worker)s, now())
ON CONFLICT (id) DO UPDATE SET last_heartbeat = excluded.last_heartbeat
RETURNING extract(epoch FROM clock_timestamp())::float8 AS at
"""
RECORD_USAGE: LiteralString = """
WITH gone AS (DELETE FROM reliability_workerfigure WHERE seen_at < now() - interval '1 hour')
INSERT INTO reliability_workerfigure (worker, memory_bytes, cpu_seconds, seen_at)
VALUES (%(worker)s, %(memory_bytes)s, %(cpu_seconds)s, now())
ON CONFLICT (worker) DO UPDATE SET
    memory_bytes = excluded.memory_bytes, cpu_seconds = excluded.cpu_seconds, seen_at = excluded.seen_at
"""

logger = logging.getLogger(__name__)


class WorkerProcess:
    """The worker of this process. `unfinished` are ids of jobs whose end could not be recorded."""

    def __init__(self) -> None:
        self.unfinished: set[int] = set()
        self._stopping = threading.Event()
        self._worker_id: int | None = None
        self._loops = 0
        self._lock: asyncio.Lock | None = None
        self._last_heartbeat = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovery: asyncio.Task[None] | None = None

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    async def register(self, manager: JobManager, register: Callable[[], Awaitable[int]]) -> int:
        """Return the process's worker id. The first loop creates its row and starts the sweep."""
        if not self._loops:
            self._lock = asyncio.Lock()
        self._loops += 1
        assert self._lock is not None  # noqa: S101  # made above
        # The loops start at once. Without the lock each would find no id yet and create a row of its own.
        async with self._lock:
            try:
                if self._worker_id is None:
                    self._worker_id = await register()
                    self._stopping.clear()
                    self._last_heartbeat = 0.0
                    await self.heartbeat(manager)
                    self._start_task(self._sweep(_connector(manager)))
            except ConnectorException:
                self._loops -= 1
                raise
        return self._worker_id

    async def unregister(self, unregister: Callable[[], Awaitable[None]]) -> None:
        """Delete the row when the last loop ends."""
        self._loops -= 1
        if self._loops:
            return
        self._worker_id = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await unregister()

    async def restore_row(self, manager: JobManager) -> None:
        """Create the process's row again, which another worker has deleted."""
        self._last_heartbeat = 0.0
        await self.heartbeat(manager)

    async def heartbeat(self, manager: JobManager) -> None:
        """Send a heartbeat, read the database's time, and look for lost jobs. Raises no error of the database."""
        asked = time.monotonic()
        if self._worker_id is None or asked - self._last_heartbeat < HEARTBEAT_SHARED_SECONDS:
            return
        connector = _connector(manager)
        self._last_heartbeat = asked  # before the wait below, in which another loop may come by
        try:
            row = await connector.execute_query_one_async(HEARTBEAT, worker=self._worker_id)
            DATABASE_TIME.read(at=row["at"], asked=asked, answered=time.monotonic())
            used = process_usage.own()
            values = {"memory_bytes": used.memory_bytes, "cpu_seconds": used.cpu_seconds}
            await connector.execute_query_async(RECORD_USAGE, worker=process_usage.PROCESS_NAME, **values)
        except ConnectorException as error:
            self._last_heartbeat = 0.0
            _warn("no_sign_of_life", error)
            return
        if self._recovery is None or self._recovery.done():
            self._recovery = self._start_task(self._recover_lost_jobs(connector))

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop keeps weak references only: an unreferenced task may be collected
        task.add_done_callback(self._tasks.discard)
        return task

    async def _sweep(self, connector: BaseAsyncConnector) -> None:
        """Repeat the sweep until it has succeeded for every lane and operation."""
        wait = SWEEP_RETRY_FIRST
        while not self.is_stopping:
            try:
                left = await sweep(connector)
            except ConnectorException as error:
                _warn("sweep_failed", error)
            else:
                if not left:
                    return
                logger.warning("sweep_left_locked", extra={"locked": left})
            await asyncio.sleep(wait)
            wait = min(2 * wait, SWEEP_RETRY_LAST)

    async def _recover_lost_jobs(self, connector: BaseAsyncConnector) -> None:
        try:
            gone = await lost_jobs.recover(connector, unfinished=self.unfinished)
        except ConnectorException as error:
            _warn("lost_jobs_not_taken_away", error)
            return
        self.unfinished -= set(gone)
        if gone:
            logger.warning("lost_jobs_taken_away", extra={"jobs": len(gone)})


def _connector(manager: JobManager) -> BaseAsyncConnector:
    connector = manager.connector
    assert isinstance(connector, BaseAsyncConnector)  # noqa: S101  # a worker's connector is
    return connector


def _warn(event: str, error: ConnectorException) -> None:
    logger.warning(event, extra={"error": type(error.__cause__ or error).__name__})


PROCESS = WorkerProcess()
