"""The status endpoint's data: breakers, backlog, dead letters, workers, switches and Stripe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from reliability import queue
from reliability.lanes import flags
from reliability.models import BreakerState, Flag, StripeEndpoint, StripeEvent, StripeRefusal

HOUR = timedelta(hours=1)
# Sections that other applications add: by name, a function of the moment and the tenant.
SECTIONS: dict[str, Callable[[datetime, str | None], Any]] = {}

BREAKERS = """
SELECT b.state, count(*) FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id
WHERE %(tenant)s::text IS NULL OR l.tenant = %(tenant)s GROUP BY b.state
"""
# Lanes are few, and each count is read from a partial index.
BACKLOG = """
SELECT w.slug, l.tenant, waiting.count, flying.count + slots.count, waiting.oldest,
    coalesce(l.concurrency_limit, w.concurrency_limit)
FROM reliability_lane l JOIN reliability_workflow w ON w.id = l.workflow_id,
    LATERAL (SELECT count(*), min(due_at) AS oldest FROM reliability_delivery
        WHERE lane_id = l.id AND state = 'pending') waiting,
    LATERAL (SELECT count(*) FROM reliability_delivery
        WHERE lane_id = l.id AND state IN ('sending', 'awaiting_callback')) flying,
    LATERAL (SELECT count(*) FROM reliability_slot WHERE lane_id = l.id AND expires_at > %(now)s) slots
WHERE (%(tenant)s::text IS NULL OR l.tenant = %(tenant)s) AND waiting.count + flying.count + slots.count > 0
ORDER BY waiting.oldest NULLS LAST, w.slug, l.tenant
"""
DEAD = """
SELECT w.slug, count(*), min(d.died_at) FROM reliability_deadletter d
    JOIN reliability_lane l ON l.id = d.lane_id JOIN reliability_workflow w ON w.id = l.workflow_id
WHERE d.status = 'dead' AND (%(tenant)s::text IS NULL OR l.tenant = %(tenant)s)
GROUP BY w.slug ORDER BY count(*) DESC, w.slug
"""


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """A lane's deliveries: waiting, in flight (slots included), next due time, and concurrency limit."""

    workflow: str
    tenant: str
    waiting: int
    in_flight: int
    due_at: datetime | None
    limit: int

    @property
    def is_full(self) -> bool:
        return self.in_flight >= self.limit


@dataclass(frozen=True, slots=True)
class DeadCount:
    """A workflow's dead letters, and when the oldest failed."""

    workflow: str
    count: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class StripeStatus:
    """When Stripe's last event came in, and how many requests were refused within the last hour."""

    last_event_at: datetime | None
    refused_last_hour: int


@dataclass(frozen=True, slots=True)
class Status:
    """The status as of `now`. `workers_alive` and the switches are the whole service's, also for a tenant's key."""

    now: datetime
    breakers: dict[str, int]
    lanes: Sequence[LaneLoad]
    dead: Sequence[DeadCount]
    workers_alive: int
    flags: Sequence[Flag]
    stripe: StripeStatus

    @property
    def oldest(self) -> timedelta | None:
        """How long the oldest delivery has been due, or `None`."""
        due = [lane.due_at for lane in self.lanes if lane.due_at is not None and lane.due_at <= self.now]
        return self.now - min(due) if due else None


def load(*, now: datetime, tenant: str | None = None) -> Status:
    """Load the status of the whole service, or of a tenant."""
    values: dict[str, Any] = {"tenant": tenant, "now": now}
    breakers = dict.fromkeys(BreakerState.values, 0) | dict(_rows(BREAKERS, values))
    return Status(
        now=now,
        breakers=breakers,
        lanes=[_lane(row) for row in _rows(BACKLOG, values)],
        dead=[DeadCount(*row) for row in _rows(DEAD, values)],
        workers_alive=queue.workers_alive(),
        flags=flags.all_flags(),
        stripe=_stripe(now, tenant),
    )


def _lane(row: tuple[Any, ...]) -> LaneLoad:
    slug, tenant, waiting, in_flight, due_at, own = row
    limit = min(own or settings.N8N_DEFAULT_CONCURRENCY, settings.N8N_MAX_CONCURRENCY)
    return LaneLoad(slug, tenant, waiting, in_flight, due_at, limit)


def _stripe(now: datetime, tenant: str | None) -> StripeStatus:
    events = StripeEvent.objects.filter(tenant=tenant) if tenant else StripeEvent.objects.all()
    slugs = StripeEndpoint.objects.filter(tenant=tenant).values("slug")
    refusals = StripeRefusal.objects.filter(at__gt=now - HOUR)
    refused = (refusals.filter(slug__in=slugs) if tenant else refusals).aggregate(all=Sum("count"))["all"]
    return StripeStatus(events.order_by("-id").values_list("received_at", flat=True).first(), refused or 0)


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
