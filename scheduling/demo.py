"""The demo's cron jobs: one that runs on time, one that is late, one that overlaps, one that is disabled."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from reliability.management.demo import fixtures
from reliability.management.demo.builder import Builder, Wish
from reliability.management.demo.fixtures import Role
from reliability.management.demo_parts import Part
from reliability.models import Delivery, DeliveryState, Source
from reliability.models.ids import is_demo

from . import jobs
from .models import CronJob, Overlap, Ping, PingResult, Run, RunResult


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, and how its week went: `late` hours ago its pings stopped."""

    slug: str
    name: str
    role: Role
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
    """Whether there are cron jobs that somebody made."""
    return any(not is_demo(pk) for pk in CronJob.objects.filter(builtin="").values_list("pk", flat=True))


def fill(book: Builder) -> None:
    """Write each job with its runs; which workflows it calls is kept at once, since the rest comes later."""
    for plan in PLANS:
        job = CronJob(
            id=book.dice.id(book.start),
            slug=plan.slug,
            name=plan.name,
            schedule=plan.schedule,
            period_seconds=None if plan.schedule else int(plan.every.total_seconds()),
            tenant=fixtures.ACME,
            overlap=plan.overlap,
            enabled=plan.enabled,
            disabled_reason="" if plan.enabled else "replaced by the stock count",
            active_since=book.start,
            payload={"scope": "full"},
        )
        job.save(force_insert=True)
        job.workflows.set([book.workflows[plan.role.slug]])
        for slot in _slots(book, plan):
            _run(book, plan, job, slot)
    _hold_one(book)


def _slots(book: Builder, plan: Plan) -> list[datetime]:
    start = book.start.astimezone(UTC).replace(hour=3, minute=30, second=0, microsecond=0) + timedelta(days=1)
    last = book.now - plan.late
    return [start + plan.every * n for n in range(int((last - start) / plan.every) + 1)] if last > start else []


def _run(book: Builder, plan: Plan, job: CronJob, slot: datetime) -> None:
    if book.dice.happens(0.015):
        return  # its ping never came
    at = slot + timedelta(milliseconds=book.dice.number(200, 4_000))
    if at >= book.now:
        return
    key = jobs.iso(slot) or ""
    skipped = plan.overlap == Overlap.SKIP and book.dice.happens(0.03)
    run = Run(id=book.dice.id(at), job=job, key=key, slot=slot, started_at=at)
    run.result = RunResult.SKIPPED if skipped else RunResult.ACCEPTED
    run.delivery_ids = [] if skipped else [_deliver(book, plan, run).pk]
    book.add(run)
    _ping(book, job, run, at, PingResult.SKIPPED if skipped else PingResult.RUN)
    if book.dice.happens(0.03):
        _ping(book, job, run, at + timedelta(seconds=9), PingResult.REPEAT)


def _deliver(book: Builder, plan: Plan, run: Run) -> Delivery:
    document = {
        "job": run.job.slug,
        "run": str(run.pk),
        "slot": jobs.iso(run.slot),
        "triggered_at": jobs.iso(run.started_at),
        "missed": 0,
        "missed_since": None,
        "data": run.job.payload,
    }
    fails = [fixtures.BAD_GATEWAY] if book.dice.happens(0.03) else []
    key = f"cron:{run.job.slug}:{run.key}"
    return book.deliver(Wish(plan.role, fixtures.ACME, run.started_at, document, key, fails, source=Source.CRON))


def _ping(book: Builder, job: CronJob, run: Run, at: datetime, result: str) -> None:
    ping = Ping(job=job, at=min(at, book.now), result=result, duration_ms=book.dice.took(3), address="198.51.100.20")
    ping.run_id = run.pk
    book.add(ping)


def _hold_one(book: Builder) -> None:
    """The last run of the job that queues waits for the one before, which n8n has not answered yet."""
    runs: Any = book.rows[Run]
    found = [one.delivery_ids[0] for one in runs if one.job.slug == PLANS[0].slug][-2:]
    deliveries: Any = book.rows[Delivery]
    held = [one for one in deliveries if one.pk in found]
    for made in held:
        book.rewind(made)
    for before, last in pairwise(held):
        before.state, before.attempt_count, before.sent_at = DeliveryState.AWAITING_CALLBACK, 1, before.created_at
        before.lease_until, last.waits_for = book.now + HOUR, before.pk


def remove() -> int:
    """Delete the demo's jobs with their runs and pings; return how many rows went."""
    jobs_of_demo = [pk for pk in CronJob.objects.values_list("pk", flat=True) if is_demo(pk)]
    return CronJob.objects.filter(pk__in=jobs_of_demo).delete()[0]


PART = Part(fill, remove, holds_other)
