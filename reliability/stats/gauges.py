"""Current values of lanes, breakers and workers, for the metrics. The queries use indexes only, whatever the tables'
size.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection

from reliability.models.ids import DEMO_PATTERN

# Pending deliveries of a lane are counted up to this number: beyond it, counting costs more than it tells.
CAP = 20_000
# LATERAL subqueries: one index scan per lane. A join with GROUP BY would read every delivery.
LANES = """
SELECT w.slug, l.tenant, coalesce(l.concurrency_limit, w.concurrency_limit), waiting.count, due.at,
    flying.sending, flying.awaiting, held.count
FROM reliability_lane l JOIN reliability_workflow w ON w.id = l.workflow_id,
    LATERAL (SELECT count(*) FROM (SELECT 1 FROM reliability_delivery
        WHERE lane_id = l.id AND state = 'pending' LIMIT %(cap)s) AS capped) AS waiting,
    LATERAL (SELECT min(due_at) AS at FROM reliability_delivery WHERE lane_id = l.id AND state = 'pending') AS due,
    LATERAL (SELECT count(*) FILTER (WHERE state = 'sending') AS sending,
        count(*) FILTER (WHERE state = 'awaiting_callback') AS awaiting FROM reliability_delivery
        WHERE lane_id = l.id AND state IN ('sending', 'awaiting_callback')) AS flying,
    LATERAL (SELECT count(*) FROM reliability_slot WHERE lane_id = l.id AND expires_at > %(now)s) AS held
WHERE w.id::text NOT LIKE %(demo)s
"""
# LEFT JOIN: the breaker of the n8n instance has no lane.
BREAKERS = """
SELECT coalesce(w.slug, ''), coalesce(l.tenant, ''), b.state
FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id
    LEFT JOIN reliability_workflow w ON w.id = l.workflow_id
WHERE w.id IS NULL OR w.id::text NOT LIKE %(demo)s
"""
WORKERS = """
SELECT worker, memory_bytes, cpu_seconds FROM reliability_workerfigure WHERE seen_at > now() - interval '45 seconds'
"""


@dataclass(frozen=True, slots=True)
class LaneGauges:
    """A lane's deliveries by state (`pending` up to `CAP`), next due time, and slots in use."""

    workflow: str
    tenant: str
    pending: int
    sending: int
    awaiting_callback: int
    due_at: datetime | None
    slots_held: int
    limit: int

    @property
    def in_use(self) -> int:
        return self.sending + self.awaiting_callback + self.slots_held


def lanes(*, now: datetime) -> list[LaneGauges]:
    """Return the current values of every lane."""
    values = {"cap": CAP, "now": now, "demo": DEMO_PATTERN}
    return [_lane(row) for row in _rows(LANES, values)]


def breakers() -> list[tuple[str, str, str]]:
    """Return workflow, tenant and state of every breaker; both are empty for the breaker of the n8n instance."""
    return _rows(BREAKERS, {"demo": DEMO_PATTERN})


def workers() -> list[tuple[str, int, float]]:
    """Return name, memory (bytes) and CPU time (seconds) of workers with a heartbeat in the last 45 seconds."""
    return _rows(WORKERS, {})


def _lane(row: tuple[Any, ...]) -> LaneGauges:
    slug, tenant, own, pending, due_at, sending, awaiting, held = row
    # The rule of `policies.bulkhead`, without loading the policies of every lane.
    limit = min(own or settings.N8N_DEFAULT_CONCURRENCY, settings.N8N_MAX_CONCURRENCY)
    return LaneGauges(slug, tenant, pending, sending, awaiting, due_at, held, limit)


def _rows(statement: str, values: dict[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[Any] = cursor.fetchall()
    return found
