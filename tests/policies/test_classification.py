import json

import pytest

from reliability.policies.breaker import Signal
from reliability.policies.classification import (
    Failure,
    Outcome,
    Reply,
    classify_failure,
    classify_reply,
)
from reliability.policies.settlement import Rules, Step, instance_report, lane_report, settle

O = Outcome  # noqa: E741  # a column of the tables
NOT_REGISTERED = json.dumps({"code": 404, "message": 'The requested webhook "POST x" is not registered.', "hint": "…"})
# status, body, outcome, what the lane's breaker hears, what the instance's hears
REPLIES = [
    (200, '{"ok": true}', O.DELIVERED, Signal.SUCCESS, Signal.SUCCESS),
    (201, "", O.DELIVERED, Signal.SUCCESS, Signal.SUCCESS),
    (204, "", O.DELIVERED, Signal.SUCCESS, Signal.SUCCESS),
    (200, "n8n is starting up. Please wait", O.INSTANCE_DOWN, None, Signal.FAILURE),
    (200, ' \n"n8n is starting up. Please wait"', O.INSTANCE_DOWN, None, Signal.FAILURE),
    (200, '{"note": "n8n is starting up"}', O.DELIVERED, Signal.SUCCESS, Signal.SUCCESS),
    (503, "Database is not ready!", O.INSTANCE_DOWN, None, Signal.FAILURE),
    (503, "busy", O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (404, "<pre>Cannot POST /webhook/x</pre>", O.INSTANCE_DOWN, None, Signal.FAILURE),
    (404, NOT_REGISTERED, O.MISCONFIGURED, Signal.TRIP, Signal.SUCCESS),
    (404, '{"message": "no such client"}', O.REJECTED, None, Signal.SUCCESS),
    (401, "", O.MISCONFIGURED, Signal.TRIP, Signal.SUCCESS),
    (403, "Authorization data is wrong!", O.MISCONFIGURED, Signal.TRIP, Signal.SUCCESS),
    (408, "", O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (425, "", O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (429, "", O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (500, '{"message": "Error in workflow"}', O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (502, "", O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (504, "", O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (599, "", O.TRANSIENT, Signal.FAILURE, Signal.SUCCESS),
    (301, "", O.REJECTED, None, Signal.SUCCESS),
    (304, "", O.REJECTED, None, Signal.SUCCESS),
    (400, "", O.REJECTED, None, Signal.SUCCESS),
    (413, "", O.REJECTED, None, Signal.SUCCESS),
    (422, "", O.REJECTED, None, Signal.SUCCESS),
]


@pytest.mark.parametrize(("status", "body", "outcome", "lane", "instance"), REPLIES)
def test_what_a_reply_means(status, body, outcome, lane, instance):
    found = classify_reply(Reply(status, {}, body))
    assert found.outcome is outcome
    heard = lane_report(found, probe=False), instance_report(found, probe=True)
    assert tuple(one and one.signal for one in heard) == (lane, instance)
    assert bool(found.code) == (outcome is not O.DELIVERED)


@pytest.mark.parametrize(
    ("failure", "outcome", "reached", "lane", "instance"),
    [
        (Failure.CONNECTION_REFUSED, O.INSTANCE_DOWN, False, None, Signal.FAILURE),
        (Failure.DNS_FAILURE, O.INSTANCE_DOWN, False, None, Signal.FAILURE),
        (Failure.CONNECTION_RESET, O.INSTANCE_DOWN, False, None, Signal.FAILURE),
        (Failure.TLS_HANDSHAKE_TIMEOUT, O.INSTANCE_DOWN, False, None, Signal.FAILURE),
        (Failure.SEND_INTERRUPTED, O.TRANSIENT, False, Signal.FAILURE, None),
        (Failure.CONNECTION_LOST_AFTER_SEND, O.UNKNOWN, True, Signal.FAILURE, None),
        (Failure.LOCAL_FAULT, O.MISCONFIGURED_LOCALLY, False, None, None),
        (Failure.CONNECT_TIMEOUT, O.TRANSIENT, False, Signal.FAILURE, None),
        (Failure.READ_TIMEOUT, O.UNKNOWN, True, Signal.FAILURE, None),
        (Failure.TLS_ERROR, O.INSTANCE_DOWN, False, None, Signal.FAILURE),
        (Failure.CONNECTION_ERROR, O.INSTANCE_DOWN, True, None, Signal.FAILURE),
    ],
)
def test_what_it_means_that_no_reply_comes(failure, outcome, reached, lane, instance):
    found = classify_failure(failure)
    assert (found.outcome, found.reached) == (outcome, reached)
    heard = lane_report(found, probe=False), instance_report(found, probe=False)
    assert tuple(one and one.signal for one in heard) == (lane, instance)


def rules(**values) -> Rules:
    plain = {"max_retries": 3, "base_delay_ms": 1000, "max_delay_ms": 30_000, "jitter_factor": 0.1}
    return Rules(**{**plain, "hold_unknown": False, "awaits_callback": False, **values})


@pytest.mark.parametrize(
    ("reply", "used", "values", "step", "spends"),
    [
        (200, 0, {}, Step.DELIVERED, False),
        (200, 0, {"awaits_callback": True}, Step.AWAIT_CALLBACK, False),
        (500, 0, {}, Step.RETRY, True),
        (500, 2, {}, Step.RETRY, True),
        (500, 3, {}, Step.BURY, False),
        (500, 0, {"max_retries": 0}, Step.BURY, False),
        (422, 0, {}, Step.BURY, False),
        (401, 99, {}, Step.RETRY, False),  # the lane's fault: the delivery waits, whatever it has used
        (Failure.CONNECTION_REFUSED, 99, {}, Step.RETRY, False),  # n8n is not there: nothing was tried
        (Failure.CONNECTION_RESET, 99, {}, Step.RETRY, False),  # nothing was sent
        (Failure.SEND_INTERRUPTED, 0, {}, Step.RETRY, True),
        (Failure.SEND_INTERRUPTED, 3, {}, Step.BURY, False),  # it may be too large for a gateway
        (Failure.CONNECTION_LOST_AFTER_SEND, 0, {}, Step.RETRY, True),
        (Failure.CONNECTION_LOST_AFTER_SEND, 0, {"hold_unknown": True}, Step.BURY, False),
        (Failure.LOCAL_FAULT, 99, {}, Step.RETRY, False),  # a setting has to be put right
        (Failure.READ_TIMEOUT, 0, {}, Step.RETRY, True),
        (Failure.READ_TIMEOUT, 0, {"hold_unknown": True}, Step.BURY, False),
    ],
)
def test_what_becomes_of_the_delivery(reply, used, values, step, spends):
    said = classify_failure(reply) if isinstance(reply, Failure) else classify_reply(Reply(reply, {}, ""))
    found = settle(classified=said, rules=rules(**values), attempt=used + 1, retries_used=used, jitter=0.5)
    assert (found.step, found.spends_retry) == (step, spends)


def test_an_unknown_outcome_that_is_held_says_so():
    said = classify_failure(Failure.READ_TIMEOUT)
    found = settle(classified=said, rules=rules(hold_unknown=True), attempt=1, retries_used=0, jitter=0)
    assert found.code == "outcome_unknown"


def test_a_hostile_body_is_classified():
    for body in ("[" * 100_000, '{"message": 5}', '{"message": "' + "x" * 10_000 + '"}', "\ud800"):
        assert len(classify_reply(Reply(500, {}, body)).message) <= 300
