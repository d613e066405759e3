"""Puts the answer together, part by part: one that fails is missing from it, counted and logged, and hides no other."""

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

# No part may hold the database up for longer.
LIMITS = "SET LOCAL statement_timeout = '5s'; SET LOCAL jit = off"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of a scrape, and its content type."""

    body: bytes
    content_type: str


_database_parts: dict[str, Part] = {
    "totals": lanes.collect,
    "lanes": lane_gauges.lanes,
    "breakers": lane_gauges.breakers,
    "workers": lane_gauges.workers,
}
_own_parts: dict[str, Part] = {"processes": web.processes, "web": web.counted}


def take(*, now: datetime, accept: str) -> Answer:
    """Return every metric as they stand at `now`, in the format that the `Accept` header asks for."""
    encode, content_type = choose_encoder(accept)
    return Answer(encode(_Found(collect(now=now))), content_type)


def collect(*, now: datetime) -> list[Metric]:
    """Return the families of every part, each name once."""
    up, found, reachable = family("backstop_scrape_part_up"), [], True
    for name, part in (_database_parts | PARTS).items():
        made = _read(name, part, now) if reachable else _failed(name)
        reachable = reachable and not _is_lost()
        up.add_metric([name], float(made is not None))
        found += made or []
    for name, part in _own_parts.items():
        made = _tried(name, lambda part=part: list(part(now)))  # type: ignore[misc]  # each its own
        up.add_metric([name], float(made is not None))
        found += made or []
    return _merged([*found, up])


def _read(name: str, part: Part, now: datetime) -> list[Metric] | None:
    """Make a part in a transaction of its own, which an error ends."""

    def read() -> list[Metric]:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(LIMITS)
            return list(part(now))

    return _tried(name, read)


def _tried(name: str, make: Callable[[], list[Metric]]) -> list[Metric] | None:
    try:
        return make()
    except Exception as error:  # whatever it is, it is this part's alone
        logger.exception("scrape_failed", extra={"part": name})
        if is_lost(error) and not connection.in_atomic_block:
            connection.close()
        return _failed(name)


def _failed(name: str) -> list[Metric] | None:
    """Count a part that is missing."""
    web.ERRORS.labels(name).inc()
    return None


def _is_lost() -> bool:
    """Whether the database went away: then nobody waits for it once more."""
    return connection.connection is None


def _merged(found: Iterable[Metric]) -> list[Metric]:
    """Return each family once. Where two parts tell of the same, the higher value holds: a later moment, say."""
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


class _Found:
    """What an encoder takes for a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
