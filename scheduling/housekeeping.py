"""The built-in cron jobs `cleanup` and `alerts`, which a worker runs after a ping; retention of runs and pings."""

import logging
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from reliability import queue
from reliability.alerts import check as alert_check
from reliability.core import clock
from reliability.errors import BackstopError
from reliability.retention import runner

from . import health
from .models import Builtin, Run, RunResult

LOST = "The run did not end: its worker died."
ERROR_LIMIT = 500

PINGS = runner.delete_rule(
    name="cron_pings",
    what="pings of cron jobs deleted",
    age=runner.days("CRON_RETENTION_DAYS"),
    table="scheduling_ping",
    where="t.at < %(cutoff)s",
    order="at",
)
# The last run of a job stays, to find missed slots; and the last one that called workflows, to find overlaps.
RUNS = runner.delete_rule(
    name="cron_runs",
    what="runs of cron jobs deleted",
    age=runner.days("CRON_RETENTION_DAYS"),
    table="scheduling_run",
    where="t.id < %(id)s AND t.started_at < %(cutoff)s"
    " AND NOT EXISTS (SELECT 1 FROM scheduling_ping p WHERE p.run_id = t.id)"
    " AND EXISTS (SELECT 1 FROM scheduling_run later WHERE later.job_id = t.job_id"
    " AND later.started_at > t.started_at AND later.result <> 'skipped')",
)

logger = logging.getLogger(__name__)


def register() -> None:
    """Register the built-in jobs with the queue, and the retention rules."""
    for rule in (PINGS, RUNS):
        runner.register(rule=rule)
    for name, work in WORK.items():
        queue.register_routine(name=name, work=_recorded(name, work))


class Unfinished(BackstopError):
    """The work is not finished."""

    code = "unfinished"


def _cleanup(now: datetime) -> None:
    """Clean up until done, or until the worker stops. Raises `Unfinished` if a rule failed or the worker stops."""
    pace = runner.Pace(stopping=queue.is_stopping)
    failed = [f"{done.name}: {done.error}" for done in runner.cleanup(now=now, pace=pace) if done.error]
    if failed:
        raise Unfinished(" ".join(failed))
    if pace.is_stopping():
        raise Unfinished("The worker stopped. The next run continues.")


def _alerts(now: datetime) -> None:
    """Check jobs and alerts. Notices have wake-ups of their own, so that a hanging mail server does not block this."""
    health.watch(now=now)
    alert_check.check(now=now)


WORK: dict[str, Callable[[datetime], None]] = {Builtin.CLEANUP: _cleanup, Builtin.ALERTS: _alerts}


def _recorded(name: str, work: Callable[[datetime], None]) -> Callable[[UUID], None]:
    """Return the work as a routine that saves its result to its run."""

    def perform(run_id: UUID) -> None:
        error = ""
        try:
            work(clock.now())
        except Exception as problem:  # any error is saved with the run
            logger.exception("routine_failed", extra={"routine": name, "run": str(run_id)})
            error = f"{type(problem).__name__}: {problem}"[:ERROR_LIMIT]
        finish(run_id=run_id, error=error, now=clock.now())

    return perform


def finish(*, run_id: UUID, error: str, now: datetime) -> None:
    """Save the result of a routine. Earlier runs that have not ended have lost their worker: mark them as failed."""
    run = Run.objects.filter(pk=run_id).first()
    if run is None:
        return  # the job was deleted meanwhile
    result = RunResult.FAILED if error else RunResult.ACCEPTED
    Run.objects.filter(pk=run_id).update(finished_at=now, error=error, result=result)
    before = Run.objects.filter(job_id=run.job_id, started_at__lt=run.started_at, finished_at__isnull=True)
    before.filter(result=RunResult.ACCEPTED).update(finished_at=now, error=LOST, result=RunResult.FAILED)
