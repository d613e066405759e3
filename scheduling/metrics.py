"""Metrics of cron jobs: late jobs, and the time of the last ping."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import connection

from reliability.metrics import catalogue
from reliability.metrics.catalogue import MetricSpec
from reliability.models.ids import DEMO_PATTERN

from . import health
from .schedules.times import State

NAME = "cron"
LAST = "backstop_cron_last_ping_timestamp_seconds"
LATE = "backstop_cron_job_late"
NEWEST = """
SELECT j.slug, (SELECT at FROM scheduling_ping WHERE job_id = j.id ORDER BY id DESC LIMIT 1) FROM scheduling_cronjob j
WHERE j.id::text NOT LIKE %s
"""
METRICS = (
    MetricSpec(
        "backstop_cron_pings_total",
        "counter",
        ("job", "result"),
        "Requests to the cron endpoint, by result: ok, forbidden or no_secret of a GET; started, repeated,"
        " skipped, unknown, disabled, error, forbidden or no_secret of a POST. A job that no authorised request has"
        " named yet is other. Backstop's own pinger sends no requests.",
    ),
    MetricSpec(
        "backstop_cron_ping_duration_seconds",
        "histogram",
        (),
        "How long a request that runs a job took.",
    ),
    MetricSpec(
        LAST, "gauge", ("job",), "When a job was last pinged, by the pinger or by a caller who knew the secret."
    ),
    MetricSpec(LATE, "gauge", ("job",), "1 for a job that is late or missing, 0 for any other."),
)


def register() -> None:
    """Make the cron jobs' metrics known, and their part of an answer."""
    catalogue.describe(*METRICS)
    catalogue.register(name=NAME, part=collect)


def collect(now: datetime) -> Iterator[Any]:
    """Return the metrics of cron jobs; two queries."""
    last, late = catalogue.family(LAST), catalogue.family(LATE)
    with connection.cursor() as cursor:
        cursor.execute(NEWEST, [DEMO_PATTERN])
        found = cursor.fetchall()
    worrying = {one.job for one in health.attention(now) if one.state in (State.LATE, State.MISSING)}
    for job, at in found:
        late.add_metric([job], float(job in worrying))
        if at is not None:
            last.add_metric([job], at.timestamp())
    yield last
    yield late
