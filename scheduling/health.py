"""How the cron jobs stand: for the console, the API, the status endpoint, and the job `alerts`."""

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
from .schedules.times import WORSE, Seen, Standing, State

LAST = ("result", "started_at", "finished_at")
WORRYING = (State.LATE, State.MISSING, State.OVERLAPPING, State.FAILING)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """A job, how it stands, and its last run."""

    job: CronJob
    standing: Standing
    last_run: Run | None


@dataclass(frozen=True, slots=True)
class Change:
    """A job whose state is another than the one that was seen before."""

    job: str
    tenant: str
    before: str
    state: State
    lateness_seconds: int

    @property
    def is_worse(self) -> bool:
        return self.state in WORRYING and (not self.before or WORSE.index(self.state) > WORSE.index(State(self.before)))


def of(*, jobs: "Iterable[CronJob] | QuerySet[CronJob]", now: datetime) -> list[Health]:
    """Return how jobs stand at `now`, in their order; three queries, however many there are."""
    wanted = list(jobs)
    last = _last_runs([job.pk for job in wanted])
    held = _held([run for run, _ in last.values() if run is not None])
    return [_health(job, *last.get(job.pk, (None, None)), held, now) for job in wanted]


def watch(*, now: datetime) -> list[Change]:
    """Keep each job's state where it has changed, with a line in the log; return the changes."""
    changes = []
    for found in of(jobs=CronJob.objects.all(), now=now):
        job, state = found.job, found.standing.state
        if job.health != state and _keep(job, state, now):
            changes.append(_changed(found, job.health))
    for change in changes:
        _log(change)
    return changes


def summary(*, now: datetime, tenant: str | None = None) -> dict[str, Any]:
    """Return, as JSON values, how many jobs are in each state, and which of them need a look.

    Of a tenant, its own jobs; the built-in ones are nobody's.
    """
    rows = CronJob.objects.filter(tenant=tenant, builtin="") if tenant else CronJob.objects.all()
    found = of(jobs=rows, now=now)
    counts = Counter(one.standing.state for one in found)
    return {
        "by_state": {str(state): counts[state] for state in State},
        "attention": [_line(one) for one in found if one.standing.state in WORRYING],
    }


def attention(now: datetime, tenant: str | None = None) -> list[LateJob]:
    """Return the enabled jobs that are late, missing or failing, in one query: for a page that shows much else."""
    rows = CronJob.objects.filter(enabled=True)
    rows = rows.filter(tenant=tenant, builtin="") if tenant else rows
    own = Run.objects.filter(job=OuterRef("pk"))
    newest = {name: Subquery(own.order_by("-started_at").values(name)[:1]) for name in LAST}
    slot = Subquery(own.filter(slot__isnull=False).order_by("-slot").values("slot")[:1])
    found = []
    for job in rows.annotate(**{f"last_{name}": one for name, one in newest.items()}, last_slot=slot):
        seen = {name: getattr(job, f"last_{name}") for name in (*LAST, "slot")}
        last = Run(**{name: seen[name] for name in LAST}) if seen["result"] else None
        standing = _health(job, last, seen["slot"], set(), now).standing
        if standing.state in WORRYING and standing.state is not State.OVERLAPPING:
            found.append(LateJob(job.slug, job.tenant, str(standing.state), standing.lateness))
    return found


def _line(one: Health) -> dict[str, Any]:
    return {
        "job": one.job.slug,
        "tenant": one.job.tenant,
        "state": str(one.standing.state),
        "expected_at": one.standing.expected_at,
        "late_by_seconds": int(one.standing.lateness.total_seconds()),
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


def _held(runs: list[Run]) -> set[Any]:
    """Return the runs' deliveries that wait for a run before."""
    ids = [one for run in runs for one in run.delivery_ids]
    held = Delivery.objects.pending().filter(pk__in=ids, waits_for__isnull=False)
    return set(held.values_list("pk", flat=True))


def _health(job: CronJob, run: Run | None, slot: datetime | None, held: set[Any], now: datetime) -> Health:
    skipped = run is not None and run.result == RunResult.SKIPPED
    seen = Seen(
        enabled=job.enabled,
        since=job.active_since,
        grace=job.grace,
        last_slot=slot,
        has_run=run is not None,
        overlapping=skipped or (run is not None and not held.isdisjoint(run.delivery_ids)),
        failed=run is not None and (run.result == RunResult.FAILED or _is_stuck(job, run, now)),
    )
    return Health(job, times.standing(schedule=job.expected, seen=seen, now=now), run)


def _is_stuck(job: CronJob, run: Run, now: datetime) -> bool:
    """Whether a built-in job's run should have ended by now: no worker took it, or the one that did is lost."""
    unfinished = run.result == RunResult.ACCEPTED and run.finished_at is None
    return bool(job.builtin) and unfinished and now - run.started_at > job.grace


def _keep(job: CronJob, state: State, now: datetime) -> bool:
    """Keep the new state, unless another has done so; the row count names the winner."""
    rows = CronJob.objects.filter(pk=job.pk, health=job.health)
    return rows.update(health=str(state), health_changed_at=now) == 1


def _changed(found: Health, before: str) -> Change:
    lateness = int(found.standing.lateness.total_seconds())
    return Change(found.job.slug, found.job.tenant, before, found.standing.state, lateness)


def _log(change: Change) -> None:
    level = logging.WARNING if change.is_worse else logging.INFO
    values = {"job": change.job, "tenant": change.tenant, "before": change.before, "state": str(change.state)}
    logger.log(level, "cron_job_state", extra={**values, "late_by_s": change.lateness_seconds})
