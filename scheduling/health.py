"""The status of cron jobs: for the console, the API, the status endpoint, and the job `alerts`."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery

from reliability.models import Delivery
from reliability.stats.overview import LateJob

from .models import CronJob, Run, RunResult
from .schedules import times
from .schedules.times import WORSE, JobHistory, JobStatus, State

LAST = ("result", "started_at", "finished_at")
WORRYING = (State.LATE, State.MISSING, State.OVERLAPPING, State.FAILING)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """A job, its status, and its last run."""

    job: CronJob
    status: JobStatus
    last_run: Run | None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a job's state."""

    job: str
    tenant: str
    before: str
    state: State
    lateness_seconds: int

    @property
    def is_worse(self) -> bool:
        return self.state in WORRYING and (not self.before or WORSE.index(self.state) > WORSE.index(State(self.before)))


def of(*, jobs: "Iterable[CronJob] | QuerySet[CronJob]", now: datetime) -> list[Health]:
    """Return the status of jobs at `now`, in their order; three queries for any number of jobs."""
    wanted = list(jobs)
    last = _last_runs([job.pk for job in wanted])
    waiting = _waiting([run for run, _ in last.values() if run is not None])
    return [_health(job, *last.get(job.pk, (None, None)), waiting, now) for job in wanted]


def watch(*, now: datetime) -> list[Change]:
    """Save and log each changed state of a job; return the changes."""
    changes = []
    for found in of(jobs=CronJob.objects.all(), now=now):
        job, state = found.job, found.status.state
        if job.health != state and _save(job, state, now):
            changes.append(_changed(found, job.health))
    for change in changes:
        _log(change)
    return changes


def summary(*, now: datetime, tenant: str | None = None) -> dict[str, Any]:
    """Return, as JSON values, the number of jobs in each state, and the jobs that need attention.

    With a tenant, only its own jobs; built-in jobs have no tenant.
    """
    rows = CronJob.objects.filter(tenant=tenant, builtin="") if tenant else CronJob.objects.all()
    found = of(jobs=rows, now=now)
    counts = Counter(one.status.state for one in found)
    return {
        "by_state": {str(state): counts[state] for state in State},
        "attention": [_line(one) for one in found if one.status.state in WORRYING],
    }


def attention(now: datetime, tenant: str | None = None) -> list[LateJob]:
    """Return the enabled jobs that are late, missing or failing, in one query: the overview has many others."""
    rows = CronJob.objects.filter(enabled=True)
    rows = rows.filter(tenant=tenant, builtin="") if tenant else rows
    own = Run.objects.filter(job=OuterRef("pk"))
    newest = {name: Subquery(own.order_by("-started_at").values(name)[:1]) for name in LAST}
    slot = Subquery(own.filter(slot__isnull=False).order_by("-slot").values("slot")[:1])
    found = []
    for job in rows.annotate(**{f"last_{name}": one for name, one in newest.items()}, last_slot=slot):
        seen = {name: getattr(job, f"last_{name}") for name in (*LAST, "slot")}
        last = Run(**{name: seen[name] for name in LAST}) if seen["result"] else None
        status = _health(job, last, seen["slot"], set(), now).status
        if status.state in WORRYING and status.state is not State.OVERLAPPING:
            found.append(LateJob(job.slug, job.tenant, str(status.state), status.lateness))
    return found


def _line(one: Health) -> dict[str, Any]:
    return {
        "job": one.job.slug,
        "tenant": one.job.tenant,
        "state": str(one.status.state),
        "expected_at": one.status.expected_at,
        "late_by_seconds": int(one.status.lateness.total_seconds()),
    }


def _last_runs(job_ids: list[Any]) -> dict[Any, tuple[Run | None, datetime | None]]:
    """Return each job's last run, and its last slot."""
    own = Run.objects.filter(job=OuterRef("pk"))
    slot = own.filter(slot__isnull=False).order_by("-slot").values("slot")[:1]
    newest = own.order_by("-started_at").values("pk")[:1]
    rows = CronJob.objects.filter(pk__in=job_ids).values_list("pk", Subquery(newest), Subquery(slot))
    found = list(rows)
    runs = Run.objects.in_bulk([run for _, run, _ in found if run is not None])
    return {job: (runs.get(run), slot) for job, run, slot in found}


def _waiting(runs: list[Run]) -> set[Any]:
    """Return the runs' deliveries that wait for a previous run."""
    ids = [one for run in runs for one in run.delivery_ids]
    waiting = Delivery.objects.pending().filter(pk__in=ids, waits_for__isnull=False)
    return set(waiting.values_list("pk", flat=True))


def _health(job: CronJob, run: Run | None, slot: datetime | None, waiting: set[Any], now: datetime) -> Health:
    skipped = run is not None and run.result == RunResult.SKIPPED
    seen = JobHistory(
        enabled=job.enabled,
        since=job.active_since,
        grace=job.grace,
        last_slot=slot,
        has_run=run is not None,
        overlapping=skipped or (run is not None and not waiting.isdisjoint(run.delivery_ids)),
        failed=run is not None and (run.result == RunResult.FAILED or _is_stuck(job, run, now)),
    )
    return Health(job, times.status_of(schedule=job.expected, seen=seen, now=now), run)


def _is_stuck(job: CronJob, run: Run, now: datetime) -> bool:
    """Whether a built-in job's run should have ended by now: no worker claimed it, or its worker died."""
    unfinished = run.result == RunResult.ACCEPTED and run.finished_at is None
    return bool(job.builtin) and unfinished and now - run.started_at > job.grace


def _save(job: CronJob, state: State, now: datetime) -> bool:
    """Save the new state by conditional UPDATE: the row count says whether this check or another one did."""
    rows = CronJob.objects.filter(pk=job.pk, health=job.health)
    return rows.update(health=str(state), health_changed_at=now) == 1


def _changed(found: Health, before: str) -> Change:
    lateness = int(found.status.lateness.total_seconds())
    return Change(found.job.slug, found.job.tenant, before, found.status.state, lateness)


def _log(change: Change) -> None:
    level = logging.WARNING if change.is_worse else logging.INFO
    values = {"job": change.job, "tenant": change.tenant, "before": change.before, "state": str(change.state)}
    logger.log(level, "cron_job_state", extra={**values, "late_by_s": change.lateness_seconds})
