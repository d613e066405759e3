"""A request's id on its whole way: in, to n8n, back, and in every line of the logs that is about it."""

import json

import pytest
import requests
from django.db import connection, transaction

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.models import DeadLetter, Delivery, FailureReport

from ..support import stripe
from ..support.bodies import failed
from ..support.receiver import Reply, until
from ..support.web import Web

pytestmark = pytest.mark.django_db(transaction=True)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECRETS = {"STRIPE_WEBHOOK_SECRET": stripe.SECRET, "CRON_SECRET": "a-cron-secret"}


@pytest.fixture
def web(tmp_path):
    made = Web(tmp_path, LOG_FORMAT="json", ACCESS_LOG="true", **SECRETS)
    yield made
    if made.process.poll() is None:
        made.kill()


@pytest.fixture
def call(web, key):
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key()}"

    def made(path, document=None, method="POST", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return session.request(method, f"{web.url}{path}", json=document, headers=names, timeout=10)

    return made


def lines(path):
    found = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    assert found, path.read_text()
    return found


def delivery(**values):
    return {"workflow": "echo", "payload": {"n": 1}, **values}


def test_an_id_goes_from_the_trigger_to_n8n_and_back(workflow, receiver, workers, call, web):
    workflow(max_retries=0)
    receiver.rule = lambda got: Reply(500 if got.json["n"] == 2 else 200)
    first = call("/api/v1/deliveries/", delivery(), X_Request_Id="order-4711", traceparent=TRACE)
    call("/api/v1/deliveries/", delivery(payload={"n": 2}), X_Request_Id="order-4712")
    own = call("/api/v1/deliveries/", delivery(), X_Request_Id="not fit to be kept")
    assert first.headers["X-Request-Id"] == first.json()["request_id"] == "order-4711"
    assert own.headers["X-Request-Id"] == own.json()["request_id"] == own.json()["id"]

    worker = workers.start(N8N_WEBHOOK_URL=receiver.url, LOG_FORMAT="json")
    receiver.wait_for(3)
    until(DeadLetter.objects.exists, what="a dead letter")
    until(lambda: not Delivery.objects.in_flight().exists(), what="the rest")
    got = {one.headers["x-request-id"]: one for one in receiver.got}
    assert set(got) == {"order-4711", "order-4712", own.json()["id"]}
    assert got["order-4711"].headers["traceparent"] == TRACE
    assert "traceparent" not in got["order-4712"].headers

    replay.replay(dead_letter_id=DeadLetter.objects.get().pk, actor=Actor("test"), now=clock.now())
    assert receiver.wait_for(4)[3].headers["x-request-id"] == "order-4712"  # the same story
    until(lambda: not Delivery.objects.in_flight().exists(), what="the replay")
    assert call("/api/v1/executions/failed/", failed("9"), X_Request_Id="order-4711").status_code == 201
    assert call("/api/v1/executions/failed/", {**failed("10"), "request_id": "order-4711"}).status_code == 201
    assert "request_id" not in json.loads(FailureReport.objects.get(execution_id="10").report)
    workers.end(worker)
    web.end()

    attempts = [line for line in lines(worker.log) if line["event"] == "attempt"]
    names = sorted(line["request_id"] for line in attempts)
    assert names == sorted(["order-4711", "order-4712", "order-4712", own.json()["id"]])
    heard = [line for line in lines(web.log) if line["event"] == "failure_reported"]
    assert [line["request_id"] for line in heard] == ["order-4711", "order-4711"]
    asked = [line for line in lines(web.log) if line["event"] == "request" and line["method"] == "POST"]
    assert [line["status"] for line in asked] == [201] * 5
    assert asked[0]["request_id"] == "order-4711"
    assert asked[2]["request_id"] == own.json()["id"]


def test_deliveries_are_found_by_the_request_that_made_them(workflow, call, receiver):
    workflow(paused=True)
    many = {"deliveries": [delivery(payload={"n": n}) for n in range(3)]}
    given = call("/api/v1/deliveries/batch/", many, X_Request_Id="import-1")
    own = call("/api/v1/deliveries/batch/", many)
    one = call("/api/v1/deliveries/", delivery())
    name = own.headers["X-Request-Id"]
    assert {row["request_id"] for row in own.json()["deliveries"]} == {name}
    for request_id, count in {"import-1": 3, name: 3, one.json()["request_id"]: 1, "import": 0}.items():
        found = call(f"/api/v1/deliveries/?request_id={request_id}", method="GET").json()["results"]
        assert [row["request_id"] for row in found] == [request_id] * count
    assert given.status_code == own.status_code == 201
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN SELECT id FROM reliability_delivery WHERE request_id = 'x' AND request_id <> ''")
        assert "delivery_by_request" in str(cursor.fetchall())


def test_a_repeat_shows_the_request_that_was_first(workflow, call, receiver):
    workflow(paused=True)
    first = call("/api/v1/deliveries/", delivery(idempotency_key="k"), X_Request_Id="first")
    again = call("/api/v1/deliveries/", delivery(idempotency_key="k"), X_Request_Id="again")
    assert again.json()["request_id"] == first.json()["request_id"] == "first"
    assert again.headers["X-Request-Id"] == "again"


def test_a_problem_names_its_request(call, web):
    for path, status in (("/api/v1/deliveries/", 400), ("/nowhere", 404), ("/stripe/webhook/none/", 404)):
        answer = call(path, {"nothing": True}, X_Request_Id="asked")
        assert (answer.status_code, answer.headers["X-Request-Id"]) == (status, "asked")
        assert answer.json()["request_id"] == "asked"


def test_pings_and_events_have_one_too(workflow, call, web, receiver):
    from scheduling.models import CronJob

    made = workflow(paused=True, stripe_events=["*"])
    job = CronJob.objects.create(slug="recap", name="recap")
    job.workflows.add(made)
    secret = {"X_Cron_Secret": "a-cron-secret"}
    assert call("/cron/recap/", X_Request_Id="ping-1", **secret).status_code == 202
    body = stripe.event()
    headers = {"Stripe-Signature": stripe.sign(body), "X-Request-Id": "event-1"}
    assert requests.post(f"{web.url}/stripe/webhook/", data=body, headers=headers, timeout=10).status_code == 200
    kept = dict(Delivery.objects.values_list("source", "request_id"))
    assert kept == {"cron": "ping-1", "stripe": "event-1"}


def test_the_access_log_holds_no_query(call, web):
    call("/cron/weekly-recap/?secret=a-cron-secret", method="GET")
    line = until(lambda: [x for x in lines(web.log) if x.get("path") == "/cron/weekly-recap/"], what="its line")[0]
    assert (line["status"], line["method"]) == (200, "GET")
    assert "a-cron-secret" not in web.log.read_text()
