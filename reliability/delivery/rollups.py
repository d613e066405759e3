"""Counts what happens in a lane, for the charts and the metrics, in the transactions that settle deliveries.

One statement (`sql/add_results.sql`) adds to the lane's total, its minute and its hour. The caller holds the lane's
lock, so nobody waits for a row here. Failures by reason, and cancelled or skipped deliveries, are counted by
triggers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from reliability.models import LATENCY_EDGES, RESULTS
from reliability.policies import histogram

COUNT = "SELECT backstop_add_results(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened in a lane: deliveries that ended, and attempts.

    `retries` are attempts from the second on whose result is known now. `results` counts attempts by result.
    `latencies` of delivered ones and `durations` of requests are in milliseconds.
    """

    delivered: int = 0
    dead: int = 0
    attempts: int = 0
    failures: int = 0
    retries: int = 0
    retries_delivered: int = 0
    latencies: Sequence[float] = ()
    durations: Sequence[float] = ()
    results: Mapping[str, int] = field(default_factory=Counter)


def count(*, lane_id: int, tally: Tally, now: datetime) -> None:
    """Count what happened at `now`, under the lane's lock."""
    values: list[Any] = [
        lane_id,
        now,
        tally.delivered,
        tally.dead,
        tally.attempts,
        tally.failures,
        tally.retries,
        tally.retries_delivered,
        [tally.results.get(one, 0) for one in RESULTS] if tally.results else [],
        _buckets(tally.durations),
        round(sum(tally.durations)),
        _buckets(tally.latencies),
        round(sum(tally.latencies)),
    ]
    with connection.cursor() as cursor:
        cursor.execute(COUNT, values)


def _buckets(values: Sequence[float]) -> list[int]:
    return histogram.count(values=values, edges=LATENCY_EDGES) if values else []


def latency(*, since: datetime, now: datetime) -> float:
    """Return milliseconds from accepted to delivered."""
    # Both are the database's, but a clock that was set back must not make it negative.
    return max(0.0, (now - since).total_seconds() * 1000)
