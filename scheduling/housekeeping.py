"""The built-in jobs: what a worker does when a ping of `cleanup` or `alerts` asked for it, and what they clean up."""

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

LOST = "It never ended: its worker was lost."
ERROR_LIMIT = 500

PINGS = runner.delete_rule(
    name="cron_pings",
    what="pings of cron jobs deleted",
    age=runner.days("CRON_RETENTION_DAYS"),
    table="scheduling_ping",
    where="t.at < %(cutoff)s",
    order="at",
)
# A job's last run tells what was missed since, and the last that called workflows what may overlap: they stay.
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
    """Make the built-in jobs known to the engine, and their rules to retention."""
    for rule in (PINGS, RUNS):
        runner.register(rule=rule)
    for name, work in WORK.items():
        queue.register_routine(name=name, work=_recorded(name, work))


class Unfinished(BackstopError):
    """Not all of it was done."""

    code = "unfinished"


def _cleanup(now: datetime) -> None:
    """Clean up until done, or until its worker is about to end. Raises `Unfinished` where a rule failed."""
    pace = runner.Pace(stopping=queue.is_stopping)
    failed = [f"{done.name}: {done.error}" for done in runner.cleanup(now=now, pace=pace) if done.error]
    if failed:
        raise Unfinished(" ".join(failed))
    if pace.is_stopping():
        raise Unfinished("Its worker ended: the rest is for the next time.")


def _alerts(now: datetime) -> None:
    """Notices are sent by wake-ups of their own: a mail server that hangs holds no housekeeping up."""
    health.watch(now=now)
    alert_check.check(now=now)


WORK: dict[str, Callable[[datetime], None]] = {Builtin.CLEANUP: _cleanup, Builtin.ALERTS: _alerts}


def _recorded(name: str, work: Callable[[datetime], None]) -> Callable[[UUID], None]:
    """Return the work as a routine, whose end, good or bad, is written to its run."""

    def perform(run_id: UUID) -> None:
        error = ""
        try:
            work(clock.now())
        except Exception as problem:  # whatever it is, it belongs on the run's record
            logger.exception("routine_failed", extra={"routine": name, "run": str(run_id)})
            error = f"{type(problem).__name__}: {problem}"[:ERROR_LIMIT]
        finish(run_id=run_id, error=error, now=clock.now())

    return perform


def finish(*, run_id: UUID, error: str, now: datetime) -> None:
    """Write down how a routine ended; runs before it that never did have lost their worker."""
    run = Run.objects.filter(pk=run_id).first()
    if run is None:
        return  # its job was deleted meanwhile
    result = RunResult.FAILED if error else RunResult.ACCEPTED
    Run.objects.filter(pk=run_id).update(finished_at=now, error=error, result=result)
    before = Run.objects.filter(job_id=run.job_id, started_at__lt=run.started_at, finished_at__isnull=True)
    before.filter(result=RunResult.ACCEPTED).update(finished_at=now, error=LOST, result=RunResult.FAILED)
