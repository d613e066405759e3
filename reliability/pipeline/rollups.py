"""What the charts are drawn from, kept by the transactions that settle deliveries.

One statement counts in a lane's minute and in its hour. Whoever counts holds the lane's lock, so that nobody waits
for a row here. How many died for which reason is counted by the database itself (migration 0011).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from reliability.models import LATENCY_EDGES
from reliability.policies import histogram

COUNT = """
INSERT INTO reliability_rollup AS r (grain, at, lane_id, delivered, dead, attempts, failures, latency)
SELECT t.grain, t.at, %(lane)s, %(delivered)s, %(dead)s, %(attempts)s, %(failures)s, %(latency)s::int[]
FROM (VALUES ('minute', %(minute)s::timestamptz), ('hour', %(hour)s::timestamptz)) AS t(grain, at)
ON CONFLICT (grain, at, lane_id) DO UPDATE SET
    delivered = r.delivered + excluded.delivered, dead = r.dead + excluded.dead,
    attempts = r.attempts + excluded.attempts, failures = r.failures + excluded.failures,
    latency = CASE WHEN excluded.delivered = 0 THEN r.latency ELSE ARRAY(
        SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(r.latency, excluded.latency) WITH ORDINALITY AS t(a, b, place) ORDER BY place
    ) END
"""


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened in a lane: deliveries that ended, and attempts. `latencies` of the delivered, in milliseconds."""

    delivered: int = 0
    dead: int = 0
    attempts: int = 0
    failures: int = 0
    latencies: Sequence[float] = ()


def count(*, lane_id: int, tally: Tally, now: datetime) -> None:
    """Count what happened at `now`, under the lane's lock."""
    minute = now.replace(second=0, microsecond=0)
    values: dict[str, Any] = {
        "lane": lane_id,
        "minute": minute,
        "hour": minute.replace(minute=0),
        "delivered": tally.delivered,
        "dead": tally.dead,
        "attempts": tally.attempts,
        "failures": tally.failures,
        "latency": histogram.count(values=tally.latencies, edges=LATENCY_EDGES) if tally.latencies else [],
    }
    with connection.cursor() as cursor:
        cursor.execute(COUNT, values)


def latency(*, since: datetime, now: datetime) -> float:
    """Return milliseconds from accepted to delivered."""
    return max(0.0, (now - since).total_seconds() * 1000)
