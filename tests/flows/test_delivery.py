"""From intake to n8n and back, through a real dispatcher and a real socket."""

import json
import time
from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.delivery import intake
from reliability.delivery.intake import Trigger
from reliability.models import Attempt, DeadLetter, Delivery, digest_of

from ..support.receiver import Reply

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_delivery_reaches_n8n_with_its_payload_untouched_and_its_headers(workflow, receiver, drain):
    workflow(auth_header="X-Secret", auth_value="s3cret")
    text = '{ "b":1.0,\n "a": "\\u00e9ü", "big": 12345678901234567890 }'
    document = json.loads(text)
    trigger = Trigger("echo", text, digest_of(document), tenant="acme", idempotency_key="k-1")
    made = intake.accept(triggers=[trigger], now=clock.now())[0].delivery
    drain()

    got = receiver.got[0]
    assert got.body.decode() == text
    assert got.path == "/webhook/echo"
    assert got.headers["idempotency-key"] == "k-1"
    assert got.headers["x-backstop-delivery"] == str(made.pk)
    assert got.headers["x-backstop-attempt"] == "1"
    assert got.headers["x-backstop-tenant"] == "acme"
    assert got.headers["x-secret"] == "s3cret"
    assert got.headers["content-type"] == "application/json"
    assert "bot" not in got.headers["user-agent"].lower()
    made.refresh_from_db()
    assert made.state == "delivered"
    assert made.finished_at is not None
    assert list(made.attempts.values_list("number", "result", "status_code")) == [(1, "delivered", 200)]


def test_a_failure_is_retried_with_one_key_and_counts_up(workflow, receiver, drain, accept):
    workflow()
    made = accept()
    answers = iter([Reply(500), Reply(429), Reply(200)])
    receiver.rule = lambda got: next(answers)
    drain()
    receiver.wait_for(1)
    for _ in range(20):
        if len(receiver.got) == 3:
            break
        drain()

    assert [one.headers["x-backstop-attempt"] for one in receiver.got] == ["1", "2", "3"]
    assert set(receiver.keys) == {made.idempotency_key}
    made.refresh_from_db()
    assert (made.state, made.attempt_count, made.retries_used) == ("delivered", 3, 2)
    assert list(made.attempts.order_by("id").values_list("result", "code")) == [
        ("transient", "http_500"),
        ("transient", "http_429"),
        ("delivered", ""),
    ]


def test_a_delivery_that_fails_for_good_becomes_a_dead_letter_with_its_full_payload(workflow, receiver, drain, accept):
    workflow(max_retries=0)
    receiver.always(500, '{"message": "Error in workflow"}')
    made = accept({"order": 7})
    drain()

    letter = DeadLetter.objects.get()
    assert letter.document == {"order": 7}
    assert (letter.delivery_id, letter.status, letter.source) == (made.pk, "dead", "delivery")
    assert (letter.error_code, letter.error_message) == ("http_500", "Error in workflow")
    made.refresh_from_db()
    assert (made.state, made.last_error) == ("dead", "http_500: Error in workflow")


def test_a_payload_that_can_never_pass_is_not_retried(workflow, receiver, drain, accept):
    workflow(max_retries=5)
    receiver.always(422)
    accept()
    drain()
    assert len(receiver.got) == 1
    assert DeadLetter.objects.get().error_code == "http_422"


@pytest.mark.parametrize(("policy", "code", "state"), [("hold", "outcome_unknown", "dead"), ("retry", "", "pending")])
def test_a_read_timeout_follows_the_policy(workflow, receiver, drain, accept, policy, code, state):
    workflow(timeout_ms=200, on_unknown_outcome=policy, base_delay_ms=50_000, max_delay_ms=50_000)
    receiver.always(wait=0.6)
    made = accept()
    drain()
    made.refresh_from_db()
    assert made.state == state
    assert Attempt.objects.get().code == "read_timeout"
    assert list(DeadLetter.objects.values_list("error_code", flat=True)) == ([code] if code else [])


def test_retry_after_is_honoured_up_to_the_maximum(workflow, receiver, drain, accept):
    workflow(base_delay_ms=10, max_delay_ms=5000)
    receiver.always(503, headers={"Retry-After": "3600"})
    made = accept()
    drain()
    made.refresh_from_db()
    wait = (made.due_at - Attempt.objects.get().started_at).total_seconds()
    assert 4.5 < wait < 6.5


def test_a_later_delivery_is_not_sent_before_its_time(workflow, receiver, drain, accept):
    workflow()
    from datetime import timedelta

    made = accept(deliver_at=clock.now() + timedelta(seconds=1.2))
    drain()
    assert receiver.got == []
    made.refresh_from_db()
    assert made.state == "pending"


def test_what_outlives_its_expiry_is_buried_unsent(workflow, receiver, drain, accept):
    from datetime import timedelta

    workflow()
    made = accept(expires_at=clock.now() + timedelta(hours=1))
    Delivery.objects.update(expires_at=clock.now())
    drain()
    assert receiver.got == []
    made.refresh_from_db()
    assert made.state == "dead"
    assert DeadLetter.objects.get().error_code == "expired"


def test_the_signing_secret_adds_the_headers_of_standard_webhooks(workflow, receiver, drain, accept):
    from standardwebhooks.webhooks import Webhook

    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    workflow(signing_secret=secret)
    accept({"a": 1})
    drain()
    got = receiver.got[0]
    assert Webhook(secret).verify(got.body, got.headers) == {"a": 1}


def test_a_wake_up_that_outlived_its_lane_holds_nobody_up(db, drain):
    begun = time.monotonic()
    drain(2**31 - 1)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("message", ["a\\u0000b", "a\\ud800b"])
def test_an_answer_whose_message_cannot_be_stored_ends_its_delivery_like_others(
    workflow, receiver, drain, accept, message
):
    workflow()
    receiver.always(422, f'{{"message": "{message}"}}')
    delivery = accept()
    drain()
    delivery.refresh_from_db()
    assert delivery.state == "dead"
    assert delivery.attempts.get().error == DeadLetter.objects.get().error_message == "a�b"


def test_a_lease_that_ran_out_long_ago_is_taken_back(workflow, receiver, drain, accept):
    """As after weeks of standstill, or from a backup: it is older than its record can say in milliseconds."""
    workflow()
    made = accept()
    long_ago = clock.now() - timedelta(days=60)
    values = {"state": "sending", "attempt_count": 1, "sent_at": long_ago, "lease_token": made.pk}
    Delivery.objects.filter(pk=made.pk).update(**values, lease_until=long_ago)
    drain()
    lost = Attempt.objects.get(result="interrupted")
    assert (lost.code, lost.duration_ms) == ("worker_lost", 2**31 - 1)
