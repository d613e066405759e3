"""Requests by view and queries by connection, under django-prometheus's names, in web processes only.

Of its many metrics only those are kept that are useful for a service without public pages, and each request finds its
own at once: the API's hot path pays for a handful of additions. Queries are measured by a wrapper that Django itself
calls, so the database engine needs no subclass for it.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponseBase
from django_prometheus import middleware
from django_prometheus.conf import NAMESPACE
from django_prometheus.db import connections_total, errors_total, query_duration_seconds
from prometheus_client import Counter, Histogram

from reliability.metrics.multiprocess import harmless

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_VIEW = "<unnamed view>"


class Metrics(middleware.Metrics):  # type: ignore[misc]  # it comes without types
    """Those of django-prometheus's metrics that are kept."""

    def register(self) -> None:
        labels = ["status", "view", "method"]
        text = "Total count of responses by status, view, method."
        self.responses = self._make(Counter, "django_http_responses_total_by_status_view_method", text, labels)
        text = "Histogram of request processing time labelled by view."
        name = "django_http_requests_latency_seconds_by_view_method"
        self.latencies = self._make(Histogram, name, text, labels[1:], buckets=BUCKETS)
        text = "Count of exceptions by view."
        self.exceptions = self._make(Counter, "django_http_exceptions_total_by_view", text, labels[1:2])

    def _make(self, kind: Any, name: str, text: str, labels: list[str], **options: Any) -> Any:
        return self.register_metric(kind, name, text, labels, namespace=NAMESPACE, **options)


metrics = Metrics.get_instance()


@lru_cache(maxsize=1024)
def _counting(view: str, method: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
    """Return what counts a response, and what takes its time. Views, methods and statuses are few."""
    counts = metrics.responses.labels(str(status), view, method)
    return counts.inc, metrics.latencies.labels(view, method).observe


def count(*, view: str, method: str, status: int, seconds: float) -> None:
    """Count an answered request."""
    with harmless():
        add, take = _counting(view, method if method in METHODS else "<invalid method>", status)
        add()
        take(seconds)


class MeasuringMiddleware:
    """Counts and times requests by view, and starts the measuring of queries."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        # Connected here, not when the module is imported: Django's checks import every middleware in every process,
        # and a worker, whose metrics nobody reads, would pay for measuring each statement.
        connection_created.connect(measure, dispatch_uid="backstop.measuring")

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        response = self.get_response(request)
        took = time.perf_counter() - began
        count(view=_view(request), method=request.method or "", status=response.status_code, seconds=took)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        with harmless():
            metrics.exceptions.labels(_view(request)).inc()


def _view(request: HttpRequest) -> str:
    match = request.resolver_match
    return match.view_name or NO_VIEW if match is not None else NO_VIEW


class Queries:
    """The wrapper that Django calls around each statement of a connection."""

    def __init__(self, alias: str, vendor: str) -> None:
        self.labels = {"alias": alias, "vendor": vendor}
        self.take = query_duration_seconds.labels(**self.labels).observe

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        except Exception as error:
            with harmless():
                errors_total.labels(**self.labels, type=type(error).__name__).inc()
            raise
        finally:
            self.take(time.perf_counter() - began)


def measure(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Measure a connection from now on."""
    connections_total.labels(connection.alias, connection.vendor).inc()
    if not any(isinstance(one, Queries) for one in connection.execute_wrappers):
        connection.execute_wrappers.append(Queries(connection.alias, connection.vendor))
