"""What spans tell of errors."""

import psycopg
import pytest
from django.db import connection
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from config import tracing


@pytest.fixture
def spans():
    """A function that returns what was exported, of a provider of its own; with it, its tracer."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(tracing.Wordless(kept)))
    yield kept.get_finished_spans, provider
    provider.shutdown()


@pytest.mark.django_db
def test_a_statement_that_fails_is_a_span_without_its_values(spans):
    exported, provider = spans
    connection.ensure_connection()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as plain:
        traced = PsycopgInstrumentor().instrument_connection(plain, tracer_provider=provider)
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            traced.cursor().execute("SELECT %s::text::json", ['{"pw": s3cret}'])
    (span,) = exported()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert [one.attributes["exception.type"] for one in span.events] == ["psycopg.errors.InvalidTextRepresentation"]
    assert "s3cret" not in span.to_json()


def test_what_went_well_is_exported_as_it_is(spans):
    exported, provider = spans
    with provider.get_tracer("x").start_as_current_span("one", attributes={"a": 1}):
        pass
    assert [(one.name, dict(one.attributes)) for one in exported()] == [("one", {"a": 1})]
