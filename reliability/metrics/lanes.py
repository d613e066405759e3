"""Counters and histograms from totals in the database, which no restart resets."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, product
from typing import Any

from prometheus_client.metrics_core import Metric

from reliability.models import LATENCY_EDGES, BreakerState, TotalName
from reliability.policies.error_codes import Reason
from reliability.stats import totals
from reliability.stats.totals import Labels, LaneFigures, TotalCount

from .catalogue import family, lane_labels

INSTANCE, UNKNOWN = "_instance", "_unknown"
STRIPE = ("new", "duplicate", "missing", "signature", "stale", "future")
# The label sets and labels of a total that are exported even while they are 0.
Expected = tuple[Sequence[Labels], Sequence[str]]
EDGES = [*(f"{edge / 1000:.12g}" for edge in LATENCY_EDGES), "+Inf"]


def collect(now: datetime) -> Iterator[Metric]:
    """Return the totals of lanes, and all others, in four queries.

    Series that alerts use are exported as 0 before their first event: Prometheus's `increase()` would miss the first
    event of a series that begins with 1.
    """
    other_totals, lanes = totals.other_totals(label_of=lane_labels), totals.lanes(label_of=lane_labels)
    labels_of_lanes = list(lanes)
    yield from _lanes(lanes, other_totals[TotalName.ENDED])
    yield _counted("backstop_dlq_entries", other_totals[TotalName.LETTERS], (labels_of_lanes, ["dead"]))
    yield _counted("backstop_dead_letters_total", other_totals[TotalName.DEATHS], (labels_of_lanes, list(Reason)))
    transitions = ([*labels_of_lanes, lane_labels("", "")], list(BreakerState))
    yield _counted("backstop_breaker_transitions_total", other_totals[TotalName.TRANSITIONS], transitions, INSTANCE)
    yield _counted("backstop_n8n_executions_total", other_totals[TotalName.EXECUTIONS], ([], []))
    events = ([*totals.endpoints(), ("",)], STRIPE)
    yield _counted("backstop_stripe_events_total", other_totals[TotalName.STRIPE], events, UNKNOWN)
    # Without labels, so that it is summed here.
    expired = family("backstop_dlq_expired_total")
    expired.add_metric([], sum(one.count for one in other_totals[TotalName.EXPIRED]))
    yield expired


def _lanes(lanes: Mapping[Labels, LaneFigures], ended: Sequence[TotalCount]) -> Iterator[Metric]:
    deliveries, attempts = family("backstop_deliveries_total"), family("backstop_attempts_total")
    retries, durations = family("backstop_retries_total"), family("backstop_attempt_duration_seconds")
    latencies = family("backstop_delivery_latency_seconds")
    for labels, one in lanes.items():
        deliveries.add_metric([*labels, "delivered"], one.delivered)
        deliveries.add_metric([*labels, "dead"], one.dead)
        for result, count in one.by_result.items():
            attempts.add_metric([*labels, result], count)
        retries.add_metric([*labels, "delivered"], one.retries_delivered)
        retries.add_metric([*labels, "failed"], one.retries - one.retries_delivered)
        durations.add_metric(labels, _buckets(one.durations), one.duration_ms / 1000)
        latencies.add_metric(labels, _buckets(one.latencies), one.latency_ms / 1000)
    for (labels, state), count in _known(ended, (list(lanes), ["cancelled", "skipped"])).items():
        deliveries.add_metric([*labels, state], count)
    yield from (deliveries, attempts, retries, durations, latencies)


def _buckets(counts: Sequence[int]) -> list[tuple[str, int]]:
    """Return cumulative counts by upper edge in seconds, as Prometheus wants histograms."""
    return list(zip(EDGES, accumulate([*counts, *[0] * (len(EDGES) - len(counts))]), strict=True))


def _counted(name: str, found: Sequence[TotalCount], expected: Expected, default_label: str = "") -> Any:
    """Return a family of totals; `default_label` replaces an empty workflow or endpoint."""
    made = family(name)
    for (labels, label), count in _known(found, expected).items():
        made.add_metric([labels[0] or default_label, *labels[1:], label], count)
    return made


def _known(found: Sequence[TotalCount], expected: Expected) -> dict[tuple[Labels, str], int]:
    """Return the counts, with 0 for expected labels that have none."""
    label_sets, own_labels = expected
    zeros = dict.fromkeys(product(label_sets, map(str, own_labels)), 0)
    return zeros | {(one.labels, one.label): one.count for one in found}
