"""The pinger: pings due cron jobs, so that no external cron service is needed.

`manage.py up` runs it as a separate process; web servers and workers have no timer. It calls `jobs.ping`, as
`POST /cron/<job>/` does, and needs neither the web server nor a secret. Each slot has one run, however many pingers and
cron services ping it.

- A job with a schedule or a period is due at its first slot after its last run. After a pause (a suspended laptop, an
  unavailable database) it pings once, and the job's `catch_up` decides about earlier slots.
- The built-in job `alerts` is due every minute, unless it has a schedule or a period.
- Jobs of the demo are not pinged.
- A job without a workflow that is not built in reports work that runs elsewhere: only its owner pings it.

Times come from PostgreSQL's clock, and are read with each query of the jobs, so that the pinger notices a clock that
jumps.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from threading import Event

from django.db import Error, connection

from reliability.errors import BackstopError, Conflict, NotFound
from reliability.models.ids import is_demo
from reliability.models.rows import Columns

from . import jobs
from .models import Builtin, CronJob
from .schedules import times
from .schedules.times import Schedule

ADDRESS = "pinger"
# The longest time between two queries of the jobs: a new job is pinged at most this long after its slot.
QUERY_EVERY = timedelta(seconds=10)
# Seconds until the next ping of a job whose ping failed, and until the next query of an unavailable database.
RETRY_JOB, RETRY_DATABASE = 60.0, 2.0
# Seconds after a ping that was a repeat: the job is still due, and must not be pinged in a tight loop.
AFTER_REPEAT = 5.0
MINUTE = timedelta(minutes=1)

COLUMNS = Columns(CronJob, "j")
READ = f"""
SELECT clock_timestamp(),
    (SELECT max(slot) FROM scheduling_run WHERE job_id = j.id AND slot IS NOT NULL),
    (SELECT max(started_at) FROM scheduling_run WHERE job_id = j.id),
    {COLUMNS.sql}
FROM scheduling_cronjob j
WHERE j.enabled
    AND (j.builtin <> '' OR EXISTS (SELECT 1 FROM scheduling_cronjob_workflows c WHERE c.cronjob_id = j.id))
    AND (j.builtin <> '' OR j.schedule <> '' OR j.period_seconds IS NOT NULL)
ORDER BY j.slug
"""  # noqa: S608  # names of our own models

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """A job, the due time of its next ping, and the key of that run if it has no slot."""

    slug: str
    at: datetime | None
    key: str | None = None


class Pinger:
    """Pings due jobs until `stop`."""

    def __init__(self) -> None:
        self._stop = Event()
        # By job, the monotonic time before which it is not pinged again.
        self._paused_until: dict[str, float] = {}

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Ping until `stop`; waits for an unavailable database."""
        away = False
        while not self._stop.is_set():
            try:
                wait = self.ping_due().total_seconds()
                if away:
                    logger.warning("pinger_resumed")
                away = False
            except Error as error:
                if not away:
                    logger.warning("pinger_waits", extra={"error": type(error).__name__})
                away, wait = True, RETRY_DATABASE
                connection.close()
            self._stop.wait(wait)

    def ping_due(self) -> timedelta:
        """Ping each due job; return the time until the next one is due. Raises `django.db.Error`."""
        now, found = _read_jobs()
        coming = []
        for one in found:
            if one.at is None or self._paused_until.get(one.slug, 0.0) > time.monotonic():
                continue
            if one.at > now:
                coming.append(one.at - now)
            elif not self._stop.is_set():
                self._ping(one)
                coming.append(timedelta())  # its next slot is known after its run
        return min([*coming, QUERY_EVERY])

    def _ping(self, due: Due) -> None:
        """Ping a job. An error is logged, so that the other jobs are still pinged."""
        began = time.perf_counter()
        try:
            ran = jobs.ping(slug=due.slug, key=due.key, caller=jobs.Caller(ADDRESS, began))
            if ran.repeated:
                self._pause(due, AFTER_REPEAT)
        except (NotFound, Conflict):
            self._pause(due)  # deleted or disabled since the query
        except BackstopError as error:
            self._pause(due)
            logger.warning("cron_ping_failed", extra={"job": due.slug, "error": error.code})
        except Error as error:
            self._pause(due)
            connection.close()
            logger.warning("cron_ping_failed", extra={"job": due.slug, "error": type(error).__name__})
        except Exception:
            self._pause(due)
            logger.exception("cron_ping_failed", extra={"job": due.slug})

    def _pause(self, due: Due, seconds: float = RETRY_JOB) -> None:
        self._paused_until[due.slug] = time.monotonic() + seconds


def due_of(*, job: CronJob, last_slot: datetime | None, last_run: datetime | None, now: datetime) -> Due:
    """Return the due time of a job's next ping; a time in the past is due now."""
    schedule = job.expected
    if schedule.expression or schedule.period is not None:
        since = max(last_slot, job.active_since) if last_slot is not None else job.active_since
        return Due(job.slug, _after(schedule, since))
    if job.builtin != Builtin.ALERTS:
        return Due(job.slug, None)
    minute = now.replace(second=0, microsecond=0)
    is_done = last_run is not None and minute <= last_run
    return Due(job.slug, minute + MINUTE if is_done else minute, f"minute:{jobs.iso(minute)}")


def _read_jobs() -> tuple[datetime, list[Due]]:
    """Return the database's time, and the due time of each job to ping."""
    with connection.cursor() as cursor:
        cursor.execute(READ)
        rows = cursor.fetchall()
    return (rows[0][0] if rows else datetime.min), list(_dues(rows))  # noqa: DTZ901  # without rows, no time is compared


def _dues(rows: list[tuple[object, ...]]) -> Iterator[Due]:
    for now, last_slot, last_run, *values in rows:
        job = COLUMNS.instance(values)
        if is_demo(job.pk):
            continue
        try:
            yield due_of(job=job, last_slot=last_slot, last_run=last_run, now=now)  # type: ignore[arg-type]
        except BackstopError as error:
            logger.warning("cron_job_unreadable", extra={"job": job.slug, "error": error.code})


@lru_cache(maxsize=4096)
def _after(schedule: Schedule, since: datetime) -> datetime | None:
    """Return the first slot after `since`; cached, since every query of the jobs needs it."""
    if schedule.period is not None:
        return since + schedule.period
    return times.following(schedule=schedule, after=since)
