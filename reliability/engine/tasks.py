"""The tasks of the worker, each of which looks at the rows that say what is to be done."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection
from procrastinate.contrib.django import app

from reliability.engine.wakeups import wake_operations, wake_waiting

DISPATCH_QUEUE = "dispatch"
OPERATION_QUEUE = "operation"
N8N_QUEUE = "n8n"
LEAD = timedelta(seconds=2)

Routine = Callable[[UUID], None]
_routines: dict[str, Routine] = {}


def on_routine(*, name: str, work: Routine) -> None:
    """Have `work` done, with the id of the run that asked for it, when a job `routine` of that name comes."""
    _routines[name] = work


_started = False
_routine_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="routine")
_n8n_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="n8n")


async def _wake_what_waited() -> None:
    """With a process's first wake-up, look everywhere: its predecessor may have died with others in its hands."""
    global _started  # noqa: PLW0603  # once per process is what is meant
    if not _started:
        _started = True
        await sync_to_async(wake_waiting)()
        await sync_to_async(wake_operations)()


async def _wait(at: float | None) -> None:
    if at is not None:
        await asyncio.sleep(min(max(0.0, at - time.time()), LEAD.total_seconds()))


@app.task(name="dispatch", queue=DISPATCH_QUEUE)
async def dispatch(lane_id: int, at: float | None = None) -> None:
    """Send what a lane has due; with `at` (seconds since 1970), wait for that moment first."""
    from reliability.pipeline.dispatcher import dispatcher

    await _wake_what_waited()
    await _wait(at)
    await asyncio.wrap_future(dispatcher().attend(lane_id=lane_id))


@app.task(name="operate", queue=OPERATION_QUEUE)
async def operate(operation_id: str, at: float | None = None) -> None:
    """Do the next step of a bulk operation, which plans the one after."""
    await _wake_what_waited()
    await _wait(at)
    await sync_to_async(_operate)(UUID(operation_id))


def _operate(operation_id: UUID) -> None:
    from reliability.pipeline import bulk, clock

    bulk.step(operation_id=operation_id, now=clock.now())


@app.task(name="routine", queue=OPERATION_QUEUE)
async def routine(name: str, run_id: str) -> None:
    """Do a piece of housekeeping that was registered by `on_routine`, in a thread of its own: it may take long."""
    await _in_thread(lambda: _routines[name](UUID(run_id)), _routine_threads)


@app.task(name="look_up", queue=N8N_QUEUE)
async def look(report_id: str, at: float | None = None) -> None:
    """Ask n8n which delivery a failed execution began with."""
    from reliability.pipeline import lookup

    await _wait(at)
    await _in_n8n_thread(lambda: lookup.look(report_id=UUID(report_id)))


@app.task(name="retry_execution", queue=N8N_QUEUE)
async def retry_execution(retry_id: str, at: float | None = None) -> None:
    """Ask n8n to retry an execution, or how a retry went."""
    from reliability.pipeline import retry as retries

    await _wait(at)
    await _in_n8n_thread(lambda: retries.work(retry_id=UUID(retry_id)))


async def _in_n8n_thread(work: Callable[[], object]) -> None:
    """Do what waits for n8n, or for a mail server, in a thread of its own kind: nothing else waits behind it."""
    await _in_thread(work, _n8n_threads)


async def _in_thread(work: Callable[[], object], threads: ThreadPoolExecutor) -> None:

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    await sync_to_async(run, thread_sensitive=False, executor=threads)()


@app.task(name="tell", queue=OPERATION_QUEUE)
async def tell_people(notice_id: str, at: float | None = None) -> None:
    """Send a notice of alerts. A mail server may hang as n8n may, so its thread is of the same kind."""
    from reliability.pipeline import alert_notices

    await _wait(at)
    await _in_n8n_thread(lambda: alert_notices.send(notice_id=UUID(notice_id)))
