"""The wake-ups: the only module that knows Procrastinate.

A wake-up says "look at this lane". It carries nothing that the delivery rows do not say better, so that one
too many does no harm. That none is missing is kept by three rules, whose SQL half is `backstop_wake` and
`backstop_wake_at` (migration 0002; bulk operations have theirs in 0012):

1. A wake-up is written in the transaction that made it necessary, under a shared advisory lock of its lane.
   Where one waits already (a queueing lock per lane), that one serves.
2. Whoever acts on a wake-up passes `barrier` first: it waits for the transactions that relied on it.
3. While a dispatcher promises to look again by itself (`Lane.attended_until`), arrivals need no wake-up. The
   promise ends under the exclusive advisory lock, and a wake-up at its end stands by if the dispatcher dies.

The worker polls for due jobs at an interval; so that "later" is exact, such a job is made due `LEAD` earlier
and sleeps the rest.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import JobDeferrer, Notification
from procrastinate.manager import JobManager, NotificationCallback

from reliability.pipeline import usage

DISPATCH_QUEUE = "dispatch"
OPERATION_QUEUE = "operation"
N8N_QUEUE = "n8n"
LEAD = timedelta(seconds=2)
# The class of the advisory locks of lanes; the lane's id is their object.
LANE_LOCK = 1_112_757_840
# How long after a notification it is told once more, in seconds.
ECHO = 0.025

# In a worker the app has a connection of its own, on which a job would be seen before the rows that it is about.
_in_transaction = JobManager(DjangoConnector())

logger = logging.getLogger(__name__)


def wake(*, lane_ids: Iterable[int]) -> None:
    """Have these lanes looked at as soon as the current transaction commits."""
    _call("SELECT backstop_wake(lane) FROM unnest(%s::int[]) AS lane", [sorted(set(lane_ids))])


def wake_at(*, lane_id: int, at: datetime) -> None:
    """Have the lane looked at at `at`, or earlier if that is planned already."""
    _call("SELECT backstop_wake_at(%s, %s)", [lane_id, at])


def wake_waiting(*, workflow_id: Any = None) -> None:
    """Wake every lane (of a workflow) that has a delivery not yet finished."""
    _call(
        "SELECT backstop_wake(waiting.id) FROM (SELECT lane.id FROM reliability_lane lane"
        " WHERE (%(workflow)s::uuid IS NULL OR lane.workflow_id = %(workflow)s::uuid)"
        " AND EXISTS (SELECT 1 FROM reliability_delivery"
        " WHERE lane_id = lane.id AND state IN ('pending', 'sending', 'awaiting_callback'))"
        " ORDER BY lane.id) AS waiting",
        {"workflow": workflow_id},
    )


def wake_operations() -> None:
    """Wake every bulk operation that has something to do."""
    _call(
        "SELECT backstop_operate(id, clock_timestamp()) FROM reliability_operation"
        " WHERE state = 'running' OR (state IN ('cancelled', 'stopped') AND next_at IS NOT NULL)",
        [],
    )


def barrier(*, lane_id: int) -> None:
    """Wait until every transaction that relied on a wake-up of this lane has ended."""
    key = [LANE_LOCK, lane_id]
    _call("SELECT pg_advisory_lock(%s, %s), pg_advisory_unlock(%s, %s)", [*key, *key])


def barrier_in_transaction(*, lane_id: int) -> None:
    """As `barrier`, and keep new ones from relying on anything until the current transaction ends."""
    _call("SELECT pg_advisory_xact_lock(%s, %s)", [LANE_LOCK, lane_id])


def work_on(*, operation_id: UUID, at: datetime) -> None:
    """Have a bulk operation's next step done at `at`, and a look at it a little later, if a worker dies with it."""
    _call("SELECT backstop_operate(%s, %s)", [operation_id, at])


def stand_by(*, operation_id: UUID, at: datetime) -> None:
    """Have a bulk operation looked at a little after `at`, when a step is due for which others will come."""
    _call("SELECT backstop_operate_stand_by(%s, %s)", [operation_id, at])


def look_up(*, report_id: UUID, at: datetime | None = None) -> None:
    """Have a failure's execution looked up in n8n, at `at` or at once."""
    _defer(look, f"look-up:{report_id}", at, report_id=str(report_id))


def retry(*, retry_id: UUID, at: datetime | None = None, stands_by: bool = False) -> None:
    """Have a retry by n8n asked for, or looked after, at `at` or at once.

    One that stands by, for the case that a worker dies, keeps no earlier one from being planned.
    """
    key = f"retry-stand-by:{retry_id}" if stands_by else f"retry:{retry_id}"
    _defer(retry_execution, key, at, retry_id=str(retry_id))


def tell(*, notice_id: UUID, at: datetime | None = None, stands_by: bool = False, is_overdue: bool = False) -> None:
    """Have a notice of alerts sent, or looked after, at `at` or at once; `stands_by` as with `retry`.

    For one that is overdue, nothing that is planned for it already is relied on.
    """
    kind = "tell-stand-by" if stands_by else "tell-overdue" if is_overdue else "tell"
    key = f"{kind}:{notice_id}"
    _defer(tell_people, key, at, notice_id=str(notice_id))


def _defer(task: Any, key: str, at: datetime | None, **arguments: str) -> None:
    """Plan a job in the current transaction, unless one of that key waits already."""
    when = at - LEAD if at is not None else None
    moment = at.timestamp() if at is not None else None
    job = task.configure(queueing_lock=key, schedule_at=when).job
    with suppress(AlreadyEnqueued), transaction.atomic():
        JobDeferrer(job=job, job_manager=_in_transaction).defer(**arguments, at=moment)


def forget(*, lane_ids: Iterable[int]) -> None:
    """Take back the wake-ups of lanes that are to be no more."""
    keys = [f"{kind}:{lane_id}" for lane_id in lane_ids for kind in ("lane", "lane-later")]
    _call("DELETE FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = ANY(%s)", [keys])


FIGURE = """
WITH gone AS (DELETE FROM reliability_workerfigure WHERE seen_at < now() - interval '1 hour')
INSERT INTO reliability_workerfigure (worker, memory_bytes, cpu_seconds, seen_at)
VALUES (%(worker)s, %(memory_bytes)s, %(cpu_seconds)s, now())
ON CONFLICT (worker) DO UPDATE SET
    memory_bytes = excluded.memory_bytes, cpu_seconds = excluded.cpu_seconds, seen_at = excluded.seen_at
"""


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
class Condition:
    """How the engine stands: jobs that wait and are due, those whose worker is gone, and those that failed."""

    workers: int
    due: int
    stalled: int
    failed: int


def condition() -> Condition:
    """Look at the engine's own tables. Raises a `DatabaseError` where they are not there."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FILTER (WHERE j.status = 'todo' AND coalesce(j.scheduled_at, now()) <= now()),"
            " count(*) FILTER (WHERE j.status = 'doing' AND (w.id IS NULL"
            " OR w.last_heartbeat < now() - interval '60 seconds')), count(*) FILTER (WHERE j.status = 'failed')"
            " FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id"
        )
        due, stalled, failed = cursor.fetchone()
    return Condition(workers_alive(), due, stalled, failed)


Routine = Callable[[UUID], None]
_routines: dict[str, Routine] = {}


def on_routine(*, name: str, work: Routine) -> None:
    """Have `work` done, with the id of the run that asked for it, when a job `routine` of that name comes."""
    _routines[name] = work


def _call(statement: str, parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


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


def is_stopping() -> bool:
    """Whether the worker of this process is about to end: then a routine does well to come to an end too."""
    return _stopping.is_set()


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
