"""The worker's tasks. Each checks the rows that say what is to be done."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from procrastinate.contrib.django import app

from . import threads
from .database_time import DATABASE_TIME
from .handlers import handler

DISPATCH_QUEUE = "dispatch"
OPERATION_QUEUE = "operation"
N8N_QUEUE = "n8n"
# The names of the tasks. They are stored in jobs, so they stay. NOTICE_CHANNEL is no task, but a handler: a notice's
# channel is read first, to choose its threads.
DISPATCH, OPERATE, LOOK_UP, RETRY_EXECUTION = "dispatch", "operate", "look_up", "retry_execution"
NOTIFY, NOTICE_CHANNEL = "tell", "notice_channel"
# How much earlier than its moment a job is made due: the poll interval of the dispatch loop, so that the job has been
# fetched by its moment.
LEAD = timedelta(seconds=2)
# Jobs of one routine that a process accepts at once: one that runs, and one that waits.
ROUTINE_JOBS = 2

Routine = Callable[[UUID], None]
_routines: dict[str, Routine] = {}
_routine_jobs: Counter[str] = Counter()

logger = logging.getLogger(__name__)


def register_routine(*, name: str, work: Routine) -> None:
    """Register `work`, called with the id of the run, for jobs of the task `routine` with that name."""
    _routines[name] = work


async def _wait_until(at: float | None) -> None:
    """Wait until `at` (seconds since 1970) by the database's clock, at most `LEAD`."""
    # The limit keeps a wrong clock from holding the job for longer than it could be early.
    if at is not None:
        await asyncio.sleep(min(max(0.0, at - DATABASE_TIME.now()), LEAD.total_seconds()))


@app.task(name=DISPATCH, queue=DISPATCH_QUEUE)
async def dispatch(lane_id: int, at: float | None = None) -> None:
    """Send what is due in a lane; with `at` (seconds since 1970), wait for that moment first."""
    await _wait_until(at)
    await asyncio.wrap_future(handler(task=DISPATCH)(lane_id=lane_id))


@app.task(name=OPERATE, queue=OPERATION_QUEUE)
async def operate(operation_id: str, at: float | None = None) -> None:
    """Run the next step of a bulk operation, which plans the one after."""
    await _wait_until(at)
    await threads.operations().run(lambda: handler(task=OPERATE)(operation_id=UUID(operation_id)))


@app.task(name="routine", queue=OPERATION_QUEUE)
async def routine(name: str, run_id: str) -> None:
    """Run a routine that was registered with `register_routine`, in a thread of its own, since it may take long."""
    # While one runs and another waits, further ones end at once: the pings that come while one hangs would fill the
    # loop with jobs. Their runs are recorded as lost when a later one ends.
    if _routine_jobs[name] >= ROUTINE_JOBS:
        logger.warning("routine_busy", extra={"routine": name, "run": run_id})
        return
    _routine_jobs[name] += 1
    try:
        await threads.routine(name).run(lambda: _routines[name](UUID(run_id)))
    finally:
        _routine_jobs[name] -= 1


@app.task(name=LOOK_UP, queue=N8N_QUEUE)
async def look_up(report_id: str, at: float | None = None) -> None:
    """Ask n8n which delivery started a failed execution."""
    await _wait_until(at)
    await threads.n8n().run(lambda: handler(task=LOOK_UP)(report_id=UUID(report_id)))


@app.task(name=RETRY_EXECUTION, queue=N8N_QUEUE)
async def retry_execution(retry_id: str, at: float | None = None) -> None:
    """Ask n8n to retry an execution, or how a retry went."""
    await _wait_until(at)
    await threads.n8n().run(lambda: handler(task=RETRY_EXECUTION)(retry_id=UUID(retry_id)))


@app.task(name=NOTIFY, queue=OPERATION_QUEUE)
async def send_notice(notice_id: str, at: float | None = None) -> None:
    """Send a notice of alerts, in a thread of its channel."""
    await _wait_until(at)
    notice = UUID(notice_id)
    channel = await threads.notice_channels().run(lambda: handler(task=NOTICE_CHANNEL)(notice_id=notice))
    if channel is not None:
        await threads.notices(channel).run(lambda: handler(task=NOTIFY)(notice_id=notice))
