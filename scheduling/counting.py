"""Counts requests to the cron endpoint in the web process that answers them: the light endpoint has no database.

The pinger sends no requests; `scheduling.metrics` reads the time of its last pings from the database.

A job name becomes a label when an authorised caller has used it, for up to `LIMIT` names; the others are `other`. So
strangers cannot create labels.
"""

import time
from collections.abc import Callable
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from reliability.metrics.multiprocess import harmless, not_counted

from .light import FORBIDDEN, REACHABLE, Answer

LIMIT = 100
OTHER = "other"
REFUSALS = ("forbidden", "no_secret", "error")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

PINGS = Counter("backstop_cron_pings_total", "Requests to the cron endpoint, by result.", ["job", "result"])
DURATION = Histogram("backstop_cron_ping_duration_seconds", "Duration of requests that run a job.", buckets=BUCKETS)
LAST = Gauge(
    "backstop_cron_last_ping_timestamp_seconds",
    "Time of the last authorised ping of a job.",
    ["job"],
    multiprocess_mode="max",
)


_names: set[str] = set()
# By path, the counter of a job that an authorised caller has reached by it.
reached: dict[str, Callable[[], None]] = {}


def light(*, path: str, found: Answer) -> None:
    """Count a reachability check."""
    with harmless():
        _light(path, found)


def post(*, job: str, result: str, seconds: float | None = None) -> None:
    """Count a ping that asks for a run, with its duration if given. A refused one does not count as the last ping."""
    refused = result in ("forbidden", "no_secret", "unknown")
    with harmless():
        name = job if job in _names else OTHER if refused else _name(job)
        PINGS.labels(name, result).inc()
        if not refused:
            LAST.labels(name).set(time.time())
        if seconds is not None:
            DURATION.observe(seconds)


def _light(path: str, found: Answer) -> None:
    job = path.strip("/").rpartition("/")[2]
    if found is not REACHABLE:
        name = job if job in _names else OTHER
        PINGS.labels(name, "forbidden" if found is FORBIDDEN else "no_secret").inc()
        return
    name = _name(job)
    count: Callable[[], None] = partial(_count_reached, PINGS.labels(name, "ok"), LAST.labels(name))
    if name != OTHER:  # at most `LIMIT` names, so that `reached` stays small
        count = reached.setdefault(path, count)
    count()


def _count_reached(pings: Counter, last: Gauge) -> None:
    """Count a check of a job that was reached. `config.wsgi` calls this directly for the usual check."""
    # A `try` costs nothing without an error; `harmless` would add a microsecond to each check.
    try:
        pings.inc()
        last.set(time.time())
    except (OSError, ValueError) as error:  # the latter: the file of the counts was closed
        not_counted(error)


def _name(job: str) -> str:
    """Return the label of a job that an authorised caller names."""
    if job not in _names:
        if len(_names) >= LIMIT:
            return OTHER
        _names.add(job)
        _create_series(job)
    return job


def _create_series(name: str) -> None:
    """Create the series of an alert with 0: Prometheus cannot see an increase of a series that begins at 1."""
    for result in REFUSALS:
        PINGS.labels(name, result)


_create_series(OTHER)
