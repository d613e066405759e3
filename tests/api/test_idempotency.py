"""`Idempotency-Key` on every call that changes something: honoured, known by the call's own id, or refused."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from reliability.core import clock
from reliability.delivery import intake
from reliability.models import (
    AlertSilence,
    DeadLetter,
    Delivery,
    FailureReport,
    IdempotencyKey,
    Operation,
    Slot,
)
from reliability.retention import runner
from scheduling.models import CronJob, Run

from ..support.bodies import TRIGGER, failed
from .routes import api_routes

pytestmark = pytest.mark.django_db(transaction=True)
BATCH, LETTERS = "/api/v1/deliveries/batch/", "/api/v1/dead-letters/"
REPORTS = "/api/v1/executions/failed/"
LETTER = {"workflow": "echo", "payload": {"n": 1}, "error_message": "it broke"}
# By operation: what each call does with the header. A new call has to be put into one of the two.
HONOURED = {
    "create_deliveries",
    "report_dead_letter",
    "report_failed_execution",  # unless it names its execution
    "replay_dead_letter",
    "replay_dead_letters",
    "purge_dead_letters",
    "undo_batch",
    "silence_alerts",
    "take_slot",
    "run_cron_job",
}
KNOWN_OTHERWISE = {
    "create_delivery",  # by the key of the delivery itself
    "report_execution",
    "report_outcome",
    "claim_stripe_event",
    "complete_stripe_event",
    "fail_stripe_event",
}


def batch(*numbers, **more):
    return {"deliveries": [{"workflow": "echo", "payload": {"n": n}} for n in numbers], **more}


@pytest.fixture
def send(workflow, api):
    workflow("echo")

    def call(url, body, key="k-1", client=None, method="POST"):
        headers = {} if key is None else {"Idempotency-Key": key}
        given = {"data": json.dumps(body), "content_type": "application/json"}
        return (client or api).generic(method, url, **given, headers=headers)

    return call


def test_a_repeated_batch_is_the_first_one(send):
    first = send(BATCH, batch(1, 2, 3))
    again = send(BATCH, {"deliveries": [{"payload": {"n": n + 0.0}, "workflow": "echo"} for n in (1, 2, 3)]})
    assert (first.status_code, again.status_code) == (201, 200)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert Delivery.objects.count() == 3


@pytest.mark.parametrize("other", [batch(1, 2), batch(1, 2, 3, 4), batch(3, 2, 1), batch(1, 2, 4)])
def test_another_batch_under_the_key_is_a_conflict(send, other):
    send(BATCH, batch(1, 2, 3))
    answer = send(BATCH, other)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:backstop:error:idempotency-conflict")
    assert Delivery.objects.count() == 3


def test_a_repeated_dead_letter_is_the_first_one(send):
    first, again = send(LETTERS, LETTER), send(LETTERS, LETTER)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert DeadLetter.objects.count() == 1
    assert send(LETTERS, {**LETTER, "error_message": "otherwise"}).status_code == 409
    assert send(LETTERS, LETTER, key="k-2").status_code == 201
    assert send(LETTERS, LETTER, key=None).status_code == 201


@pytest.mark.parametrize(
    ("url", "body"),
    [(BATCH, batch(*range(20))), (LETTERS, LETTER), (REPORTS, failed(None))],
    ids=["batch", "letter", "report"],
)
def test_many_at_once_make_one_set(send, key, url, body):
    headers = {"Authorization": f"Bearer {key()}"}

    def one(_):
        try:
            return send(url, body, client=Client(headers=headers))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(16)))
    assert sorted(one.status_code for one in answers) == [200] * 15 + [201]
    assert len({json.dumps(one.json(), sort_keys=True) for one in answers}) == 1
    assert Delivery.objects.count() + DeadLetter.objects.count() == (20 if url == BATCH else 1)


def test_a_repeated_report_that_names_no_execution_is_the_first_one(send):
    first, again = send(REPORTS, failed(None)), send(REPORTS, failed(None))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert DeadLetter.objects.count() == 1
    assert send(REPORTS, failed(None, message="otherwise")).status_code == 409
    assert send(REPORTS, failed(None), key="k-2").status_code == 201
    assert send(REPORTS, failed(None), key=None).status_code == 201
    assert send(REPORTS, failed(None), key=" ").status_code == 400
    assert DeadLetter.objects.count() == 3


def test_a_repeated_report_counts_a_trigger_s_failure_once(send):
    assert send(REPORTS, TRIGGER).status_code == 201
    for _ in range(2):  # the second joins the first's entry, under a key of its own
        assert send(REPORTS, TRIGGER, key="k-2").status_code == 200
    assert DeadLetter.objects.get().retry_count == 1


def test_a_report_that_names_its_execution_is_known_by_that_whatever_its_key(send):
    assert [send(REPORTS, failed(one)).status_code for one in ("1", "1", "2")] == [201, 200, 201]
    assert send(REPORTS, failed("1"), key="k-2").status_code == 200
    assert DeadLetter.objects.count() == 2


def test_a_report_whose_rows_are_gone_is_not_kept_again(send):
    send(REPORTS, failed(None))
    FailureReport.objects.all().delete()
    assert send(REPORTS, failed(None)).status_code == 409


def test_a_crash_leaves_neither_the_key_nor_a_row(send, monkeypatch):
    real = intake.accept

    def crash(**values):
        real(**values)
        raise RuntimeError

    monkeypatch.setattr(intake, "accept", crash)
    assert send(BATCH, batch(1, 2)).status_code == 500
    assert not Delivery.objects.exists()
    assert not IdempotencyKey.objects.exists()
    monkeypatch.undo()
    assert send(BATCH, batch(1, 2)).status_code == 201


def test_what_was_refused_may_be_put_right_under_the_same_key(send):
    wrong = {"deliveries": [*batch(1)["deliveries"], {"workflow": "nowhere", "payload": {}}]}
    assert send(BATCH, wrong).status_code == 400
    assert send(BATCH, batch(1)).status_code == 201


def test_a_key_is_its_tenants_and_its_calls(send, key):
    acme = Client(headers={"X-API-Key": key(tenant="acme", name="one of acme's")})
    other = Client(headers={"X-API-Key": key(tenant="acme", name="another of acme's")})
    globex = Client(headers={"X-API-Key": key(tenant="globex")})
    first = send(BATCH, batch(1), client=acme)
    assert send(BATCH, batch(1), client=other).json() == first.json()  # so that a key may be rotated
    assert send(BATCH, batch(2), client=globex).status_code == 201
    assert send(BATCH, batch(3)).status_code == 201
    assert send(LETTERS, LETTER, client=acme).status_code == 201


@pytest.mark.parametrize("given", ["", " ", "x" * 256, "ä"])
def test_a_key_that_is_none_is_refused(send, given):
    assert send(BATCH, batch(1), key=given).status_code == 400
    assert send(LETTERS, LETTER, key=given).status_code == 400
    assert not Delivery.objects.exists()


def test_a_batchs_own_keys_count_besides(send):
    body = {"deliveries": [{"workflow": "echo", "payload": {}, "idempotency_key": "own"}]}
    first = send(BATCH, body, key="whole-1").json()
    again = send(BATCH, body, key="whole-2")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == first


@pytest.fixture
def letter(send):
    return lambda: send(LETTERS, LETTER, key=None).json()["id"]


def test_a_late_repeat_of_a_replay_does_not_replay_again(send, letter):
    pk = letter()
    first = send(f"{LETTERS}{pk}/replay/", {})
    assert first.status_code == 202
    DeadLetter.objects.filter(pk=pk).update(status="dead")  # it failed again
    again = send(f"{LETTERS}{pk}/replay/", {})
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Delivery.objects.count() == 1
    assert send(f"{LETTERS}{letter()}/replay/", {}).status_code == 409  # the key is another letter's
    assert send(f"{LETTERS}{pk}/replay/", {}, key="k-2").status_code == 202


@pytest.mark.parametrize("what", ["replay", "purge"])
def test_a_bulk_operation_is_submitted_once(send, letter, what):
    letter()
    assert send(f"{LETTERS}{what}/", {"filter": {}, "dry_run": True}).status_code == 200  # it takes no key
    assert not IdempotencyKey.objects.exists()
    first, again = send(f"{LETTERS}{what}/", {"filter": {}}), send(f"{LETTERS}{what}/", {"filter": {}})
    assert (first.status_code, again.status_code, again.json()) == (202, 202, first.json())
    assert Operation.objects.count() == 1
    assert send(f"{LETTERS}{what}/", {"filter": {"workflow": "echo"}}).status_code == 409


def test_what_else_makes_something_makes_it_once(send):
    until = (clock.now() + timedelta(hours=1)).isoformat()
    silence = {"until": until, "reason": "a deployment"}
    first, again = send("/api/v1/alert-silences/", silence), send("/api/v1/alert-silences/", silence)
    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    assert AlertSilence.objects.count() == 1
    first, again = (send("/api/v1/slots/", {"workflow": "echo"}) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    assert Slot.objects.count() == 1
    CronJob.objects.create(slug="nightly", name="Nightly", schedule="0 3 * * *")
    first, again = (send("/api/v1/cron-jobs/nightly/run/", {}) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert Run.objects.count() == 1


def test_the_key_is_known_as_long_as_anything_it_made(send):
    send(BATCH, batch(1, 2))
    later = clock.now() + timedelta(days=400)
    rule = next(one for one in runner.rules() if one.name == "idempotency_keys")
    pace = runner.Pace(load=1.0)
    assert runner.apply(rule=rule, now=later, pace=pace).rows == 0
    first = Delivery.objects.order_by("id").first()
    first.delete()
    assert runner.apply(rule=rule, now=later, pace=pace).rows == 0
    answer = send(BATCH, batch(1, 2))
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:backstop:error:idempotency-expired")
    Delivery.objects.all().delete()
    assert runner.apply(rule=rule, now=clock.now(), pace=pace).rows == 0  # too young
    assert runner.apply(rule=rule, now=later, pace=pace).rows == 1
    assert send(BATCH, batch(1, 2)).status_code == 201


def test_the_key_of_a_report_is_known_as_long_as_the_report(send):
    send(REPORTS, failed(None))
    later = clock.now() + timedelta(days=400)
    rule = next(one for one in runner.rules() if one.name == "idempotency_keys")
    FailureReport.objects.update(dead_letter=None)
    DeadLetter.objects.all().delete()
    assert runner.apply(rule=rule, now=later, pace=runner.Pace(load=1.0)).rows == 0
    FailureReport.objects.all().delete()
    assert runner.apply(rule=rule, now=later, pace=runner.Pace(load=1.0)).rows == 1


def calls():
    for route in api_routes():
        for method in route.methods:
            if method not in ("GET", "HEAD"):
                yield route, method


@pytest.mark.parametrize(("route", "method"), list(calls()), ids=lambda one: getattr(one, "template", one))
def test_a_call_that_honours_no_key_refuses_it(send, route, method):
    name = operation_id(route, method)
    answer = send(route.address(), {}, method=method, key=str(uuid4()))
    refused = answer.status_code == 400 and answer.json()["type"].endswith("idempotency-not-supported")
    assert refused != (name in HONOURED | KNOWN_OTHERWISE), (name, answer.content)
    if refused:
        assert "Idempotency-Key" in answer.json()["detail"]
        assert send(route.address(), {}, method=method, key=None).status_code not in (401, 403, 405)


@cache
def schema():
    return json.loads(Client().get("/api/schema/").content)


def operation_id(route, method):
    """Return the call's name, once the OpenAPI document has been held against what it does with the header."""
    path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.template)
    operation = schema()["paths"][path][method.lower()]
    names = {one["name"] for one in operation.get("parameters", ())}
    if operation["operationId"] in HONOURED | {"create_delivery"}:
        assert "Idempotency-Key" in names
    elif operation["operationId"] not in KNOWN_OTHERWISE:
        assert "Idempotency-Key" not in names
    return operation["operationId"]


@pytest.mark.parametrize("path", ["/api/v1/deliveries/", "/api/v1/deliveries/batch/"])
def test_a_repeat_gets_the_first_answer_after_its_expiry_too(api, workflow, path):
    workflow(paused=True)
    soon = clock.now() + timedelta(seconds=1)
    one = {"workflow": "echo", "payload": {"n": 1}, "expires_at": soon.isoformat()}
    body = {"deliveries": [one]} if "batch" in path else one

    def send():
        return api.post(path, body, content_type="application/json", headers={"Idempotency-Key": "k"})

    first = send()
    assert first.status_code == 201, first.content
    while clock.now() <= soon:
        time.sleep(0.05)
    again = send()
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
