"""Every metric of Backstop's own: name, type, labels and meaning. docs/reference/metrics.md is generated from it.

Also the registry of parts that other packages add. Workers import this module but are never scraped, so it imports
`prometheus_client`, which takes memory, only where metrics are made.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Part = Callable[[datetime], "Iterable[Metric]"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric. With `by_lane`, it also has the label `tenant` if METRICS_TENANT_LABEL is set."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    by_lane: bool = False

    @property
    def all_labels(self) -> tuple[str, ...]:
        extra = ("tenant",) if self.by_lane and settings.METRICS_TENANT_LABEL else ()
        return (*self.labels[:1], *extra, *self.labels[1:]) if extra else self.labels


_described: dict[str, MetricSpec] = {}
# Parts that other packages read from the database.
PARTS: dict[str, Part] = {}


def describe(*metrics: MetricSpec) -> None:
    """Add metrics to the catalogue."""
    _described.update({one.name: one for one in metrics})


def register(*, name: str, part: Part) -> None:
    """Add a part to every scrape."""
    PARTS[name] = part


def described() -> list[MetricSpec]:
    return list(_described.values())


def family(name: str) -> Any:
    """Return an empty family of a metric."""
    from prometheus_client import metrics_core

    one = _described[name]
    made = getattr(metrics_core, f"{one.kind.capitalize()}MetricFamily")
    return made(one.name.removesuffix("_total"), one.text, labels=one.all_labels)


def lane_labels(workflow: str, tenant: str) -> tuple[str, ...]:
    """Return the label values of a lane."""
    return (workflow, tenant) if settings.METRICS_TENANT_LABEL else (workflow,)


describe(
    MetricSpec(
        "backstop_deliveries_total",
        "counter",
        ("workflow", "outcome"),
        "Deliveries that ended: delivered, dead, cancelled or skipped.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_attempts_total",
        "counter",
        ("workflow", "result"),
        "Attempts by result. callback_timeout and reported_failed are counted in addition to the response.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_retries_total",
        "counter",
        ("workflow", "result"),
        "Second and later attempts by result: delivered or failed.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_attempt_duration_seconds",
        "histogram",
        ("workflow",),
        "Response time of n8n.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_delivery_latency_seconds",
        "histogram",
        ("workflow",),
        "Time from accepting a delivery until it is delivered.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_backlog_deliveries",
        "gauge",
        ("workflow", "state"),
        "Unfinished deliveries by state: pending (counted up to 20,000 per lane), sending, awaiting_callback.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_backlog_oldest_seconds",
        "gauge",
        ("workflow",),
        "Time since the oldest pending delivery was due.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_dlq_entries",
        "gauge",
        ("workflow", "status"),
        "Dead letters in the database, by status.",
        by_lane=True,
    ),
    MetricSpec("backstop_dlq_expired_total", "counter", (), "Dead letters archived after their TTL."),
    MetricSpec(
        "backstop_dead_letters_total",
        "counter",
        ("workflow", "reason"),
        "New dead letters by reason. A replay that fails again counts again.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_breaker_state",
        "gauge",
        ("workflow", "tenant", "state"),
        "1 for the current state of a breaker, 0 for others. That of the n8n instance has the workflow _instance.",
    ),
    MetricSpec(
        "backstop_breaker_transitions_total",
        "counter",
        ("workflow", "to"),
        "State changes of breakers, by new state. Those of the n8n instance have the workflow _instance.",
        by_lane=True,
    ),
    MetricSpec(
        "backstop_slots_in_use",
        "gauge",
        ("workflow",),
        "Slots of the concurrency limit in use, by deliveries in flight and by workflows that hold a slot.",
        by_lane=True,
    ),
    MetricSpec("backstop_slots_limit", "gauge", ("workflow",), "Concurrency limits, summed over lanes.", by_lane=True),
    MetricSpec(
        "backstop_stripe_events_total",
        "counter",
        ("endpoint", "result"),
        "Requests from Stripe: new, duplicate, or the reason for refusing. Unknown endpoints count as _unknown.",
    ),
    MetricSpec(
        "backstop_n8n_executions_total",
        "counter",
        ("workflow", "status"),
        "Executions that n8n or its workflows reported, counted with each change of status.",
        by_lane=True,
    ),
    MetricSpec("backstop_workers_alive", "gauge", (), "Workers with a heartbeat in the last 30 seconds."),
    MetricSpec("backstop_worker_memory_bytes", "gauge", ("worker",), "Resident memory of a worker."),
    MetricSpec("backstop_worker_cpu_seconds_total", "counter", ("worker",), "CPU time used by a worker."),
    MetricSpec("process_resident_memory_bytes", "gauge", ("pid",), "Resident memory of a web process of this host."),
    MetricSpec("process_cpu_seconds_total", "counter", ("pid",), "CPU time used by a web process of this host."),
    MetricSpec("backstop_build_info", "gauge", ("version",), "Always 1; the label is the running version."),
    MetricSpec(
        "backstop_scrape_part_up",
        "gauge",
        ("part",),
        "1 for a part of this scrape that succeeded, 0 for one that failed.",
    ),
    MetricSpec(
        "backstop_http_refused_total",
        "counter",
        ("reason",),
        "Requests that were refused or cut off before they were handled, by reason: see docs/proxy.md.",
    ),
    MetricSpec("backstop_scrape_errors_total", "counter", ("part",), "Failed parts of scrapes."),
)
