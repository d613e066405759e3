"""Figures of workflows for the console: outcomes of the last 24 hours, dead letters, backlog, last success."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from reliability.models import LATENCY_EDGES, Lane, Workflow
from reliability.models.policy import POLICY_FIELDS, value_of
from reliability.policies import histogram

SPAN = timedelta(hours=24)
# Pending deliveries per lane are counted up to the first number. The last success is searched in the newest deliveries
# of a lane, up to the second.
COUNT_LIMIT, DELIVERIES_READ = 10_000, 500
LANES_SHOWN = 50

_LATENCY = ", ".join(f"sum(latency[{place}])" for place in range(1, len(LATENCY_EDGES) + 2))
# Hourly roll-ups: the first hour of the span is counted whole.
ENDED = f"""
SELECT l.workflow_id, sum(r.delivered), sum(r.dead), {_LATENCY}
FROM reliability_rollup r JOIN reliability_lane l ON l.id = r.lane_id
WHERE r.grain = 'hour' AND r.at > %(since)s AND l.workflow_id = ANY(%(workflows)s) GROUP BY 1
"""  # noqa: S608  # our own text
CURRENT_FIGURES = """
SELECT l.workflow_id, sum(waiting.count), max(good.at), max(dead.count)
FROM reliability_lane l,
    LATERAL (SELECT count(*) FROM (SELECT 1 FROM reliability_delivery
        WHERE lane_id = l.id AND state = 'pending' LIMIT %(counted)s) AS capped) AS waiting,
    LATERAL (SELECT max(finished_at) FILTER (WHERE state = 'delivered') AS at FROM (SELECT state, finished_at
        FROM reliability_delivery WHERE lane_id = l.id ORDER BY id DESC LIMIT %(looked_at)s) AS newest) AS good,
    LATERAL (SELECT coalesce(sum(dead), 0) AS count FROM reliability_failuregroup
        WHERE workflow_id = l.workflow_id) AS dead
WHERE l.workflow_id = ANY(%(workflows)s) GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """A workflow's figures. `success` is the share (0 to 1) within `SPAN`; `p95_ms` is the latency of deliveries."""

    delivered: int = 0
    failed: int = 0
    p95_ms: float | None = None
    dead: int = 0
    waiting: int = 0
    last_success_at: datetime | None = None

    @property
    def success(self) -> float | None:
        ended = self.delivered + self.failed
        return self.delivered / ended if ended else None


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """An effective value of a policy, and its origin: `environment`, `workflow` or `tenant`."""

    name: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """The values that a tenant overrides."""

    lane: Lane
    values: Sequence[PolicyValue]


def figures_of(*, workflows: Sequence[Workflow], now: datetime) -> dict[UUID, Figures]:
    """Return each workflow's figures, in two queries for any number of them."""
    ids = [one.pk for one in workflows]
    values = {"since": now - SPAN, "workflows": ids, "counted": COUNT_LIMIT, "looked_at": DELIVERIES_READ}
    ended = {row[0]: row[1:] for row in _rows(ENDED, values)}
    standing = {row[0]: row[1:] for row in _rows(CURRENT_FIGURES, values)}
    return {pk: _figures(ended.get(pk), standing.get(pk)) for pk in ids}


def _figures(ended: Any, standing: Any) -> Figures:
    delivered, failed, *buckets = ended or (0, 0)
    waiting, last_success, dead = standing or (0, None, 0)
    counts = [count or 0 for count in buckets]
    p95 = histogram.quantile(counts=counts, edges=LATENCY_EDGES, share=0.95) if counts else None
    return Figures(delivered, failed, p95, int(dead), int(waiting), last_success)


def policy_of(*, workflow: Workflow) -> list[PolicyValue]:
    """Return the workflow's effective policy, each value with its origin."""
    return [PolicyValue(name, *value_of(name, (workflow,))) for name in POLICY_FIELDS]


def tenants_of(*, workflow: Workflow) -> list[TenantPolicy]:
    """Return the workflow's lanes, up to `LANES_SHOWN`, each with the values that its tenant overrides."""
    lanes = Lane.objects.filter(workflow=workflow).select_related("breaker").order_by("tenant")[:LANES_SHOWN]
    return [TenantPolicy(lane, _tenant_values(lane, workflow)) for lane in lanes]


def _tenant_values(lane: Lane, workflow: Workflow) -> list[PolicyValue]:
    found = [PolicyValue(name, *value_of(name, (lane, workflow))) for name in POLICY_FIELDS]
    return [one for one in found if one.origin == "tenant"]


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
