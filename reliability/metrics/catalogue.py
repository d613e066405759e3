"""Every metric of Backstop's own: its name, type, labels and meaning. docs/reference/metrics.md is made of it.

Also the parts that other rooms add. `prometheus_client` is loaded by those who are scraped, and by no worker.
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
class Described:
    """A metric. `by_lane`: its label `workflow` is joined by `tenant` where METRICS_TENANT_LABEL says so."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    by_lane: bool = False

    @property
    def all_labels(self) -> tuple[str, ...]:
        extra = ("tenant",) if self.by_lane and settings.METRICS_TENANT_LABEL else ()
        return (*self.labels[:1], *extra, *self.labels[1:]) if extra else self.labels


_described: dict[str, Described] = {}
# What other rooms read from the database for an answer.
PARTS: dict[str, Part] = {}


def describe(*metrics: Described) -> None:
    """Add metrics to the catalogue."""
    _described.update({one.name: one for one in metrics})


def register(*, name: str, part: Part) -> None:
    """Add a part to every answer."""
    PARTS[name] = part


def described() -> list[Described]:
    return list(_described.values())


def family(name: str) -> Any:
    """Return an empty family of the metric of that name."""
    from prometheus_client import metrics_core

    one = _described[name]
    made = getattr(metrics_core, f"{one.kind.capitalize()}MetricFamily")
    return made(one.name.removesuffix("_total"), one.text, labels=one.all_labels)


def place(workflow: str, tenant: str) -> tuple[str, ...]:
    """Return the label values of a lane."""
    return (workflow, tenant) if settings.METRICS_TENANT_LABEL else (workflow,)


describe(
    Described(
        "backstop_deliveries_total",
        "counter",
        ("workflow", "outcome"),
        "Deliveries that ended: delivered, dead, cancelled or skipped.",
        by_lane=True,
    ),
    Described(
        "backstop_attempts_total",
        "counter",
        ("workflow", "result"),
        "Attempts by result. callback_timeout and reported_failed come on top of an attempt's answer.",
        by_lane=True,
    ),
    Described(
        "backstop_retries_total",
        "counter",
        ("workflow", "result"),
        "Attempts from the second on, once it is known how they went: delivered or failed.",
        by_lane=True,
    ),
    Described(
        "backstop_attempt_duration_seconds",
        "histogram",
        ("workflow",),
        "How long n8n took to answer a request.",
        by_lane=True,
    ),
    Described(
        "backstop_delivery_latency_seconds",
        "histogram",
        ("workflow",),
        "From accepted to delivered.",
        by_lane=True,
    ),
    Described(
        "backstop_backlog_deliveries",
        "gauge",
        ("workflow", "state"),
        "Deliveries not yet ended: pending (up to 20,000 a lane), sending, awaiting_callback.",
        by_lane=True,
    ),
    Described(
        "backstop_backlog_oldest_seconds",
        "gauge",
        ("workflow",),
        "For how long the oldest pending delivery has been due.",
        by_lane=True,
    ),
    Described(
        "backstop_dlq_entries",
        "gauge",
        ("workflow", "status"),
        "Dead letters that the table holds, by status.",
        by_lane=True,
    ),
    Described("backstop_dlq_expired_total", "counter", (), "Dead letters that outlived their TTL and were archived."),
    Described(
        "backstop_dead_letters_total",
        "counter",
        ("workflow", "reason"),
        "What ever died, each time that it did, by reason.",
        by_lane=True,
    ),
    Described(
        "backstop_breaker_state",
        "gauge",
        ("workflow", "tenant", "state"),
        "1 for the state a breaker is in, 0 for the others. The n8n instance's has the workflow _instance.",
    ),
    Described(
        "backstop_breaker_transitions_total",
        "counter",
        ("workflow", "to"),
        "Changes of breakers, by their new state. The n8n instance's have the workflow _instance.",
        by_lane=True,
    ),
    Described(
        "backstop_slots_in_use",
        "gauge",
        ("workflow",),
        "Places of the concurrency limit that are taken: by deliveries in flight, and by workflows within n8n.",
        by_lane=True,
    ),
    Described("backstop_slots_limit", "gauge", ("workflow",), "Places that there are, over all lanes.", by_lane=True),
    Described(
        "backstop_stripe_events_total",
        "counter",
        ("endpoint", "result"),
        "Requests of Stripe: new, duplicate, or why one was refused. An endpoint that nobody knows is _unknown.",
    ),
    Described(
        "backstop_n8n_executions_total",
        "counter",
        ("workflow", "status"),
        "Executions that n8n or its workflows reported, each time that their status was another.",
        by_lane=True,
    ),
    Described("backstop_workers_alive", "gauge", (), "Workers that gave a sign of life within 30 seconds."),
    Described("backstop_worker_memory_bytes", "gauge", ("worker",), "Resident memory of a worker."),
    Described("backstop_worker_cpu_seconds_total", "counter", ("worker",), "CPU time that a worker has used."),
    Described("process_resident_memory_bytes", "gauge", ("pid",), "Resident memory of a web process of this host."),
    Described("process_cpu_seconds_total", "counter", ("pid",), "CPU time that a web process of this host has used."),
    Described("backstop_build_info", "gauge", ("version",), "1, for the version that answers."),
    Described(
        "backstop_scrape_part_up", "gauge", ("part",), "1 for a part of this answer that was made, 0 for a failed."
    ),
    Described(
        "backstop_http_refused_total",
        "counter",
        ("reason",),
        "Requests that were refused or cut off before they were answered as asked, by reason: see docs/proxy.md.",
    ),
    Described("backstop_scrape_errors_total", "counter", ("part",), "Parts of answers that failed."),
)
