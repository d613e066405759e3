"""Reads the totals that the metrics are made of.

Every figure is summed up by workflow, and by tenant where that is asked for. What belongs to the demo, or to a
workflow that is no more, is left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from reliability.models import RESULTS, TotalName
from reliability.models.ids import DEMO_PATTERN

LANES = """
SELECT w.slug, coalesce(l.tenant, ''), t.delivered, t.dead, t.retries, t.retries_delivered, t.duration_ms, t.latency_ms,
    t.results, t.durations, t.latencies
FROM reliability_lanetotal t JOIN reliability_workflow w ON w.id = t.workflow_id
    LEFT JOIN reliability_lane l ON l.id = t.lane_id
WHERE w.id::text NOT LIKE %s
"""
TOTALS = """
SELECT t.name, coalesce(w.slug, e.slug, ''), coalesce(l.tenant, ''), t.label, t.count
FROM (SELECT name, key, lane_id, label, sum(count)::bigint AS count FROM reliability_total GROUP BY 1, 2, 3, 4) AS t
    LEFT JOIN reliability_workflow w ON w.id::text = t.key
    LEFT JOIN reliability_stripeendpoint e ON e.id::text = t.key LEFT JOIN reliability_lane l ON l.id = t.lane_id
WHERE (t.key = '' OR w.id IS NOT NULL OR e.id IS NOT NULL) AND t.key NOT LIKE %s
"""
PLACES = """
SELECT w.slug, coalesce(l.tenant, 'default') FROM reliability_workflow w
    LEFT JOIN reliability_lane l ON l.workflow_id = w.id
WHERE w.id::text NOT LIKE %s
"""
ENDPOINTS = "SELECT slug, '' FROM reliability_stripeendpoint WHERE id::text NOT LIKE %s"

Place = tuple[str, ...]
Naming = Callable[[str, str], Place]


@dataclass(slots=True)
class LaneFigures:
    """What one workflow, or one of its lanes, ever did. Sums in milliseconds, counts by `LATENCY_EDGES`."""

    delivered: int = 0
    dead: int = 0
    retries: int = 0
    retries_delivered: int = 0
    duration_ms: int = 0
    latency_ms: int = 0
    results: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    latencies: list[int] = field(default_factory=list)

    def add(self, other: "LaneFigures") -> None:
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, _added(mine, theirs) if isinstance(mine, list) else mine + theirs)

    @property
    def by_result(self) -> dict[str, int]:
        """How many attempts had each result."""
        return dict(zip(map(str, RESULTS), _added(self.results, [0] * len(RESULTS)), strict=True))


@dataclass(frozen=True, slots=True)
class Counted:
    """One of the totals: whose it is, and how much of what."""

    place: Place
    label: str
    count: int


def lanes(*, naming: Naming) -> Mapping[Place, LaneFigures]:
    """Return what the lanes ever did, by the place that `naming` makes of workflow and tenant: every one of them."""
    found = {place: LaneFigures() for place in places(naming=naming)}
    for slug, tenant, *values in _rows(LANES, [DEMO_PATTERN]):
        found.setdefault(naming(slug, tenant), LaneFigures()).add(LaneFigures(*values))
    return found


def others(*, naming: Naming) -> Mapping[str, Sequence[Counted]]:
    """Return all other totals by name, each once for its place and label."""
    sums: dict[str, dict[tuple[Place, str], int]] = {str(name): {} for name in TotalName}
    for name, slug, tenant, label, count in _rows(TOTALS, [DEMO_PATTERN]):
        place = (slug,) if name == TotalName.STRIPE else naming(slug, tenant)
        of_name = sums.setdefault(name, {})
        of_name[place, label] = of_name.get((place, label), 0) + count
    return {name: [Counted(*key, count) for key, count in found.items()] for name, found in sums.items()}


def places(*, naming: Naming) -> list[Place]:
    """Return every place in which something can be counted, whether anything was or not."""
    return list(dict.fromkeys(naming(*row) for row in _rows(PLACES, [DEMO_PATTERN])))


def endpoints() -> list[Place]:
    """Return every endpoint of Stripe."""
    return [(slug,) for slug, _ in _rows(ENDPOINTS, [DEMO_PATTERN])]


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return [value + (shorter[n] if n < len(shorter) else 0) for n, value in enumerate(longer)]


def _rows(statement: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        yield from cursor.fetchall()
