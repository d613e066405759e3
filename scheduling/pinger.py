"""The pinger: pings the cron jobs that are due, in an external cron's place.

`manage.py up` runs it as a process of its own; web servers and workers have no timer. It calls `jobs.ping`, as
`POST /cron/<job>/` does, and needs neither the web server nor a secret. A run is kept once for each slot, however many
pingers and cron services ask for it.

- A job with a schedule or a period is due at its first slot after its last run. After a pause (a suspended laptop, a
  database that was away) one ping is made, and the job's `catch_up` decides about the slots before it.
- The built-in job `alerts` is due every minute, unless it has a schedule or a period.
- Nothing of the demo is pinged.
- A job that neither is built in nor calls a workflow reports work that is done elsewhere: only its owner may ping it.

Moments are those of PostgreSQL's clock; they are read again with each look at the jobs, so that a clock that jumps is
noticed.
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
# How often the jobs are looked at, at the least: a new one is pinged no later than this after its slot.
LOOK_EVERY = timedelta(seconds=10)
# How soon a job is pinged again whose ping failed, and how soon a database that is away is asked again, in seconds.
RETRY_JOB, RETRY_DATABASE = 60.0, 2.0
# A ping that was a repeat left the job as due as before: it is not made again at once.
AFTER_REPEAT = 5.0
MINUTE = timedelta(minutes=1)

COLUMNS = Columns(CronJob, "j")
LOOK = f"""
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
    """A job, when its next ping is due, and the key of that run where no slot names it."""

    slug: str
    at: datetime | None
    key: str | None = None


class Pinger:
    """Pings what is due until it is told to stop."""

    def __init__(self) -> None:
        self._stop = Event()
        # Until when, by the monotonic clock, a job whose ping failed is left alone.
        self._resting: dict[str, float] = {}

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Ping until `stop`; a database that is away is waited for."""
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
        """Ping each job that is due; return how long there is nothing to do. Raises `django.db.Error`."""
        now, found = _look()
        coming = []
        for one in found:
            if one.at is None or self._resting.get(one.slug, 0.0) > time.monotonic():
                continue
            if one.at > now:
                coming.append(one.at - now)
            elif not self._stop.is_set():
                self._ping(one)
                coming.append(timedelta())  # its next slot is known once its run is
        return min([*coming, LOOK_EVERY])

    def _ping(self, due: Due) -> None:
        """Ping a job. If that fails, the others have their turn all the same."""
        began = time.perf_counter()
        try:
            ran = jobs.ping(slug=due.slug, key=due.key, caller=jobs.Caller(ADDRESS, began))
            if ran.repeated:
                self._rest(due, AFTER_REPEAT)
        except (NotFound, Conflict):
            self._rest(due)  # deleted or disabled since it was looked at
        except BackstopError as error:
            self._rest(due)
            logger.warning("cron_ping_failed", extra={"job": due.slug, "error": error.code})
        except Error as error:
            self._rest(due)
            connection.close()
            logger.warning("cron_ping_failed", extra={"job": due.slug, "error": type(error).__name__})
        except Exception:
            self._rest(due)
            logger.exception("cron_ping_failed", extra={"job": due.slug})

    def _rest(self, due: Due, seconds: float = RETRY_JOB) -> None:
        self._resting[due.slug] = time.monotonic() + seconds


def due_of(*, job: CronJob, last_slot: datetime | None, last_run: datetime | None, now: datetime) -> Due:
    """Return when a job's next ping is due; in the past, if it is due now."""
    schedule = job.expected
    if schedule.expression or schedule.period is not None:
        since = max(last_slot, job.active_since) if last_slot is not None else job.active_since
        return Due(job.slug, _after(schedule, since))
    if job.builtin != Builtin.ALERTS:
        return Due(job.slug, None)
    minute = now.replace(second=0, microsecond=0)
    is_done = last_run is not None and minute <= last_run
    return Due(job.slug, minute + MINUTE if is_done else minute, f"minute:{jobs.iso(minute)}")


def _look() -> tuple[datetime, list[Due]]:
    """Return the database's time, and when each job that is to be pinged is due."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK)
        rows = cursor.fetchall()
    return (rows[0][0] if rows else datetime.min), list(_dues(rows))  # noqa: DTZ901  # of no row, no moment is asked


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
    """Return the first slot after `since`; worked out once, since it is asked for with every look."""
    if schedule.period is not None:
        return since + schedule.period
    return times.following(schedule=schedule, after=since)
