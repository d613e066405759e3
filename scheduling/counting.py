"""Counts requests to the cron endpoint in the web process that answers them: the light endpoint has no database.

The pinger sends none. When a job was last pinged is told of its pings too: `scheduling.metrics` reads the database.

A name is a label once an authorised caller has used it, up to `LIMIT` of them; what else comes is `other`. Nothing
that a stranger made up is kept.
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
DURATION = Histogram("backstop_cron_ping_duration_seconds", "How long a request that runs a job took.", buckets=BUCKETS)
LAST = Gauge(
    "backstop_cron_last_ping_timestamp_seconds",
    "When a job was last pinged by somebody who knew the secret.",
    ["job"],
    multiprocess_mode="max",
)


_names: set[str] = set()
# By path, what counts a check of a job that was reached by it before.
reached: dict[str, Callable[[], None]] = {}


def light(*, path: str, found: Answer) -> None:
    """Count a reachability check."""
    with harmless():
        _light(path, found)


def post(*, job: str, result: str, seconds: float | None = None) -> None:
    """Count a ping that asks for a run; with `seconds`, how long that took. A refused one is not the job's last."""
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
        _tell(job)
    return job


def _tell(name: str) -> None:
    """Tell of what an alert is made of before it happens, as 0: else the first time would not be seen to rise."""
    for result in REFUSALS:
        PINGS.labels(name, result)


_tell(OTHER)
