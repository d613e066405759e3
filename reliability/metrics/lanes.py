"""The part of the database's totals: counters and histograms that no restart takes back."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, product
from typing import Any

from prometheus_client.metrics_core import Metric

from reliability.models import LATENCY_EDGES, BreakerState, TotalName
from reliability.policies.error_codes import Reason
from reliability.stats import totals
from reliability.stats.totals import Counted, LaneFigures, Place

from .catalogue import family, place

INSTANCE, UNKNOWN = "_instance", "_unknown"
STRIPE = ("new", "duplicate", "missing", "signature", "stale", "future")
# For which places, and which labels, a total is told even where it is 0.
Expected = tuple[Sequence[Place], Sequence[str]]
EDGES = [*(f"{edge / 1000:.12g}" for edge in LATENCY_EDGES), "+Inf"]


def collect(now: datetime) -> Iterator[Metric]:
    """Return what the lanes ever did, and every other total; four queries.

    What an alert is made of is told before it happens for the first time, as 0: else nothing would seem to rise.
    """
    others, lanes = totals.others(naming=place), totals.lanes(naming=place)
    places = list(lanes)
    yield from _lanes(lanes, others[TotalName.ENDED])
    yield _counted("backstop_dlq_entries", others[TotalName.LETTERS], (places, ["dead"]))
    yield _counted("backstop_dead_letters_total", others[TotalName.DEATHS], (places, list(Reason)))
    transitions = ([*places, place("", "")], list(BreakerState))
    yield _counted("backstop_breaker_transitions_total", others[TotalName.TRANSITIONS], transitions, INSTANCE)
    yield _counted("backstop_n8n_executions_total", others[TotalName.EXECUTIONS], ([], []))
    events = ([*totals.endpoints(), ("",)], STRIPE)
    yield _counted("backstop_stripe_events_total", others[TotalName.STRIPE], events, UNKNOWN)
    expired = family("backstop_dlq_expired_total")
    expired.add_metric([], sum(one.count for one in others[TotalName.EXPIRED]))
    yield expired


def _lanes(lanes: Mapping[Place, LaneFigures], ended: Sequence[Counted]) -> Iterator[Metric]:
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
    """Return what lies below each edge, in seconds."""
    return list(zip(EDGES, accumulate([*counts, *[0] * (len(EDGES) - len(counts))]), strict=True))


def _counted(name: str, found: Sequence[Counted], expected: Expected, nobody: str = "") -> Any:
    """Return a family of totals; `nobody` stands for the workflow or endpoint of what belongs to none."""
    made = family(name)
    for (labels, label), count in _known(found, expected).items():
        made.add_metric([labels[0] or nobody, *labels[1:], label], count)
    return made


def _known(found: Sequence[Counted], expected: Expected) -> dict[tuple[Place, str], int]:
    """Return what was counted, and 0 for what is expected and was not."""
    places, labels = expected
    return dict.fromkeys(product(places, map(str, labels)), 0) | {(one.place, one.label): one.count for one in found}
