"""The data of the console's first page: problems, current figures, failure groups and recent operator actions.

The number of queries and rows read does not grow with the tables: sums come from roll-ups and failure groups, counts
stop at a cap, and the newest and oldest rows are read from the end of an index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from reliability import queue
from reliability.dead_letters.filters import lanes_of
from reliability.models import AuditEntry, BreakerState
from reliability.models.ids import DEMO_PATTERN

from . import charts
from .charts import Range, Series

__all__ = ["Overview", "Range", "load"]

# Counts stop here.
CAP = 10_000
GROUPS_SHOWN = 10
ACTIONS_SHOWN = 10
# Failure groups are kept by workflow. Those of one tenant are computed from this many of its newest dead letters.
TENANT_ROWS = 20_000
# The banner reports growth from this many new dead letters on, if they are more than twice those of the previous range.
GROWTH = 10

OF_TENANT = "(%(lanes)s::int[] IS NULL OR lane_id = ANY(%(lanes)s::int[]))"
# Failure groups have the exact number by workflow. Those of a tenant are counted, up to the cap.
DEAD = "(SELECT coalesce(sum(dead), 0) FROM reliability_failuregroup WHERE dead > 0)"
DEAD_OF_TENANT = (
    "(SELECT count(*) FROM (SELECT 1 FROM reliability_deadletter"
    " WHERE status = 'dead' AND lane_id = ANY(%(lanes)s::int[]) LIMIT %(cap)s + 1) AS capped)"
)
# The last delivery is searched in the newest 500 attempts, and else taken from the roll-ups, which are by the minute.
CURRENT_FIGURES = f"""
SELECT {{dead}},
    (SELECT died_at FROM reliability_deadletter WHERE status = 'dead' AND {OF_TENANT} ORDER BY id LIMIT 1),
    (SELECT count(*) FROM (SELECT 1 FROM reliability_delivery
        WHERE state = 'pending' AND {OF_TENANT} LIMIT %(cap)s + 1) AS capped),
    (SELECT min(first.due_at) FROM reliability_lane l, LATERAL (SELECT min(due_at) AS due_at FROM reliability_delivery
        WHERE lane_id = l.id AND state = 'pending') AS first
        WHERE %(lanes)s::int[] IS NULL OR l.id = ANY(%(lanes)s::int[])),
    (SELECT max(a.started_at + a.duration_ms * interval '1 millisecond') FROM (SELECT * FROM reliability_attempt
        ORDER BY id DESC LIMIT 500) AS a WHERE a.result = 'delivered' AND %(lanes)s::int[] IS NULL),
    (SELECT at FROM reliability_rollup WHERE grain = 'minute' AND delivered > 0 AND {OF_TENANT}
        ORDER BY at DESC LIMIT 1),
    (SELECT received_at FROM reliability_stripeevent WHERE %(tenant)s::text IS NULL OR tenant = %(tenant)s::text
        ORDER BY id DESC LIMIT 1),
    (SELECT coalesce(sum(count), 0) FROM reliability_striperefusal WHERE at > %(hour_ago)s
        AND (%(tenant)s::text IS NULL
            OR slug IN (SELECT slug FROM reliability_stripeendpoint WHERE tenant = %(tenant)s))),
    (SELECT coalesce(array_agg(name ORDER BY name), '{{{{}}}}') FROM reliability_flag WHERE NOT enabled),
    EXISTS (SELECT 1 FROM reliability_workflow WHERE id::text LIKE %(demo)s)
"""  # noqa: S608  # our own text
# Open breakers, paused workflows and unfinished operations in one query.
PROBLEMS = """
(SELECT 'breaker' AS kind, b.id::text, coalesce(w.slug, ''), coalesce(l.tenant, ''), b.state, b.reason, b.opened_at,
    coalesce(b.forced_until, b.next_probe_at), 0, 0
FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id
    LEFT JOIN reliability_workflow w ON w.id = l.workflow_id
WHERE b.state <> 'closed' AND (%(tenant)s::text IS NULL OR l.tenant = %(tenant)s OR b.lane_id IS NULL)
ORDER BY b.opened_at DESC NULLS LAST LIMIT 50)
UNION ALL
(SELECT 'paused', id::text, slug, '', '', paused_reason, NULL, paused_until, 0, 0 FROM reliability_workflow
WHERE paused AND (paused_until IS NULL OR paused_until > %(now)s) ORDER BY slug LIMIT 50)
UNION ALL
(SELECT 'operation', id::text, kind, '', state, note, created_at, NULL, done + skipped, matched
FROM reliability_operation WHERE state IN ('running', 'paused')
    AND (%(tenant)s::text IS NULL OR filter ->> 'tenant' = %(tenant)s) ORDER BY id DESC LIMIT 10)
"""
GROUPS = """
SELECT w.name, w.slug, g.reason, g.code, g.fingerprint, g.message, g.dead, g.first_at, g.last_at
FROM (SELECT * FROM reliability_failuregroup WHERE dead > 0 ORDER BY dead DESC LIMIT %(shown)s) AS g
JOIN reliability_workflow w ON w.id = g.workflow_id ORDER BY g.dead DESC, g.last_at DESC
"""
GROUPS_OF_TENANT = """
SELECT w.name, w.slug, g.reason, g.code, g.fingerprint, g.message, g.dead, g.first_at, g.last_at
FROM (
    SELECT l.workflow_id, d.fingerprint, min(d.reason) AS reason, min(d.error_code) AS code,
        max(left(d.error_message, 500)) AS message, count(*) AS dead, min(d.died_at) AS first_at,
        max(d.died_at) AS last_at
    FROM (SELECT * FROM reliability_deadletter WHERE status = 'dead' AND lane_id = ANY(%(lanes)s::int[])
        ORDER BY id DESC LIMIT %(rows)s) AS d
    JOIN reliability_lane l ON l.id = d.lane_id
    GROUP BY l.workflow_id, d.fingerprint ORDER BY count(*) DESC LIMIT %(shown)s
) AS g JOIN reliability_workflow w ON w.id = g.workflow_id ORDER BY g.dead DESC, g.last_at DESC
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """A line of the banner; `level` is `danger` or `warning`; `url_name` and `params` link to the page about it."""

    level: str
    text: str
    url_name: str
    params: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeadCard:
    """Dead letters now, and new ones in the range and the previous one. A tenant's are counted up to `CAP`."""

    count: int
    oldest_at: datetime | None
    died: int
    died_before: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Pending deliveries, counted up to `CAP` (`CAP + 1` means more), and when the first was due."""

    count: int
    due_at: datetime | None

    @property
    def is_capped(self) -> bool:
        return self.count > CAP

    def age(self, *, now: datetime) -> timedelta:
        return max(timedelta(), now - self.due_at) if self.due_at else timedelta()


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """A breaker that is not closed; without a workflow, that of the n8n instance.

    `until` is its next probe, or the end of being forced open.
    """

    id: UUID
    workflow: str
    tenant: str
    state: str
    reason: str
    opened_at: datetime | None
    until: datetime | None

    @property
    def name(self) -> str:
        return f"{self.workflow}/{self.tenant}" if self.workflow else "n8n instance"


@dataclass(frozen=True, slots=True)
class PausedWorkflow:
    """A paused workflow."""

    id: UUID
    workflow: str
    reason: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class OpenOperation:
    """A bulk operation that has not finished; `done` includes skipped dead letters."""

    id: UUID
    kind: str
    state: str
    done: int
    matched: int


@dataclass(frozen=True, slots=True)
class LateJob:
    """A cron job that needs attention: its slug, its state, and how late its run is."""

    job: str
    tenant: str
    state: str
    lateness: timedelta


@dataclass(frozen=True, slots=True)
class StripeCard:
    """When Stripe's last event came in, and how many requests were refused within the last hour."""

    last_event_at: datetime | None
    refused: int


@dataclass(frozen=True, slots=True)
class Cards:
    """One field per card. `success` is the share (0 to 1) of deliveries that succeeded in the range, or `None`."""

    dead: DeadCard
    success: float | None
    delivered: int
    failed: int
    backlog: Backlog
    breakers: Sequence[OpenBreaker]
    paused: Sequence[PausedWorkflow]
    stripe: StripeCard
    cron: Sequence[LateJob]
    operations: Sequence[OpenOperation]
    workers_alive: int


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of a workflow with the same failure."""

    workflow: str
    slug: str
    reason: str
    code: str
    fingerprint: str
    message: str
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole page, as of `now`."""

    now: datetime
    range: Range
    banner: Sequence[Notice]
    cards: Cards
    series: Series
    groups: Sequence[Group]
    actions: Sequence[AuditEntry]
    last_delivered_at: datetime | None


CronSource = Callable[[datetime, str | None], Sequence[LateJob]]
_cron_sources: list[CronSource] = []


def register_cron(*, source: CronSource) -> None:
    """Register a function of the time and the tenant that returns the cron jobs that need attention."""
    _cron_sources.append(source)


def load(*, now: datetime, range_: Range, tenant: str | None = None) -> Overview:
    """Load the page, for the whole service or one tenant. Pauses, workers and switches are always the service's."""
    lanes = lanes_of(tenant=tenant) if tenant else None
    values: dict[str, Any] = {"lanes": lanes, "tenant": tenant, "now": now, "cap": CAP}
    values["demo"] = DEMO_PATTERN
    values |= {"hour_ago": now - timedelta(hours=1), "shown": GROUPS_SHOWN, "rows": TENANT_ROWS}
    figures = _rows(CURRENT_FIGURES.format(dead=DEAD if lanes is None else DEAD_OF_TENANT), values)[0]
    count, oldest, waiting, due, sent, counted, event, refused, off, is_demo = figures
    series = charts.load(now=now, range_=range_, lanes=lanes)
    problems = _rows(PROBLEMS, values)
    ended = series.delivered + series.failed
    cards = Cards(
        dead=DeadCard(int(count), oldest, series.died, series.died_before),
        success=series.delivered / ended if ended else None,
        delivered=series.delivered,
        failed=series.failed,
        backlog=Backlog(waiting, due),
        breakers=[OpenBreaker(UUID(one[1]), *one[2:8]) for one in problems if one[0] == "breaker"],
        paused=[PausedWorkflow(UUID(one[1]), one[2], one[5], one[7]) for one in problems if one[0] == "paused"],
        stripe=StripeCard(event, int(refused)),
        cron=[late for source in _cron_sources for late in source(now, tenant)],
        operations=[OpenOperation(UUID(one[1]), one[2], one[4], *one[8:]) for one in problems if one[0] == "operation"],
        workers_alive=queue.workers_alive(),
    )
    return Overview(
        now=now,
        range=range_,
        banner=_banner(cards, off, is_demo=is_demo),
        cards=cards,
        series=series,
        groups=[Group(*row) for row in _rows(GROUPS if lanes is None else GROUPS_OF_TENANT, values)],
        actions=[] if tenant else list(AuditEntry.objects.order_by("-id")[:ACTIONS_SHOWN]),
        last_delivered_at=sent or counted,
    )


def _banner(cards: Cards, off: Sequence[str], *, is_demo: bool) -> list[Notice]:
    """Return the banner's lines, the worst first."""
    open_breakers = [one for one in cards.breakers if one.state in (BreakerState.OPEN, BreakerState.FORCED_OPEN)]
    breakers, lines = "admin:reliability_breaker_changelist", []
    if not cards.workers_alive:
        lines.append(Notice("danger", "No worker is alive: nothing is delivered.", "admin:index"))
    if any(not one.workflow for one in open_breakers):
        lines.append(Notice("danger", "n8n cannot be reached: its breaker is open.", breakers))
    if names := [one.name for one in open_breakers if one.workflow]:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text = f"{'Breaker' if len(names) == 1 else 'Breakers'} open: {', '.join(names[:3])}{more}."
        lines.append(Notice("danger", text, breakers))
    for name in off:
        text = f"Switched off: {name}."
        lines.append(Notice("warning", text, "admin:reliability_flag_changelist"))
    dead = cards.dead
    if dead.died >= GROWTH and dead.died > 2 * dead.died_before:
        text = f"{dead.died:,} new dead letters (previous period: {dead.died_before:,})."
        where = {"status__exact": "dead"}
        lines.append(Notice("warning", text, "admin:reliability_deadletter_changelist", where))
    if is_demo:
        text = "Demo data is shown. None of it is ever sent. Remove it with 'manage.py demo --remove'."
        lines.append(Notice("warning", text, "admin:reliability_workflow_changelist"))
    return lines


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
