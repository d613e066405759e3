"""Traces by OpenTelemetry, where its own environment variables ask for them; nothing else imports this, or that.

    server span of a request -> "accept" -> "attempt", in a worker, minutes or days later -> n8n, by `traceparent`

A delivery keeps its accept span's `traceparent`, so that every attempt, those of replays included, is in the trace of
what triggered it. A span says which and how, never what: no payload, no header, no query of an address.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from reliability.core import request_context
from reliability.core.request_context import RequestContext
from reliability.lanes.messages import Claim, Sent
from reliability.policies.classification import Outcome

from .entrance import Application, Start

HEALTH = frozenset({"/healthz", "/readyz", "/metrics"})
# What the instrumentation of WSGI notes with the query in it, by its old names and its new ones.
WITH_QUERY = ("http.target", "http.url", "url.query", "url.full")

_tracer = trace.get_tracer("backstop")
_context = TraceContextTextMapPropagator()


def install(*, exporter: str) -> None:
    """Send spans to `otlp` or to the `console`, and have accepting and sending make them."""
    from reliability.delivery import intake, sending
    from reliability.stripe import ledger
    from scheduling import jobs

    provider = TracerProvider(resource=_resource())
    provider.add_span_processor(BatchSpanProcessor(Wordless(_exporter(exporter))))
    trace.set_tracer_provider(provider)
    intake.accept = _accepting(intake.accept)
    intake.accept_by_key = _accepting_by_key(intake.accept_by_key)
    ledger.receive = _receiving(ledger.receive)
    jobs.ping = _pinging(jobs.ping)
    sending.send = _sending(sending.send)


def _resource() -> Resource:
    """Return what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say we are, else `backstop`."""
    found = Resource.create()
    unnamed = str(found.attributes[SERVICE_NAME]).startswith("unknown_service")
    return found.merge(Resource({SERVICE_NAME: "backstop"})) if unnamed else found


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


class Wordless(SpanExporter):
    """Leaves out what an error said before anybody could look at it: the database quotes rows. Its kind stays."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_without_words(one) for one in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _without_words(span: ReadableSpan) -> ReadableSpan:
    if not span.events and not span.status.description:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[Event(one.name, _kind(one.attributes), one.timestamp) for one in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _kind(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if name == "exception.type"}


def served(application: Application) -> Application:
    """Make a span of each request and of each statement it makes, but not of those that only ask how we are."""
    PsycopgInstrumentor().instrument(skip_dep_check=True)
    inner = OpenTelemetryMiddleware(application, request_hook=_without_query)

    def answer(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        chosen = application if environ["PATH_INFO"] in HEALTH else inner
        return chosen(environ, start_response)

    return answer


def _without_query(span: Span, environ: Mapping[str, Any]) -> None:
    attributes = getattr(span, "attributes", None) or {}
    for name in WITH_QUERY:
        if name in attributes:
            span.set_attribute(name, "" if name == "url.query" else environ["PATH_INFO"])
    span.set_attribute("backstop.request_id", request_context.request_id())


def _begin(name: str, kind: SpanKind, *, context: Context | None = None, **attributes: Any) -> Any:
    named = {f"backstop.{key}": value for key, value in attributes.items()}
    return _tracer.start_as_current_span(name, context=context, kind=kind, attributes=named)


def _traceparent() -> str:
    """Return the present span's place, as the header says it."""
    carrier: dict[str, str] = {}
    _context.inject(carrier)
    return carrier.get("traceparent", "")


def _placed() -> AbstractContextManager[RequestContext]:
    """Let what is kept now come from the present span."""
    found = request_context.current() or RequestContext("")
    found.traceparent = _traceparent()
    return request_context.within(found)


def _accepting(accept: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*, triggers: Sequence[Any], now: datetime) -> Any:
        first = {"workflow": triggers[0].workflow, "tenant": triggers[0].tenant} if triggers else {}
        with _begin("accept", SpanKind.PRODUCER, count=len(triggers), **first) as span, _placed():
            made = accept(triggers=triggers, now=now)
            span.set_attribute("backstop.created", sum(one.created for one in made))
            if len(made) == 1:
                span.set_attribute("backstop.delivery", str(made[0].delivery.pk))
            return made

    return traced


def _accepting_by_key(accept: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*, trigger: Any, **values: Any) -> Any:
        with _begin("accept", SpanKind.PRODUCER, count=1, workflow=trigger.workflow) as span, _placed():
            kept = accept(trigger=trigger, **values)
            if kept is None:
                span.update_name("accept_tried")  # the view accepts it then, or says what is wrong
                return None
            delivery, whose = kept
            found = {"tenant": whose.tenant, "delivery": str(delivery.pk), "created": 1}
            span.set_attributes({f"backstop.{name}": value for name, value in found.items()})
            return kept

    return traced


def _receiving(receive: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*, arrival: Any, now: datetime) -> Any:
        with _begin("accept", SpanKind.PRODUCER, stripe_endpoint=arrival.slug) as span, _placed():
            kept = receive(arrival=arrival, now=now)
            span.set_attribute("backstop.duplicate", kept.duplicate)
            return kept

    return traced


def _pinging(ping: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*, slug: str, **values: Any) -> Any:
        with _begin("accept", SpanKind.PRODUCER, cron_job=slug) as span, _placed():
            ran = ping(slug=slug, **values)
            span.set_attribute("backstop.count", len(ran.deliveries))
            return ran

    return traced


def _sending(send: Callable[..., Sent]) -> Callable[..., Sent]:
    def traced(claim: Claim, *, started_at: datetime) -> Sent:
        parent = _context.extract({"traceparent": claim.traceparent})
        with _begin("attempt", SpanKind.CLIENT, context=parent, **_about(claim)) as span:
            sent = send(replace(claim, traceparent=_traceparent()), started_at=started_at)
            _end(span, sent)
        return replace(sent, claim=claim)

    return traced


def _about(claim: Claim) -> dict[str, Any]:
    return {
        "workflow": claim.workflow,
        "tenant": claim.tenant,
        "delivery": str(claim.delivery_id),
        "attempt": claim.number,
        "request_id": claim.request_id,
        "replay": claim.is_replay,
    }


def _end(span: Span, sent: Sent) -> None:
    span.set_attribute("backstop.outcome", str(sent.classified.outcome))
    if sent.reply is not None:
        span.set_attribute("http.response.status_code", sent.reply.status)
    if sent.classified.outcome is not Outcome.DELIVERED:
        span.set_attribute("error.type", sent.classified.code)
        span.set_status(StatusCode.ERROR)
