"""A workflow's own report of how a delivery's work ended."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.models import Attempt, DeadLetter, Delivery, Execution

from ..support.receiver import Reply

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def report(api):
    def call(delivery, status, client=None, **more):
        url = f"/api/v1/deliveries/{getattr(delivery, 'pk', delivery)}/outcome/"
        body = json.dumps({"status": status, **more})
        return (client or api).post(url, body, content_type="application/json")

    return call


@pytest.fixture
def awaiting(workflow, receiver, drain, accept):
    """A delivery whose workflow answered at once, and reports later."""

    def make(**values) -> Delivery:
        slow = {"base_delay_ms": 60_000, "max_delay_ms": 60_000}
        workflow(**{"completion": "callback", **slow, **values})
        made = accept({"n": 1})
        drain()
        made.refresh_from_db()
        assert made.state == "awaiting_callback"
        return made

    return make


def due(delivery) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(due_at=clock.now())


def test_success_delivers_and_twice_changes_nothing(awaiting, report):
    made = awaiting()
    answers = [report(made, "succeeded", execution_id="7") for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["state"] == "delivered"
    assert Execution.objects.get().status == "success"


def test_a_failure_is_retried_by_the_policy_and_then_buried(awaiting, report, drain, receiver, lane_breaker):
    made = awaiting(max_retries=1, circuit_breaker_threshold=2)
    shape = report(made, "failed", execution_id="7", error="no stock").json()
    assert (shape["state"], shape["last_error"]) == ("pending", "reported_failed: no stock")
    assert [one["result"] for one in shape["attempts"]] == ["delivered", "reported_failed"]
    assert report(made, "failed", execution_id="7", error="no stock").json()["attempts"] == shape["attempts"]
    assert lane_breaker().state == "closed"
    due(made)
    drain()
    assert len(receiver.got) == 2
    assert report(made, "failed", execution_id="8", error="no stock still", attempt=2).json()["state"] == "dead"
    letter = DeadLetter.objects.get()
    assert (letter.error_code, letter.error_message, letter.retry_count) == ("reported_failed", "no stock still", 1)
    assert letter.execution_id == "8"
    assert lane_breaker().state == "open"


def test_a_report_of_an_earlier_attempt_is_stale_unless_it_succeeded(awaiting, report, drain):
    made = awaiting()
    report(made, "failed", attempt=1)
    due(made)
    drain()
    assert report(made, "failed", attempt=1).status_code == 409
    assert report(made, "failed", attempt=3).status_code == 409
    assert Delivery.objects.get().state == "awaiting_callback"
    assert report(made, "succeeded", attempt=1).json()["state"] == "delivered"


@pytest.mark.parametrize(("status", "state"), [("succeeded", "delivered"), ("failed", "pending")])
def test_a_report_before_the_2xx_is_settled_is_not_lost(workflow, receiver, drain, accept, report, status, state):
    workflow(completion="callback", base_delay_ms=60_000, max_delay_ms=60_000)
    made = accept()

    def respond(got):
        assert report(made, status, execution_id="7").json()["state"] == "sending"
        connection.close()
        return Reply(202)

    receiver.rule = respond
    drain()
    made.refresh_from_db()
    assert (made.state, made.reported) == (state, None)
    assert len(receiver.got) == 1


def test_a_success_during_an_attempt_that_times_out_spares_the_retry(workflow, receiver, drain, accept, report):
    workflow(timeout_ms=300, base_delay_ms=1, max_delay_ms=1)
    made = accept()

    def respond(got):
        report(made, "succeeded")
        connection.close()
        return Reply(200, wait=1.0)

    receiver.rule = respond
    drain()
    drain()
    made.refresh_from_db()
    assert (made.state, made.attempt_count) == ("delivered", 1)


def test_a_success_reported_by_a_lost_workers_attempt_counts(workflow, accept, report, drain, receiver):
    workflow()
    made = accept()
    now = clock.now()
    leased = {"lease_token": uuid4(), "lease_until": now + timedelta(seconds=1), "sent_at": now, "attempt_count": 1}
    Delivery.objects.filter(pk=made.pk).update(state="sending", **leased)
    assert report(made, "succeeded").json()["state"] == "sending"
    Delivery.objects.filter(pk=made.pk).update(lease_until=clock.now())
    drain()
    made.refresh_from_db()
    assert made.state == "delivered"
    assert receiver.got == []


def test_a_late_success_calls_off_the_retry(awaiting, report, drain, receiver):
    made = awaiting()
    Delivery.objects.update(lease_until=clock.now())
    drain()
    made.refresh_from_db()
    assert made.state == "pending"
    assert report(made, "succeeded").json()["state"] == "delivered"
    drain()
    assert len(receiver.got) == 1
    assert set(Attempt.objects.values_list("result", flat=True)) == {"delivered", "callback_timeout"}


def test_a_late_success_recovers_what_was_given_up(awaiting, report):
    made = awaiting(max_retries=0)
    report(made, "failed", execution_id="7")
    assert DeadLetter.objects.get().status == "dead"
    assert report(made, "succeeded", execution_id="8").json()["state"] == "delivered"
    letter = DeadLetter.objects.get()
    assert letter.status == "recovered"
    assert letter.closed_at is not None


def test_a_late_success_calls_off_a_replay_that_has_not_begun(awaiting, report, receiver, drain):
    made = awaiting(max_retries=0)
    report(made, "failed")
    letter = DeadLetter.objects.get()
    replay.replay(dead_letter_id=letter.pk, actor=Actor("t"), now=clock.now())
    report(made, "succeeded")
    drain()
    letter.refresh_from_db()
    assert letter.status == "recovered"
    assert Delivery.objects.get(source="replay").state == "cancelled"
    assert len(receiver.got) == 1


def test_a_replay_moves_its_dead_letter_along(awaiting, report, drain):
    made = awaiting(max_retries=0)
    report(made, "failed", error="first")
    letter = DeadLetter.objects.get()
    again = replay.replay(dead_letter_id=letter.pk, actor=Actor("t"), now=clock.now()).delivery_id
    drain()
    report(again, "failed", error="second", execution_id="9")
    letter.refresh_from_db()
    assert (letter.status, letter.error_message, letter.execution_id) == ("dead", "second", "9")
    third = replay.replay(dead_letter_id=letter.pk, actor=Actor("t"), now=clock.now()).delivery_id
    drain()
    report(third, "succeeded")
    letter.refresh_from_db()
    assert letter.status == "recovered"
    report(third, "failed", error="after all", execution_id="10")
    letter.refresh_from_db()
    assert (letter.status, letter.error_message, letter.closed_at) == ("dead", "after all", None)
    assert DeadLetter.objects.count() == 1


def test_a_failure_after_success_is_a_person_s_to_decide(awaiting, report, drain, receiver):
    made = awaiting()
    report(made, "succeeded", execution_id="7")
    assert report(made, "failed", execution_id="8", error="rolled back").json()["state"] == "dead"
    assert DeadLetter.objects.get().error_message == "rolled back"
    assert report(made, "succeeded", execution_id="9").json()["state"] == "delivered"
    assert report(made, "failed", execution_id="10", error="again").json()["state"] == "dead"
    letter = DeadLetter.objects.get()
    assert (letter.status, letter.error_message) == ("dead", "again")


def test_a_place_that_became_free_is_used(awaiting, report, accept, drain, receiver):
    made = awaiting(concurrency_limit=1)
    accept({"n": 2})
    drain()
    assert len(receiver.got) == 1
    report(made, "succeeded")
    drain()
    assert len(receiver.got) == 2


def test_many_report_while_their_answers_are_settled(workflow, receiver, drain, accept_many, report):
    workflow(completion="callback", concurrency_limit=10, circuit_breaker_threshold=1000, max_retries=3)
    accept_many(60)

    def respond(got):
        number = int(got.headers["x-backstop-attempt"])
        fails = number == 1 and got.json["n"] % 3 == 0
        status = "failed" if fails else "succeeded"
        name = f"{got.headers['x-backstop-delivery']}-{number}"
        try:
            for _ in range(2):
                answer = report(got.headers["x-backstop-delivery"], status, execution_id=name, attempt=number)
                assert answer.status_code == 200, answer.content
        finally:
            connection.close()
        return Reply(202)

    receiver.rule = respond
    for _ in range(10):
        drain()
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
    assert len(receiver.got) == 80
    assert Attempt.objects.filter(result="reported_failed").count() == 20
    assert not DeadLetter.objects.exists()


def test_what_was_withdrawn_or_never_sent_is_not_reported(workflow, accept, report):
    workflow(paused=True)
    made = accept()
    assert report(made, "succeeded").status_code == 409
    Delivery.objects.update(state="cancelled")
    assert report(made, "failed").status_code == 409
    assert not Execution.objects.exists()


def test_another_tenants_delivery_is_not_found(awaiting, report, key):
    made = awaiting()
    other = Client(headers={"X-API-Key": key(tenant="beta")})
    assert report(made, "succeeded", other).status_code == 404
    assert report(uuid4(), "succeeded").status_code == 404
    assert report(made, "succeeded", Client(headers={"X-API-Key": key(scopes=["read", "deliver"])})).status_code == 403
    assert Delivery.objects.get().state == "awaiting_callback"


@pytest.mark.parametrize(
    "body",
    [
        {"status": "done"},
        {"status": None},
        {"status": "failed", "attempt": 0},
        {"status": "failed", "attempt": "first"},
        {"status": "failed", "more": 1},
    ],
    ids=lambda body: str(body)[:40],
)
def test_bad_input(awaiting, report, body):
    made = awaiting()
    answer = report(made, body.pop("status"), **body)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert Delivery.objects.get().state == "awaiting_callback"


def test_an_execution_id_that_n8n_uses_anew_says_nothing_against_the_next_delivery(awaiting, accept, drain, report):
    """A new n8n, or one restored from a backup, counts its executions from where it was."""
    first = awaiting()
    report(first, "succeeded", execution_id="7")
    second = accept({"n": 2})
    drain()
    assert report(second, "succeeded", execution_id="7").json()["state"] == "delivered"
    assert report(second, "succeeded", execution_id="7").json()["state"] == "delivered"
