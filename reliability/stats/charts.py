"""The charts of a time range, from the roll-ups: dead letters by reason, deliveries by outcome, latency."""

import enum
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from reliability.models import LATENCY_EDGES, Grain
from reliability.policies import histogram
from reliability.policies.error_codes import Reason, reason_label

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATENCY = ", ".join(f"sum(latency[{place}])" for place in range(1, len(LATENCY_EDGES) + 2))
ROLLUPS = f"""
SELECT date_bin(%(step)s, at, %(start)s), sum(delivered), sum(dead), sum(attempts), sum(failures), {_LATENCY}
FROM reliability_rollup
WHERE grain = %(grain)s AND at >= %(start)s AND (%(lanes)s::int[] IS NULL OR lane_id = ANY(%(lanes)s::int[]))
GROUP BY 1
"""  # noqa: S608  # our own text
# Reads the previous range, too, for the comparison.
DEATHS = """
SELECT date_bin(%(step)s, at, %(start)s), reason, sum(count) FROM reliability_deathrollup
WHERE grain = %(grain)s AND at >= %(before)s AND (%(lanes)s::int[] IS NULL OR lane_id = ANY(%(lanes)s::int[]))
GROUP BY 1, 2
"""


class Range(enum.StrEnum):
    """A time range up to now. Its last step is the current one, which is not complete."""

    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def step(self) -> timedelta:
        return _STEPS[self][0]

    @property
    def steps(self) -> int:
        return _STEPS[self][1]

    @property
    def span(self) -> timedelta:
        return self.step * self.steps

    @property
    def grain(self) -> Grain:
        return Grain.MINUTE if self.step < timedelta(hours=1) else Grain.HOUR

    def start(self, *, now: datetime) -> datetime:
        """Return the start of the first step. Steps begin at multiples of their length, as `date_bin` cuts them."""
        begun = EPOCH + (now - EPOCH) // self.step * self.step
        return begun - self.step * (self.steps - 1)


_STEPS = {
    Range.HOUR: (timedelta(minutes=1), 60),
    Range.SIX_HOURS: (timedelta(minutes=5), 72),
    Range.DAY: (timedelta(hours=1), 24),
    Range.WEEK: (timedelta(hours=3), 56),
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """One line of a chart: a value for each label, `None` where there is no data."""

    key: str
    label: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same labels, each the start of a step."""

    labels: Sequence[datetime]
    datasets: Sequence[Dataset]

    @property
    def is_empty(self) -> bool:
        return not any(value for one in self.datasets for value in one.values)


@dataclass(frozen=True, slots=True)
class Series:
    """A range's charts and sums. Latencies are in milliseconds; `died_before` is the sum of the previous range."""

    deaths: Chart
    outcomes: Chart
    latency: Chart
    delivered: int
    failed: int
    died: int
    died_before: int


@dataclass(slots=True)
class _Sums:
    delivered: dict[datetime, int] = field(default_factory=dict)
    dead: dict[datetime, int] = field(default_factory=dict)
    p50: dict[datetime, float | None] = field(default_factory=dict)
    p95: dict[datetime, float | None] = field(default_factory=dict)


def load(*, now: datetime, range_: Range, lanes: Sequence[int] | None = None) -> Series:
    """Load the charts of a range, for all lanes or for these, in two queries."""
    start = range_.start(now=now)
    labels = [start + range_.step * n for n in range(range_.steps)]
    values = {
        "step": range_.step,
        "start": start,
        "before": start - range_.span,
        "grain": str(range_.grain),
        "lanes": list(lanes) if lanes is not None else None,
    }
    sums = _figures(values)
    deaths, before = _deaths(values, start)
    outcomes = [_counts("delivered", "Delivered", sums.delivered, labels), _counts("dead", "Failed", sums.dead, labels)]
    latency = [_curve("p50", "p50", sums.p50, labels), _curve("p95", "p95", sums.p95, labels)]
    by_reason = [_counts(reason, _label(reason), deaths[reason], labels) for reason in _ordered(deaths)]
    return Series(
        deaths=Chart(labels, by_reason),
        outcomes=Chart(labels, outcomes),
        latency=Chart(labels, latency),
        delivered=sum(sums.delivered.values()),
        failed=sum(sums.dead.values()),
        died=sum(sum(one.values()) for one in deaths.values()),
        died_before=before,
    )


def _figures(values: dict[str, Any]) -> _Sums:
    sums = _Sums()
    for at, delivered, dead, _, _, *buckets in _rows(ROLLUPS, values):
        counts = [count or 0 for count in buckets]
        sums.delivered[at], sums.dead[at] = delivered, dead
        sums.p50[at] = histogram.quantile(counts=counts, edges=LATENCY_EDGES, share=0.5)
        sums.p95[at] = histogram.quantile(counts=counts, edges=LATENCY_EDGES, share=0.95)
    return sums


def _deaths(values: dict[str, Any], start: datetime) -> tuple[dict[str, dict[datetime, int]], int]:
    """Return new dead letters by reason and step, and their number in the previous range."""
    found: dict[str, dict[datetime, int]] = defaultdict(dict)
    before = 0
    for at, reason, count in _rows(DEATHS, values):
        if at < start:
            before += count
        else:
            found[reason][at] = count
    return found, before


def _ordered(deaths: dict[str, dict[datetime, int]]) -> list[str]:
    """Return the reasons in the order of `Reason`, so that each keeps its colour."""
    known = [str(one) for one in Reason]
    return sorted(deaths, key=lambda one: (known.index(one) if one in known else len(known), one))


def _label(reason: str) -> str:
    return reason_label(reason) or reason or "Unknown"


def _counts(key: str, label: str, found: dict[datetime, int], labels: Sequence[datetime]) -> Dataset:
    return Dataset(key, label, [found.get(at, 0) for at in labels])


def _curve(key: str, label: str, found: dict[datetime, float | None], labels: Sequence[datetime]) -> Dataset:
    return Dataset(key, label, [None if (value := found.get(at)) is None else round(value) for at in labels])


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
