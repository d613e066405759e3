"""Collects the metrics part by part. A part that fails is left out, counted and logged; the others are returned."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from config.database.sqlstates import is_lost

from . import lane_gauges, lanes, web
from .catalogue import PARTS, Part, family

# Bounds each query of a part. JIT compilation would take longer than the queries themselves.
TRANSACTION_LIMITS = "SET LOCAL statement_timeout = '5s'; SET LOCAL jit = off"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a scrape, and its content type."""

    body: bytes
    content_type: str


_database_parts: dict[str, Part] = {
    "totals": lanes.collect,
    "lanes": lane_gauges.lanes,
    "breakers": lane_gauges.breakers,
    "workers": lane_gauges.workers,
}
_own_parts: dict[str, Part] = {"processes": web.processes, "web": web.counted}


def render(*, now: datetime, accept: str) -> Answer:
    """Return all metrics as of `now`, in the format that the `Accept` header asks for."""
    encode, content_type = choose_encoder(accept)
    return Answer(encode(_Families(collect(now=now))), content_type)


def collect(*, now: datetime) -> list[Metric]:
    """Return the families of all parts, each name once."""
    # Once the connection is lost, the other database parts are not tried: each would wait for its timeout.
    up, found, reachable = family("backstop_scrape_part_up"), [], True
    for name, part in (_database_parts | PARTS).items():
        families = _collect_from_database(name, part, now) if reachable else _count_failure(name)
        reachable = reachable and not _is_connection_lost()
        up.add_metric([name], float(families is not None))
        found += families or []
    for name, part in _own_parts.items():
        families = _collect_or_none(name, lambda part=part: list(part(now)))  # type: ignore[misc]  # each its own
        up.add_metric([name], float(families is not None))
        found += families or []
    return _merge([*found, up])


def _collect_from_database(name: str, part: Part, now: datetime) -> list[Metric] | None:
    """Collect a part in a transaction of its own: an error in it leaves the next part's alone."""

    def read() -> list[Metric]:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(TRANSACTION_LIMITS)
            return list(part(now))

    return _collect_or_none(name, read)


def _collect_or_none(name: str, make: Callable[[], list[Metric]]) -> list[Metric] | None:
    try:
        return make()
    except Exception as error:  # any error affects only this part
        logger.exception("scrape_failed", extra={"part": name})
        # A lost connection is closed, so that the next scrape opens another.
        if is_lost(error) and not connection.in_atomic_block:
            connection.close()
        return _count_failure(name)


def _count_failure(name: str) -> list[Metric] | None:
    """Count a failed part; return `None`."""
    web.ERRORS.labels(name).inc()
    return None


def _is_connection_lost() -> bool:
    """Whether the database connection is lost."""
    return connection.connection is None


def _merge(found: Iterable[Metric]) -> list[Metric]:
    """Return each family once. If two parts have the same sample, the higher value is kept, as for a last-ping time."""
    families: dict[str, Metric] = {}
    for one in found:
        known = families.setdefault(one.name, one)
        if known is one:
            continue
        values = {(sample.name, tuple(sorted(sample.labels.items()))): sample for sample in known.samples}
        for sample in one.samples:
            place = (sample.name, tuple(sorted(sample.labels.items())))
            if place not in values or values[place].value < sample.value:
                values[place] = sample
        known.samples = list(values.values())
    return list(families.values())


class _Families:
    """Families with the one method of a registry that encoders call."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
