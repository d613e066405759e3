"""Gauges from the database: backlog, slots, breakers, workers."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client.metrics_core import Metric

from reliability import queue
from reliability.models import BreakerState
from reliability.stats import gauges

from .catalogue import family, lane_labels
from .lanes import INSTANCE

STATES = ("pending", "sending", "awaiting_callback")


def lanes(now: datetime) -> Iterator[Metric]:
    """Return the gauges of lanes, in one query."""
    backlog: dict[tuple[tuple[str, ...], str], int] = defaultdict(int)
    oldest: dict[tuple[str, ...], float] = defaultdict(float)
    in_use: dict[tuple[str, ...], int] = defaultdict(int)
    limits: dict[tuple[str, ...], int] = defaultdict(int)
    for one in gauges.lanes(now=now):
        labels = lane_labels(one.workflow, one.tenant)
        for state in STATES:
            backlog[labels, state] += getattr(one, state)
        age = (now - one.due_at).total_seconds() if one.due_at is not None else 0.0
        oldest[labels] = max(oldest[labels], age)
        in_use[labels] += one.in_use
        limits[labels] += one.limit
    yield _family("backstop_backlog_deliveries", {(*labels, state): n for (labels, state), n in backlog.items()})
    yield _family("backstop_backlog_oldest_seconds", oldest)
    yield _family("backstop_slots_in_use", in_use)
    yield _family("backstop_slots_limit", limits)


def breakers(now: datetime) -> Iterator[Metric]:
    """Return the state of every breaker, in one query."""
    values: dict[tuple[str, ...], float] = {}
    for workflow, tenant, current in gauges.breakers():
        for state in BreakerState:
            values[workflow or INSTANCE, tenant, str(state)] = float(current == state)
    yield _family("backstop_breaker_state", values)


def workers(now: datetime) -> Iterator[Metric]:
    """Return the number of workers that are alive, and their usage, in two queries."""
    yield _family("backstop_workers_alive", {(): queue.workers_alive()})
    found = gauges.workers()
    yield _family("backstop_worker_memory_bytes", {(name,): memory for name, memory, _ in found})
    yield _family("backstop_worker_cpu_seconds_total", {(name,): cpu for name, _, cpu in found})


def _family(name: str, values: Mapping[Any, float]) -> Any:
    made = family(name)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made
