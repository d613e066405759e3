"""Reads the values of the alert rules from the database: the same as the Prometheus rules do from the metrics.

Each query is bounded: sums come from roll-ups and failure groups, the oldest row from the end of an index, and nothing
is counted beyond its limit. Demo data is left out. Other packages add sources with `register`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from reliability import queue
from reliability.models.ids import DEMO_PATTERN
from reliability.policies.alert_rules import BY_NAME
from reliability.policies.alerts import Reading
from reliability.stats.process_stats import ProcessUsage

QUARTER, HALF, HOUR = timedelta(minutes=15), timedelta(minutes=30), timedelta(hours=1)
# With a smaller sample, a rate means nothing.
SAMPLE_ENDED, SAMPLE_RETRIES = 10, 20
# Flapping is counted among this many of the newest transitions; more within an hour is flapping in any case.
TRANSITIONS = 5000
# Rules about processes of this machine: `take` gets their values, `_used` reads them.
OF_PROCESSES = {"MemoryHigh", "CpuHigh"}
SIGNATURES = ("signature", "missing", "stale", "future")

Source = Callable[[datetime], Iterator[Reading]]

# Since when it is not closed: a failing probe opens it again, which must not restart the time.
BREAKERS = """
SELECT coalesce(w.slug, ''), coalesce(l.tenant, ''), b.state, b.reason, coalesce(left_closed.at, b.opened_at, %(now)s)
FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id
    LEFT JOIN reliability_workflow w ON w.id = l.workflow_id,
    LATERAL (SELECT (SELECT at FROM reliability_breakertransition WHERE breaker_id = b.id AND from_state = 'closed'
        ORDER BY id DESC LIMIT 1) AS at) left_closed
WHERE b.state <> 'closed' AND (w.id IS NULL OR w.id::text NOT LIKE %(demo)s)
"""
FLAPS = """
SELECT coalesce(w.slug, ''), count(*)
FROM (SELECT * FROM reliability_breakertransition ORDER BY id DESC LIMIT %(most)s) t
    JOIN reliability_breaker b ON b.id = t.breaker_id LEFT JOIN reliability_lane l ON l.id = b.lane_id
    LEFT JOIN reliability_workflow w ON w.id = l.workflow_id
WHERE t.to_state = 'closed' AND t.at > %(hour)s AND (w.id IS NULL OR w.id::text NOT LIKE %(demo)s)
GROUP BY w.slug
"""
DEAD = """
SELECT w.slug, sum(g.dead) FROM reliability_failuregroup g JOIN reliability_workflow w ON w.id = g.workflow_id
WHERE g.dead > 0 AND w.id::text NOT LIKE %(demo)s GROUP BY w.slug
"""
DIED = """
SELECT w.slug, sum(r.count) FROM reliability_deathrollup r JOIN reliability_lane l ON l.id = r.lane_id
    JOIN reliability_workflow w ON w.id = l.workflow_id
WHERE r.grain = 'minute' AND r.at > %(quarter)s AND w.id::text NOT LIKE %(demo)s GROUP BY w.slug
"""
BACKLOG = """
SELECT w.slug, min(oldest.due_at) FROM reliability_lane l JOIN reliability_workflow w ON w.id = l.workflow_id,
    LATERAL (SELECT due_at FROM reliability_delivery WHERE lane_id = l.id AND state = 'pending'
        ORDER BY due_at LIMIT 1) oldest
WHERE oldest.due_at <= %(now)s AND w.id::text NOT LIKE %(demo)s GROUP BY w.slug
"""
ENDED = """
SELECT w.slug, sum(r.delivered), sum(r.dead) FROM reliability_rollup r JOIN reliability_lane l ON l.id = r.lane_id
    JOIN reliability_workflow w ON w.id = l.workflow_id
WHERE r.grain = 'minute' AND r.at > %(quarter)s AND w.id::text NOT LIKE %(demo)s GROUP BY w.slug
"""
RETRIES = """
SELECT w.slug, sum(r.retries_delivered), sum(r.retries) FROM reliability_rollup r
    JOIN reliability_lane l ON l.id = r.lane_id JOIN reliability_workflow w ON w.id = l.workflow_id
WHERE r.grain = 'minute' AND r.at > %(half)s AND w.id::text NOT LIKE %(demo)s GROUP BY w.slug
"""
SLOTS = """
SELECT w.slug, l.tenant, least(coalesce(l.concurrency_limit, w.concurrency_limit, %(default)s), %(cap)s) AS most,
    flying.count + held.count
FROM reliability_lane l JOIN reliability_workflow w ON w.id = l.workflow_id,
    LATERAL (SELECT count(*) FROM (SELECT 1 FROM reliability_delivery
        WHERE lane_id = l.id AND state IN ('sending', 'awaiting_callback') LIMIT %(cap)s) AS capped) flying,
    LATERAL (SELECT count(*) FROM (SELECT 1 FROM reliability_slot
        WHERE lane_id = l.id AND expires_at > %(now)s LIMIT %(cap)s) AS capped) held
WHERE flying.count + held.count > 0 AND w.id::text NOT LIKE %(demo)s
"""
REFUSED = """
SELECT slug, sum(count) FROM reliability_striperefusal r WHERE reason = ANY(%(signatures)s) AND at > %(quarter)s
    AND NOT EXISTS (SELECT 1 FROM reliability_stripeendpoint WHERE slug = r.slug AND id::text LIKE %(demo)s)
GROUP BY slug
"""


def register(*, source: Source, names: Iterable[str]) -> None:
    """Add a source: a function of the time, with the names of the rules that it reads."""
    _sources[source] = tuple(names)


def unread() -> set[str]:
    """Return the rules that no source reads."""
    return set(BY_NAME) - OF_PROCESSES - {name for names in _sources.values() for name in names}


def take(*, now: datetime, processes: Sequence[ProcessUsage] = ()) -> list[Reading]:
    """Return all readings at `now`."""
    return [*(one for source in _sources for one in source(now)), *_used(processes)]


def limit_of(name: str) -> float:
    """Return the limit of a rule in the unit of its value: from the environment, or the rule's own."""
    rule = BY_NAME[name]
    return float(getattr(settings, rule.setting)) * rule.scale if rule.setting else rule.limit


def _reading(name: str, value: float, **values: Any) -> Reading:
    return Reading(name=name, value=float(value), limit=limit_of(name), **values)


def _breakers(now: datetime) -> Iterator[Reading]:
    for workflow, tenant, state, reason, since in _rows(BREAKERS, now):
        values = {"workflow": workflow, "tenant": tenant, "subject": "" if workflow else "n8n instance"}
        open_for = max(0.0, (now - since).total_seconds())
        is_forced = state == "forced_open"
        # Only the code of the reason: the rest may be text from n8n, which can repeat a payload.
        why = f"forced open by an operator ({reason})" if is_forced else reason.partition(":")[0]
        if not is_forced:  # an operator who forced it open knows; only a long time is worth an alert
            yield _reading("BreakerOpen", open_for, **values, detail=why, since=since)
        yield _reading("BreakerOpenLong", open_for, **values, detail=why)


def _flaps(now: datetime) -> Iterator[Reading]:
    for workflow, count in _rows(FLAPS, now):
        yield _reading("BreakerFlapping", count, workflow=workflow, subject="" if workflow else "n8n instance")


def _dead(now: datetime) -> Iterator[Reading]:
    for workflow, count in _rows(DEAD, now):
        yield _reading("DeadLettersMany", count, workflow=workflow)
    for workflow, count in _rows(DIED, now):
        yield _reading("DeadLettersGrowing", count, workflow=workflow)


def _backlog(now: datetime) -> Iterator[Reading]:
    for workflow, due_at in _rows(BACKLOG, now):
        yield _reading("BacklogOld", (now - due_at).total_seconds(), workflow=workflow)


def _success(now: datetime) -> Iterator[Reading]:
    for workflow, delivered, dead in _rows(ENDED, now):
        if delivered + dead >= SAMPLE_ENDED:
            yield _reading("SuccessRateLow", delivered / (delivered + dead), workflow=workflow)


def _retries(now: datetime) -> Iterator[Reading]:
    for workflow, delivered, count in _rows(RETRIES, now):
        if count >= SAMPLE_RETRIES:
            yield _reading("RetrySuccessLow", delivered / count, workflow=workflow)


def _slots(now: datetime) -> Iterator[Reading]:
    for workflow, tenant, most, count in _rows(SLOTS, now):
        yield Reading("SlotsExhausted", float(count), float(most), workflow=workflow, tenant=tenant)


def _workers(now: datetime) -> Iterator[Reading]:
    yield _reading("NoWorker", queue.workers_alive())


def _refusals(now: datetime) -> Iterator[Reading]:
    for slug, count in _rows(REFUSED, now):
        yield _reading("StripeSignaturesFailing", count, subject=slug)


def _used(processes: Sequence[ProcessUsage]) -> Iterator[Reading]:
    for one in processes:
        yield _reading("MemoryHigh", one.memory, subject=one.name)
        if one.cpu is not None:
            yield _reading("CpuHigh", one.cpu, subject=one.name)


_sources: dict[Source, tuple[str, ...]] = {
    _breakers: ("BreakerOpen", "BreakerOpenLong"),
    _flaps: ("BreakerFlapping",),
    _dead: ("DeadLettersMany", "DeadLettersGrowing"),
    _backlog: ("BacklogOld",),
    _success: ("SuccessRateLow",),
    _retries: ("RetrySuccessLow",),
    _slots: ("SlotsExhausted",),
    _workers: ("NoWorker",),
    _refusals: ("StripeSignaturesFailing",),
}


def _rows(statement: str, now: datetime) -> list[tuple[Any, ...]]:
    values: dict[str, Any] = {
        "now": now,
        "quarter": now - QUARTER,
        "half": now - HALF,
        "hour": now - HOUR,
        "demo": DEMO_PATTERN,
        "most": TRANSITIONS,
        "default": settings.N8N_DEFAULT_CONCURRENCY,
        "cap": settings.N8N_MAX_CONCURRENCY,
        "signatures": list(SIGNATURES),
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
