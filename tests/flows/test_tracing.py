"""Traces, by real processes, to a real receiver of OpenTelemetry's protocol."""

import subprocess
import sys

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ..support import stripe
from ..support.receiver import Receiver, Reply, until
from ..support.web import Web
from ..support.workers import ROOT, environment

pytestmark = pytest.mark.django_db(transaction=True)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def collector():
    made = Receiver().start()
    made.always(body="")
    yield made
    made.stop()


@pytest.fixture
def asked(collector):
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/webhook"),
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "STRIPE_WEBHOOK_SECRET": stripe.SECRET,
        "CRON_SECRET": "a-cron-secret",
    }


@pytest.fixture
def web(tmp_path, asked):
    made = Web(tmp_path, **asked)
    yield made
    made.kill()


def spans(collector):
    found = []
    for got in list(collector.got):
        assert got.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(got.body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert names["service.name"] == "backstop"
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def attributes(span):
    kinds = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
    return {name: value for name, value in kinds.items() if name.startswith(("backstop.", "http.response", "error."))}


def named(collector, name, count):
    def found():
        those = [one for one in spans(collector) if one.name == name]
        return those if len(those) >= count else []

    return until(found, within=30, what=f"{count} spans {name}")


def test_a_delivery_is_one_trace_from_its_trigger_to_n8n(workflow, receiver, workers, key, collector, web, asked):
    workflow(base_delay_ms=1, max_delay_ms=1)
    receiver.rule = lambda got: Reply(500 if got.headers["x-backstop-attempt"] == "1" else 200)
    headers = {"Authorization": f"Bearer {key()}", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    body = {"workflow": "echo", "payload": {"card": "4242-4242"}}
    answer = requests.post(f"{web.url}/api/v1/deliveries/", json=body, headers=headers, timeout=10)
    worker = workers.start(N8N_WEBHOOK_URL=receiver.url, **asked)
    attempts = sorted(named(collector, "attempt", 2), key=lambda one: one.start_time_unix_nano)
    accept = named(collector, "accept", 1)[0]
    server = [one for one in spans(collector) if one.span_id == accept.parent_span_id]
    assert [one.parent_span_id.hex() for one in server] == ["00f067aa0ba902b7"]
    assert attributes(server[0]) == {"backstop.request_id": answer.json()["id"]}
    assert {one.trace_id.hex() for one in (*attempts, accept, *server)} == {TRACE}
    assert {one.parent_span_id for one in attempts} == {accept.span_id}
    told = [f"00-{TRACE}-{one.span_id.hex()}-01" for one in attempts]
    assert [got.headers["traceparent"] for got in receiver.got] == told

    common = {"backstop.workflow": "echo", "backstop.tenant": "default", "backstop.delivery": answer.json()["id"]}
    assert attributes(accept) == {**common, "backstop.count": 1, "backstop.created": 1}
    common |= {"backstop.request_id": answer.json()["id"], "backstop.replay": False}
    failed = {"backstop.attempt": 1, "backstop.outcome": "transient", "http.response.status_code": 500}
    assert attributes(attempts[0]) == {**common, **failed, "error.type": "http_500"}
    done = {"backstop.attempt": 2, "backstop.outcome": "delivered", "http.response.status_code": 200}
    assert attributes(attempts[1]) == {**common, **done}
    assert workers.end(worker) < 15
    assert not any(b"4242" in got.body for got in collector.got)


def test_pings_and_events_begin_traces_and_tell_no_secret(workflow, receiver, workers, collector, web, asked):
    from scheduling.models import CronJob

    made = workflow(stripe_events=["*"])
    job = CronJob.objects.create(slug="recap", name="recap")
    job.workflows.add(made)
    requests.get(f"{web.url}/healthz", timeout=5)
    assert requests.post(f"{web.url}/cron/recap/?secret=a-cron-secret", timeout=10).status_code == 202
    body = stripe.event()
    signed = {"Stripe-Signature": stripe.sign(body)}
    assert requests.post(f"{web.url}/stripe/webhook/", data=body, headers=signed, timeout=10).status_code == 200
    workers.start(N8N_WEBHOOK_URL=receiver.url, **asked)
    accepts, attempts = named(collector, "accept", 2), named(collector, "attempt", 2)
    assert {one.trace_id for one in accepts} == {one.trace_id for one in attempts}
    assert {one.span_id for one in accepts} == {one.parent_span_id for one in attempts}
    assert not any(b"a-cron-secret" in got.body for got in collector.got)
    assert not any(b"healthz" in got.body for got in collector.got)


def test_a_receiver_that_is_away_stops_nothing(workflow, receiver, workers, key, tmp_path, asked):
    workflow()
    away = {**asked, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    web = Web(tmp_path, **away)
    headers = {"Authorization": f"Bearer {key()}"}
    body = {"workflow": "echo", "payload": {}}
    answer = requests.post(f"{web.url}/api/v1/deliveries/", json=body, headers=headers, timeout=10)
    web.kill()
    assert answer.status_code == 201
    worker = workers.start(N8N_WEBHOOK_URL=receiver.url, **away)
    receiver.wait_for(1)
    assert workers.end(worker) < 30


@pytest.mark.parametrize(
    ("given", "loaded"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
    ],
    ids=["unset", "disabled", "none", "traces-endpoint", "console"],
)
def test_nothing_of_it_is_loaded_unless_its_variables_ask(given, loaded):
    code = "import config.wsgi, sys; print('loaded', any(m.startswith('opentelemetry') for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(**given), capture_output=True, text=True, check=True
    )
    assert f"loaded {loaded}" in done.stdout


def test_a_protocol_we_do_not_speak_stops_the_start():
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    command = [sys.executable, "-c", "import config.wsgi"]
    done = subprocess.run(command, cwd=ROOT, env=environment(**given), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in done.stderr
