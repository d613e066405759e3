"""The API of dead letters, and replay to its end."""

import itertools
import json
from datetime import timedelta

import pytest

from reliability.bulk import steps
from reliability.core import clock
from reliability.models import AuditEntry, DeadLetter, Delivery, Operation

from ..support.receiver import Reply

URL = "/api/v1/dead-letters/"


@pytest.fixture
def send(api):
    def call(path="", body=None, method="post"):
        return getattr(api, method)(URL + path, json.dumps(body or {}), content_type="application/json")

    return call


@pytest.fixture
def dead(workflow, accept_many, receiver, drain):
    """Make dead letters the way they come about."""

    def make(count: int = 1, **values) -> list[DeadLetter]:
        workflow(max_retries=0, circuit_breaker_threshold=1000, **values)
        receiver.always(500, '{"message": "boom"}')
        accept_many(count)
        drain()
        receiver.got.clear()
        found = list(DeadLetter.objects.order_by("id"))
        assert len(found) == count
        return found

    return make


def work_off() -> None:
    """Do a bulk operation's steps without waiting for its rate."""
    for operation in Operation.objects.all():
        now = clock.now()
        while (now := steps.step(operation_id=operation.pk, now=now)) is not None:
            pass


pytestmark = pytest.mark.django_db(transaction=True)


def test_a_dead_letters_shape(dead, api):
    letter = dead()[0]
    shape = api.get(f"{URL}{letter.pk}/").json()
    delivery = Delivery.objects.get()
    created, expires = shape.pop("created_at"), shape.pop("expires_at")
    assert (letter.expires_at - letter.created_at) == timedelta(hours=24)
    assert created < expires
    assert shape.pop("fingerprint") == letter.fingerprint
    assert shape == {
        "id": str(letter.pk),
        "reason": "http_5xx",
        "workflow": "echo",
        "tenant": "default",
        "source": "delivery",
        "payload": {"n": 0},
        "error_code": "http_500",
        "error_message": "boom",
        "retry_count": 0,
        "status": "dead",
        "delivery": str(delivery.pk),
        "execution_id": "",
        "execution_url": "",
    }


def test_a_replay_carries_the_same_key_and_recovers(dead, send, receiver, drain, api):
    letter = dead()[0]
    first = Delivery.objects.get()
    receiver.always(200)
    response = send(f"{letter.pk}/replay/", {"reason": "fixed"})
    assert response.status_code == 202
    assert response.json()["count"] == 1
    assert api.get(f"{URL}{letter.pk}/").json()["status"] == "replaying"
    drain()
    assert [one.key for one in receiver.got] == [first.idempotency_key]
    assert receiver.got[0].json == {"n": 0}
    shape = api.get(f"/api/v1/deliveries/{response.json()['delivery']}/").json()
    assert (shape["source"], shape["replay_of"], shape["state"]) == ("replay", str(first.pk), "delivered")
    letter.refresh_from_db()
    assert letter.status == "recovered"
    assert send(f"{letter.pk}/replay/").status_code == 409
    assert AuditEntry.objects.get(action="replay").reason == "fixed"


def test_an_edited_replay_is_another_message(dead, send, receiver, drain):
    letter = dead()[0]
    receiver.always(200)
    assert send(f"{letter.pk}/replay/", {"payload": {"n": 1.50}}).status_code == 202
    drain()
    assert receiver.got[0].json == {"n": 1.5}
    assert receiver.got[0].key != Delivery.objects.get(source="api").idempotency_key
    letter.refresh_from_db()
    assert (letter.status, letter.document) == ("recovered", {"n": 0})


def test_a_replay_that_fails_is_the_same_dead_letter_again(dead, send, receiver, drain):
    letter = dead()[0]
    receiver.always(422)
    send(f"{letter.pk}/replay/")
    drain()
    again = DeadLetter.objects.get()
    assert (again.pk, again.status, again.error_code, again.retry_count) == (letter.pk, "dead", "http_422", 1)


def test_a_cancelled_replay_leaves_the_letter_dead(dead, send, api):
    letter = dead()[0]
    made = send(f"{letter.pk}/replay/").json()["delivery"]
    api.post(f"/api/v1/deliveries/{made}/cancel/", content_type="application/json")
    letter.refresh_from_db()
    assert letter.status == "dead"


def test_two_who_replay_at_once_make_one_delivery(dead, send):
    letter = dead()[0]
    answers = [send(f"{letter.pk}/replay/").status_code for _ in range(2)]
    assert answers == [202, 409]
    assert Delivery.objects.filter(source="replay").count() == 1


def test_many_are_replayed_at_a_rate(dead, send, receiver):
    dead(30)
    answer = send("replay/", {"filter": {"error_code": "http_500"}, "rate_per_second": 10})
    assert answer.status_code == 202
    assert answer.json()["count"] == 30
    work_off()
    due = list(Delivery.objects.filter(source="replay").order_by("due_at").values_list("due_at", flat=True))
    assert len(due) == 30
    assert timedelta(seconds=2.8) < due[-1] - due[0] < timedelta(seconds=3.2)
    gaps = {round((b - a).total_seconds(), 2) for a, b in itertools.pairwise(due)}
    assert gaps == {0.1}


def test_a_bulk_replay_by_a_real_worker_with_progress(dead, send, api, receiver, workers):
    from ..support.receiver import until

    dead(12)
    receiver.always(200)
    batch = send("replay/", {"filter": {"workflow": "echo"}, "rate_per_second": 20}).json()["batch_id"]
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: DeadLetter.objects.filter(status="recovered").count() == 12)
    done = until(lambda: (s := api.get(f"/api/v1/batches/{batch}/").json())["state"] == "done" and s)
    assert (done["count"], done["done"], done["skipped"]) == (12, 12, 0)


def test_a_dry_run_changes_nothing(dead, send):
    dead(3)
    for path in ("replay/", "purge/"):
        answer = send(path, {"filter": {}, "dry_run": True})
        assert answer.status_code == 200
        shape = answer.json()
        assert (shape["dry_run"], shape["count"], shape["will"]) == (True, 3, 3)
        assert shape["by_workflow"] == {"echo": 3}
        assert len(shape["samples"]) == 3
    assert not Operation.objects.exists()
    assert DeadLetter.objects.filter(status="dead").count() == 3


def test_what_dies_after_the_submission_is_not_part_of_it(dead, send, accept, drain):
    dead(2)
    send("purge/", {"filter": {}})
    accept({"later": 1})
    drain()
    work_off()
    assert sorted(DeadLetter.objects.values_list("status", flat=True)) == ["dead", "purged", "purged"]


def test_a_purge_is_on_record_and_final(dead, send, api):
    letters = dead(2)
    assert send(f"{letters[0].pk}/", {"reason": "test data"}, method="delete").status_code == 204
    assert api.get(f"{URL}{letters[0].pk}/").json()["status"] == "purged"
    assert send(f"{letters[0].pk}/", method="delete").status_code == 409
    assert send(f"{letters[0].pk}/replay/").status_code == 409
    entry = AuditEntry.objects.get(action="purge")
    assert (entry.target_id, entry.reason) == (str(letters[0].pk), "test data")


def test_an_application_can_report_one_and_it_can_be_replayed(workflow, send, receiver, drain):
    workflow()
    body = {
        "workflow": "echo",
        "tenant": "acme",
        "payload": {"a": 1},
        "error_message": "no",
        "error_code": "e",
    }
    answer = send("", body)
    assert answer.status_code == 201
    assert (answer.json()["source"], answer.json()["delivery"]) == ("api", None)
    assert send(f"{answer.json()['id']}/replay/").status_code == 202
    drain()
    assert receiver.got[0].json == {"a": 1}
    assert receiver.got[0].headers["x-backstop-tenant"] == "acme"
    assert DeadLetter.objects.get().status == "recovered"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"workflow": "nope", "payload": {}, "error_message": "x"}),
        ("", {"workflow": "echo", "payload": {}}),
        ("", {"workflow": "echo", "payload": 1, "error_message": "x"}),
        ("", {"workflow": "echo", "payload": {"a": "\x00"}, "error_message": "x"}),
        ("replay/", {}),
        ("replay/", {"filter": {"nope": 1}}),
        ("replay/", {"filter": {}, "rate_per_second": 0}),
        ("replay/", {"filter": {}, "rate_per_second": "fast"}),
        ("purge/", {"filter": {"created_after": "never"}}),
        ("purge/", {"filter": []}),
        ("018f0000-0000-7000-8000-000000000000/replay/", {"payload": 3}),
    ],
)
def test_bad_input(workflow, send, path, body):
    workflow()
    answer = send(path, body)
    assert answer.status_code == 400, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not DeadLetter.objects.exists()


def test_filters_and_search(dead, api):
    letters = dead(3)
    DeadLetter.objects.filter(pk=letters[0].pk).update(error_code="other", error_message="A Needle in it")

    def count(query):
        return len(api.get(f"{URL}?{query}").json()["results"])

    assert count("error_code=other") == 1
    assert count("search=needle") == 1
    assert count("search=OTHER") == 1
    assert count(f"search={letters[1].pk}") == 1
    assert count(f"search={Delivery.objects.first().idempotency_key}") == 1
    assert count("search=100%25") == 0
    assert count("status=dead&workflow=echo&tenant=default&source=delivery") == 3
    assert count("created_before=2020-01-01T00:00:00Z") == 0


def test_a_replay_waits_behind_an_open_breaker(dead, send, receiver, drain, lane_breaker):
    from reliability.core.audit import Actor
    from reliability.lanes import breakers

    letter = dead()[0]
    receiver.rule = lambda got: Reply(200)
    breakers.force_open(breaker_id=lane_breaker().pk, actor=Actor("x"), now=clock.now())
    send(f"{letter.pk}/replay/")
    drain()
    assert receiver.got == []
    assert Delivery.objects.get(source="replay").state == "pending"


def test_a_reported_message_is_kept_without_the_workflow_s_secret(workflow, send):
    workflow(auth_value="Bearer a-long-secret")
    body = {"workflow": "echo", "payload": {"a": "a-long-secret"}, "error_message": "401: Bearer a-long-secret is old"}
    made = send("", body).json()
    assert made["error_message"] == "401: [redacted] is old"
    assert made["payload"] == {"a": "a-long-secret"}
