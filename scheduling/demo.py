"""The demo's cron jobs: one that runs on time, one that is late, one that overlaps, one that is disabled."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from reliability.management.demo import fixtures
from reliability.management.demo.builder import Builder, DeliverySpec
from reliability.management.demo.fixtures import WorkflowSpec
from reliability.management.demo_parts import Part
from reliability.models import Delivery, DeliveryState, Source
from reliability.models.ids import is_demo

from . import jobs
from .models import CronJob, Overlap, Ping, PingResult, Run, RunResult


@dataclass(frozen=True, slots=True)
class Plan:
    """A cron job of the demo; its pings stopped `late` ago."""

    slug: str
    name: str
    spec: WorkflowSpec
    every: timedelta
    schedule: str = ""
    late: timedelta = timedelta(0)
    overlap: str = Overlap.SKIP
    enabled: bool = True


HOUR = timedelta(hours=1)
PLANS = (
    Plan("demo-gap-fill", "Gap fill, every half hour", fixtures.GAPS, HOUR / 2, overlap=Overlap.QUEUE),
    Plan("demo-nightly-report", "Nightly report", fixtures.REPORT, 24 * HOUR, "30 3 * * *"),
    Plan("demo-stock-count", "Stock count", fixtures.GAPS, 2 * HOUR, late=5 * HOUR),
    Plan("demo-old-import", "Old import", fixtures.EXPORT, 6 * HOUR, late=70 * HOUR, enabled=False),
)


def holds_other() -> bool:
    """Whether cron jobs exist that are not part of the demo."""
    return any(not is_demo(pk) for pk in CronJob.objects.filter(builtin="").values_list("pk", flat=True))


def fill(builder: Builder) -> None:
    """Write each job with its runs. A job and its workflows are saved now; the builder saves the other rows later."""
    for plan in PLANS:
        job = CronJob(
            id=builder.rng.id(builder.start),
            slug=plan.slug,
            name=plan.name,
            schedule=plan.schedule,
            period_seconds=None if plan.schedule else int(plan.every.total_seconds()),
            tenant=fixtures.ACME,
            overlap=plan.overlap,
            enabled=plan.enabled,
            disabled_reason="" if plan.enabled else "replaced by the stock count",
            active_since=builder.start,
            payload={"scope": "full"},
        )
        job.save(force_insert=True)
        job.workflows.set([builder.workflows[plan.spec.slug]])
        for slot in _slots(builder, plan):
            _run(builder, plan, job, slot)
    _hold_one(builder)


def _slots(builder: Builder, plan: Plan) -> list[datetime]:
    start = builder.start.astimezone(UTC).replace(hour=3, minute=30, second=0, microsecond=0) + timedelta(days=1)
    last = builder.now - plan.late
    return [start + plan.every * n for n in range(int((last - start) / plan.every) + 1)] if last > start else []


def _run(builder: Builder, plan: Plan, job: CronJob, slot: datetime) -> None:
    if builder.rng.happens(0.015):
        return  # a missed ping
    at = slot + timedelta(milliseconds=builder.rng.number(200, 4_000))
    if at >= builder.now:
        return
    key = jobs.iso(slot) or ""
    skipped = plan.overlap == Overlap.SKIP and builder.rng.happens(0.03)
    run = Run(id=builder.rng.id(at), job=job, key=key, slot=slot, started_at=at)
    run.result = RunResult.SKIPPED if skipped else RunResult.ACCEPTED
    run.delivery_ids = [] if skipped else [_deliver(builder, plan, run).pk]
    builder.add(run)
    _ping(builder, job, run, at, PingResult.SKIPPED if skipped else PingResult.RUN)
    if builder.rng.happens(0.03):
        _ping(builder, job, run, at + timedelta(seconds=9), PingResult.REPEAT)


def _deliver(builder: Builder, plan: Plan, run: Run) -> Delivery:
    document = {
        "job": run.job.slug,
        "run": str(run.pk),
        "slot": jobs.iso(run.slot),
        "triggered_at": jobs.iso(run.started_at),
        "missed": 0,
        "missed_since": None,
        "data": run.job.payload,
    }
    fails = [fixtures.BAD_GATEWAY] if builder.rng.happens(0.03) else []
    key = f"cron:{run.job.slug}:{run.key}"
    return builder.deliver(
        DeliverySpec(plan.spec, fixtures.ACME, run.started_at, document, key, fails, source=Source.CRON)
    )


def _ping(builder: Builder, job: CronJob, run: Run, at: datetime, result: str) -> None:
    ping = Ping(
        job=job, at=min(at, builder.now), result=result, duration_ms=builder.rng.duration(3), address="198.51.100.20"
    )
    ping.run_id = run.pk
    builder.add(ping)


def _hold_one(builder: Builder) -> None:
    """Let the last run of the queueing job wait for the run before it, which n8n has not answered yet."""
    runs: Any = builder.rows[Run]
    found = [one.delivery_ids[0] for one in runs if one.job.slug == PLANS[0].slug][-2:]
    deliveries: Any = builder.rows[Delivery]
    held = [one for one in deliveries if one.pk in found]
    for made in held:
        builder.rewind(made)
    for before, last in pairwise(held):
        before.state, before.attempt_count, before.sent_at = DeliveryState.AWAITING_CALLBACK, 1, before.created_at
        before.lease_until, last.waits_for = builder.now + HOUR, before.pk


def remove() -> int:
    """Delete the demo's jobs with their runs and pings; return the number of deleted rows."""
    jobs_of_demo = [pk for pk in CronJob.objects.values_list("pk", flat=True) if is_demo(pk)]
    return CronJob.objects.filter(pk__in=jobs_of_demo).delete()[0]


PART = Part(fill, remove, holds_other)
