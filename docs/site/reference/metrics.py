"""The metrics that an answer of `/metrics` has: Backstop's own by their catalogue, then those of django-prometheus."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

from .tables import any_of, code, table

ROOM, CATALOGUE = "reliability.metrics", "reliability.metrics.catalogue"
HEADS = ("metric", "kind", "labels", "meaning")
INTRODUCTION = """\
# Metrics

What `GET /metrics` tells, by name. How to scrape it, whose figures these are, how to sum them up and what to ask first
is in [Scrape the metrics](../metrics.md).

## Backstop's own

"""
REQUESTS = """
## Requests and queries

Under django-prometheus's names, of the web processes of one host. A view is known by its name, never by a path;
Stripe's webhooks are `stripe-webhook`. The light endpoint is none: `backstop_cron_pings_total` counts it.

"""


def page() -> str:
    """Return the page: a table by name for each of the two; nothing where there are no metrics."""
    if find_spec(ROOM) is None:
        return ""
    every = sorted(import_module(CATALOGUE).described(), key=lambda one: one.name)
    rows = [(code(one.name), one.kind, any_of(one.labels), one.text) for one in every]
    return INTRODUCTION + table(HEADS, rows) + REQUESTS + table(HEADS, sorted(_measured()))


def _measured() -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of what web processes measure of requests and queries."""
    from django_prometheus import db

    from config import measuring

    of_requests = (measuring.metrics.responses, measuring.metrics.latencies, measuring.metrics.exceptions)
    of_queries = (db.query_duration_seconds, db.errors_total, db.connections_total)
    for one in (*of_requests, *of_queries):
        (told,) = one.describe()
        name = f"{told.name}_total" if told.type == "counter" else told.name
        yield code(name), told.type, any_of(one._labelnames), told.documentation
