"""What becomes of a delivery after an attempt."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies.breaker import Signal
from reliability.policies.classification import (
    Failure,
    Outcome,
    Reply,
    classify_failure,
    classify_reply,
)
from reliability.policies.settlement import Refusals, Rules, Step, lane_report, settle

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LOCAL = classify_failure(Failure.LOCAL_FAULT, "HTTPS_PROXY: The proxy refuses CONNECT.")


def rules(**values) -> Rules:
    plain = {"max_retries": 3, "base_delay_ms": 1000, "max_delay_ms": 30_000, "jitter_factor": 0.1}
    return Rules(**{**plain, "hold_unknown": False, "awaits_callback": False, **values})


def classified(what):
    if isinstance(what, Failure):
        return classify_failure(what)
    status, body = what if isinstance(what, tuple) else (what, "{}")
    return classify_reply(Reply(status, {}, body))


@pytest.mark.parametrize(
    ("answer", "used", "values", "step", "spends"),
    [
        (200, 0, {}, Step.DELIVERED, False),
        (200, 0, {"awaits_callback": True}, Step.AWAIT_CALLBACK, False),
        (500, 0, {}, Step.RETRY, True),
        (500, 2, {}, Step.RETRY, True),
        (500, 3, {}, Step.DEAD_LETTER, False),
        (500, 0, {"max_retries": 0}, Step.DEAD_LETTER, False),
        (422, 0, {}, Step.DEAD_LETTER, False),
        # None of these is the payload's fault: the delivery waits, whatever it has used.
        ((422, "<p>No</p>"), 99, {}, Step.RETRY, False),
        ((404, "404 page not found"), 99, {}, Step.RETRY, False),
        (301, 99, {}, Step.RETRY, False),
        (401, 99, {}, Step.RETRY, False),
        (413, 99, {}, Step.RETRY, False),
        (502, 99, {}, Step.RETRY, False),
        (503, 99, {}, Step.RETRY, False),
        (504, 99, {}, Step.RETRY, False),
        (Failure.CONNECTION_REFUSED, 99, {}, Step.RETRY, False),
        (Failure.CONNECT_TIMEOUT, 99, {}, Step.RETRY, False),
        (Failure.TLS_HANDSHAKE_TIMEOUT, 99, {}, Step.RETRY, False),
        # These may have run.
        (Failure.CONNECTION_LOST_AFTER_SEND, 0, {}, Step.RETRY, True),
        (Failure.CONNECTION_LOST_AFTER_SEND, 3, {}, Step.DEAD_LETTER, False),
        (Failure.READ_TIMEOUT, 0, {}, Step.RETRY, True),
        (Failure.SEND_INTERRUPTED, 0, {"hold_unknown": True}, Step.RETRY, True),
        (Failure.SEND_INTERRUPTED, 3, {}, Step.DEAD_LETTER, False),
        (Failure.READ_TIMEOUT, 0, {"hold_unknown": True}, Step.DEAD_LETTER, False),
        (Failure.CONNECTION_LOST_AFTER_SEND, 0, {"hold_unknown": True}, Step.DEAD_LETTER, False),
        (Failure.CONNECTION_RESET, 99, {"hold_unknown": True}, Step.RETRY, False),  # nothing was sent
    ],
)
def test_what_becomes_of_the_delivery(answer, used, values, step, spends):
    found = settle(
        classified=classified(answer), rules=rules(**values), attempt=used + 1, retries_used=used, jitter=0.5
    )
    assert (found.step, found.spends_retry) == (step, spends)


def test_an_unknown_outcome_that_is_held_says_so():
    said = classify_failure(Failure.READ_TIMEOUT)
    found = settle(classified=said, rules=rules(hold_unknown=True), attempt=1, retries_used=0, jitter=0)
    assert found.code == "outcome_unknown"


def test_a_fault_of_our_own_is_waited_for_and_spends_nothing():
    found = settle(classified=LOCAL, rules=rules(max_retries=0), attempt=9, retries_used=0, jitter=0)
    assert (found.step, found.spends_retry, found.wait) == (Step.RETRY, False, 30 * SECOND)


def test_attempts_that_spend_nothing_grow_further_apart_up_to_the_longest_delay():
    said = classify_reply(Reply(502, {}, ""))
    waits = [
        settle(classified=said, rules=rules(), attempt=n, retries_used=0, jitter=0).wait.total_seconds()
        for n in (1, 2, 3, 4, 5, 6, 99)
    ]
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_retry_after_is_honoured_up_to_the_longest_delay():
    for status in (429, 503, 413):
        said = classify_reply(Reply(status, {}, ""))
        for asked, wait in ((20, 20), (600, 30)):
            found = settle(
                classified=said, rules=rules(), attempt=1, retries_used=0, jitter=0, retry_after=asked * SECOND
            )
            assert found.wait == wait * SECOND


@pytest.mark.parametrize(
    ("refused", "passed", "step", "again"),
    [
        (None, None, Step.RETRY, False),
        (None, 5, Step.RETRY, False),
        (5, None, Step.RETRY, True),
        (5, 4, Step.RETRY, True),  # it passed before the gateway began to refuse
        (5, 5, Step.RETRY, True),
        (5, 6, Step.DEAD_LETTER, None),
    ],
)
@pytest.mark.parametrize("status", [403, 413, 414, 431])
def test_one_that_a_gateway_refuses_dies_only_if_others_passed_since(status, refused, passed, step, again):
    at = {None: None} | {n: NOW + n * SECOND for n in range(10)}
    refusals = Refusals(at[refused], at[passed])
    said = classify_reply(Reply(status, {}, ""))
    found = settle(classified=said, rules=rules(), attempt=2, retries_used=0, jitter=0, refusals=refusals)
    assert (found.step, found.spends_retry, found.refused) == (step, False, step is Step.RETRY)
    report = lane_report(said, probe=False, refusals=refusals)
    assert (report and (report.signal, report.again)) == (None if again is None else (Signal.REFUSAL, again))
    if step is Step.DEAD_LETTER:
        assert "Other deliveries got through" in found.message
        assert found.code == f"http_{status}"


@given(
    status=st.integers(300, 599),
    body=st.sampled_from(["", "<html>", "404 page not found", "{}", '{"message": "x"}']),
    used=st.integers(0, 5),
    attempt=st.integers(1, 50),
)
def test_a_proxy_s_answer_is_no_payload_s_death(status, body, used, attempt):
    """Whatever is not JSON and no 5xx or slow-down of the workflow's own never ends a delivery."""
    said = classify_reply(Reply(status, {}, body))
    found = settle(classified=said, rules=rules(), attempt=attempt, retries_used=used, jitter=0.3)
    if found.step is Step.DEAD_LETTER:
        own = said.outcome is Outcome.REJECTED and body.startswith("{")
        assert own or (said.outcome is Outcome.TRANSIENT and used >= 3)
