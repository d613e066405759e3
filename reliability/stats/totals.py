"""Reads the totals behind the metrics' counters and histograms.

Figures are summed by the labels that the caller chooses: workflow, or workflow and tenant. Demo data and deleted
workflows are left out.
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
# Writers spread each total over several rows (`shard`), so that they do not wait for each other's lock of one row.
TOTALS = """
SELECT t.name, coalesce(w.slug, e.slug, ''), coalesce(l.tenant, ''), t.label, t.count
FROM (SELECT name, key, lane_id, label, sum(count)::bigint AS count FROM reliability_total GROUP BY 1, 2, 3, 4) AS t
    LEFT JOIN reliability_workflow w ON w.id::text = t.key
    LEFT JOIN reliability_stripeendpoint e ON e.id::text = t.key LEFT JOIN reliability_lane l ON l.id = t.lane_id
WHERE (t.key = '' OR w.id IS NOT NULL OR e.id IS NOT NULL) AND t.key NOT LIKE %s
"""
LANE_LABELS = """
SELECT w.slug, coalesce(l.tenant, 'default') FROM reliability_workflow w
    LEFT JOIN reliability_lane l ON l.workflow_id = w.id
WHERE w.id::text NOT LIKE %s
"""
ENDPOINTS = "SELECT slug, '' FROM reliability_stripeendpoint WHERE id::text NOT LIKE %s"

Labels = tuple[str, ...]
LabelFunction = Callable[[str, str], Labels]


@dataclass(slots=True)
class LaneFigures:
    """The totals of a workflow or lane. Sums are in milliseconds, histogram counts by `LATENCY_EDGES`."""

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
        """The number of attempts by result."""
        return dict(zip(map(str, RESULTS), _added(self.results, [0] * len(RESULTS)), strict=True))


@dataclass(frozen=True, slots=True)
class TotalCount:
    """A total by its labels and its own label (reason, state, …)."""

    labels: Labels
    label: str
    count: int


def lanes(*, label_of: LabelFunction) -> Mapping[Labels, LaneFigures]:
    """Return the totals of all lanes, by the labels that `label_of` returns for a workflow and tenant."""
    found = {place: LaneFigures() for place in lane_labels(label_of=label_of)}
    for slug, tenant, *values in _rows(LANES, [DEMO_PATTERN]):
        found.setdefault(label_of(slug, tenant), LaneFigures()).add(LaneFigures(*values))
    return found


def other_totals(*, label_of: LabelFunction) -> Mapping[str, Sequence[TotalCount]]:
    """Return all other totals by name, each once per label set."""
    sums: dict[str, dict[tuple[Labels, str], int]] = {str(name): {} for name in TotalName}
    for name, slug, tenant, label, count in _rows(TOTALS, [DEMO_PATTERN]):
        place = (slug,) if name == TotalName.STRIPE else label_of(slug, tenant)
        of_name = sums.setdefault(name, {})
        of_name[place, label] = of_name.get((place, label), 0) + count
    return {name: [TotalCount(*key, count) for key, count in found.items()] for name, found in sums.items()}


def lane_labels(*, label_of: LabelFunction) -> list[Labels]:
    """Return the labels of every lane, whether anything was counted or not."""
    return list(dict.fromkeys(label_of(*row) for row in _rows(LANE_LABELS, [DEMO_PATTERN])))


def endpoints() -> list[Labels]:
    """Return the labels of every Stripe endpoint."""
    return [(slug,) for slug, _ in _rows(ENDPOINTS, [DEMO_PATTERN])]


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return [value + (shorter[n] if n < len(shorter) else 0) for n, value in enumerate(longer)]


def _rows(statement: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        yield from cursor.fetchall()
