"""The metrics of Backstop's own, by their catalogue."""

from importlib import import_module
from importlib.util import find_spec

from .tables import any_of, code, table

ROOM, CATALOGUE = "reliability.metrics", "reliability.metrics.catalogue"
INTRODUCTION = """\
# Metrics, name by name

What `GET /metrics` tells of Backstop itself. Where the figures come from, how to sum them up, and those of
django-prometheus are in [Metrics](../metrics.md).

"""


def page() -> str:
    """Return the page: one table, by name; nothing where there are no metrics."""
    if find_spec(ROOM) is None:
        return ""
    every = sorted(import_module(CATALOGUE).described(), key=lambda one: one.name)
    rows = [(code(one.name), one.kind, any_of(one.labels), one.text) for one in every]
    return INTRODUCTION + table(("metric", "kind", "labels", "meaning"), rows)
