"""The part of the database's totals: counters and histograms that no restart takes back."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from prometheus_client.metrics_core import Metric

from reliability.models import LATENCY_EDGES, TotalName
from reliability.pipeline import totals
from reliability.pipeline.totals import Counted

from .catalogue import family, place

INSTANCE, UNKNOWN = "_instance", "_unknown"
EDGES = [*(f"{edge / 1000:.12g}" for edge in LATENCY_EDGES), "+Inf"]


def collect(now: datetime) -> Iterator[Metric]:
    """Return what the lanes ever did, and every other total; two queries."""
    others = totals.others(naming=place)
    yield from _lanes(others[TotalName.ENDED])
    yield _counted("backstop_dlq_entries", others[TotalName.LETTERS])
    yield _counted("backstop_dead_letters_total", others[TotalName.DEATHS])
    yield _counted("backstop_breaker_transitions_total", others[TotalName.TRANSITIONS], INSTANCE)
    yield _counted("backstop_n8n_executions_total", others[TotalName.EXECUTIONS])
    yield _counted("backstop_stripe_events_total", others[TotalName.STRIPE], UNKNOWN)
    expired = family("backstop_dlq_expired_total")
    expired.add_metric([], sum(one.count for one in others[TotalName.EXPIRED]))
    yield expired


def _lanes(ended: Sequence[Counted]) -> Iterator[Metric]:
    deliveries, attempts = family("backstop_deliveries_total"), family("backstop_attempts_total")
    retries, durations = family("backstop_retries_total"), family("backstop_attempt_duration_seconds")
    latencies = family("backstop_delivery_latency_seconds")
    for labels, one in totals.lanes(naming=place).items():
        deliveries.add_metric([*labels, "delivered"], one.delivered)
        deliveries.add_metric([*labels, "dead"], one.dead)
        for result, count in one.by_result.items():
            attempts.add_metric([*labels, result], count)
        retries.add_metric([*labels, "delivered"], one.retries_delivered)
        retries.add_metric([*labels, "failed"], one.retries - one.retries_delivered)
        durations.add_metric(labels, _buckets(one.durations), one.duration_ms / 1000)
        latencies.add_metric(labels, _buckets(one.latencies), one.latency_ms / 1000)
    for counted in ended:
        deliveries.add_metric([*counted.place, counted.label], counted.count)
    yield from (deliveries, attempts, retries, durations, latencies)


def _buckets(counts: Sequence[int]) -> list[tuple[str, int]]:
    """Return what lies below each edge, in seconds."""
    return list(zip(EDGES, accumulate([*counts, *[0] * (len(EDGES) - len(counts))]), strict=True))


def _counted(name: str, found: Sequence[Counted], nobody: str = "") -> Any:
    """Return a family of totals; `nobody` stands for the workflow or endpoint of what belongs to none."""
    made = family(name)
    for one in found:
        made.add_metric([one.place[0] or nobody, *one.place[1:], one.label], one.count)
    return made
