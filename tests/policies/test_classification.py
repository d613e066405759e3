"""What answers mean: each status, body and content type, and each way in which no answer comes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.models import AttemptResult
from reliability.models.total import RESULTS
from reliability.policies.breaker import Signal
from reliability.policies.classification import (
    Evidence,
    Failure,
    Outcome,
    Reply,
    classify_failure,
    classify_reply,
)
from reliability.policies.error_codes import Reason, reason_of
from reliability.policies.settlement import instance_report, lane_report

O = Outcome  # noqa: E741  # a column of the tables
S = Signal
NOT_REGISTERED = json.dumps({"code": 404, "message": 'The requested webhook "POST x" is not registered.', "hint": "…"})
NO_OUTPUT = json.dumps({"code": 0, "message": "No item to return was found"})
JSON_ERROR = '{"message": "no such client"}'
HTML = "<html><head><title>Error</title></head><body>nginx</body></html>"
PLAIN = "404 page not found\n"
# status, body, outcome, code, what the lane's breaker hears, what the instance's hears
REPLIES = [
    (200, '{"ok": true}', O.DELIVERED, "", S.SUCCESS, S.SUCCESS),
    (200, HTML, O.DELIVERED, "", S.SUCCESS, S.SUCCESS),
    (201, "", O.DELIVERED, "", S.SUCCESS, S.SUCCESS),
    (204, "", O.DELIVERED, "", S.SUCCESS, S.SUCCESS),
    (200, '{"note": "n8n is starting up"}', O.DELIVERED, "", S.SUCCESS, S.SUCCESS),
    (500, NO_OUTPUT, O.DELIVERED, "", S.SUCCESS, S.SUCCESS),
    (500, "No item to return was found", O.TRANSIENT, "http_500", S.FAILURE, None),
    (500, '{"message": "No item to return was found, says a node"}', O.TRANSIENT, "http_500", S.FAILURE, S.SUCCESS),
    (200, "n8n is starting up. Please wait", O.INSTANCE_DOWN, "n8n_starting", S.FAILURE, S.SUSPICION),
    (200, ' \n"n8n is starting up. Please wait"', O.INSTANCE_DOWN, "n8n_starting", S.FAILURE, S.SUSPICION),
    (503, "Database is not ready!", O.INSTANCE_DOWN, "database_not_ready", S.FAILURE, S.SUSPICION),
    (404, "<pre>Cannot POST /webhook/x</pre>", O.INSTANCE_DOWN, "routes_not_mounted", S.FAILURE, S.SUSPICION),
    (404, "<pre>Cannot GET /webhook/x</pre>", O.INSTANCE_DOWN, "routes_not_mounted", S.FAILURE, S.SUSPICION),
    *((status, HTML, O.INSTANCE_DOWN, f"http_{status}", S.FAILURE, S.SUSPICION) for status in (502, 503, 504)),
    *((status, JSON_ERROR, O.INSTANCE_DOWN, f"http_{status}", S.FAILURE, S.SUSPICION) for status in (502, 503, 504)),
    *((status, HTML, O.INSTANCE_DOWN, f"http_{status}", S.FAILURE, S.SUSPICION) for status in (520, 522, 527, 530)),
    *(
        (status, JSON_ERROR, O.TRANSIENT, f"http_{status}", S.FAILURE, S.SUCCESS)
        for status in (408, 425, 429, 500, 599)
    ),
    *((status, HTML, O.TRANSIENT, f"http_{status}", S.FAILURE, None) for status in (408, 425, 429, 500, 501, 599)),
    (404, NOT_REGISTERED, O.MISCONFIGURED, "http_404_not_registered", S.TRIP, S.SUCCESS),
    (403, "Authorization data is wrong!", O.MISCONFIGURED, "http_403_credentials", S.TRIP, S.SUCCESS),
    *((status, "", O.MISCONFIGURED, f"http_{status}", S.TRIP, None) for status in (300, 301, 302, 303, 304, 307, 308)),
    *(
        (status, body, O.MISCONFIGURED, f"http_{status}", S.TRIP, None)
        for status in (401, 405, 407, 421, 451)
        for body in ("", PLAIN, HTML, JSON_ERROR)
    ),
    *(
        (status, body, O.MISCONFIGURED, f"http_{status}_not_json", S.TRIP, None)
        for status in (400, 402, 404, 406, 409, 410, 411, 415, 422, 423, 499)
        for body in ("", PLAIN, HTML, '"text"', "17", "null")
    ),
    *(
        (status, body, O.REFUSED, f"http_{status}", S.REFUSAL, None)
        for status in (403, 413, 414, 431)
        for body in ("", PLAIN, HTML, JSON_ERROR)
    ),
    *(
        (status, body, O.REJECTED, f"http_{status}", None, S.SUCCESS)
        for status in (400, 402, 404, 406, 409, 410, 415, 422, 423, 499)
        for body in (JSON_ERROR, "[]", "{}")
    ),
]


@pytest.mark.parametrize(("status", "body", "outcome", "code", "lane", "instance"), REPLIES)
def test_what_a_reply_means(status, body, outcome, code, lane, instance):
    found = classify_reply(Reply(status, {}, body))
    assert (found.outcome, found.code) == (outcome, code)
    heard = lane_report(found, probe=False), instance_report(found, probe=True)
    assert tuple(one and one.signal for one in heard) == (lane, instance)


@pytest.mark.parametrize(
    ("content_type", "body", "outcome"),
    [
        ("application/json; charset=utf-8", '{"cut off": "', O.REJECTED),  # only its beginning is kept
        ("application/problem+json", "", O.REJECTED),
        ("Application/JSON", "not even JSON", O.REJECTED),
        ("text/html", '{"message": "a workflow that says text"}', O.REJECTED),
        ("text/html", HTML, O.MISCONFIGURED),
        ("text/plain; note=json", PLAIN, O.MISCONFIGURED),
        ("", "", O.MISCONFIGURED),
    ],
)
def test_json_is_told_by_the_content_type_or_by_the_body(content_type, body, outcome):
    assert classify_reply(Reply(422, {"content-type": content_type}, body)).outcome is outcome


@pytest.mark.parametrize(
    ("failure", "outcome", "reached", "lane", "instance"),
    [
        (Failure.CONNECTION_REFUSED, O.INSTANCE_DOWN, False, None, S.FAILURE),
        (Failure.DNS_FAILURE, O.INSTANCE_DOWN, False, None, S.FAILURE),
        (Failure.TLS_ERROR, O.INSTANCE_DOWN, False, None, S.FAILURE),
        (Failure.TLS_HANDSHAKE_TIMEOUT, O.INSTANCE_DOWN, False, S.FAILURE, S.SUSPICION),
        (Failure.CONNECT_TIMEOUT, O.INSTANCE_DOWN, False, S.FAILURE, S.SUSPICION),
        (Failure.CONNECTION_RESET, O.INSTANCE_DOWN, False, S.FAILURE, S.SUSPICION),
        (Failure.CONNECTION_LOST_AFTER_SEND, O.UNKNOWN, True, S.FAILURE, S.SUSPICION),
        (Failure.SEND_INTERRUPTED, O.TRANSIENT, False, S.FAILURE, S.SUSPICION),
        (Failure.LOCAL_FAULT, O.MISCONFIGURED_LOCALLY, False, None, None),
        (Failure.READ_TIMEOUT, O.UNKNOWN, True, S.FAILURE, S.SUSPICION),
        (Failure.CONNECTION_ERROR, O.UNKNOWN, True, S.FAILURE, S.SUSPICION),
    ],
)
def test_what_it_means_that_no_reply_comes(failure, outcome, reached, lane, instance):
    found = classify_failure(failure)
    assert (found.outcome, found.reached) == (outcome, reached)
    heard = lane_report(found, probe=False), instance_report(found, probe=False)
    assert tuple(one and one.signal for one in heard) == (lane, instance)


def test_a_fault_of_our_own_charges_no_breaker_and_names_its_setting():
    found = classify_failure(
        Failure.LOCAL_FAULT, "REQUESTS_CA_BUNDLE: There is no such file.", code="ca_bundle_missing"
    )
    assert (found.outcome, found.reached) == (O.MISCONFIGURED_LOCALLY, False)
    assert found.code == "ca_bundle_missing"
    assert found.message == "REQUESTS_CA_BUNDLE: There is no such file."
    assert (lane_report(found, probe=True), instance_report(found, probe=True)) == (None, None)


@given(
    status=st.integers(200, 599),
    body=st.one_of(st.text(max_size=60), st.sampled_from([HTML, PLAIN, JSON_ERROR, NOT_REGISTERED, NO_OUTPUT, "[]"])),
    content_type=st.sampled_from(["", "text/html", "text/plain", "application/json"]),
)
def test_every_answer_has_a_meaning_and_only_json_rejects_a_payload(status, body, content_type):
    found = classify_reply(Reply(status, {"content-type": content_type}, body))
    assert found.outcome in tuple(Outcome)
    assert bool(found.code) == bool(found.message) == (found.outcome is not O.DELIVERED)
    if found.outcome is O.REJECTED:
        assert 400 <= status < 500
        assert content_type == "application/json" or isinstance(json.loads(body), dict | list)
    if found.outcome is O.DELIVERED:
        assert status < 300 or body == NO_OUTPUT
    if found.code:
        assert reason_of(code=found.code) is not Reason.REPORTED
    assert found.evidence is not Evidence.ABSENT  # whoever answers is there


def test_every_code_has_a_reason_of_its_own():
    codes = {classify_failure(one).code for one in Failure}
    codes |= {classify_reply(Reply(status, {}, body)).code for status in range(300, 600) for body in ("", "{}")}
    codes |= {classify_reply(Reply(row[0], {}, row[1])).code for row in REPLIES} - {""}
    assert [code for code in sorted(codes) if reason_of(code=code) is Reason.REPORTED] == []


def test_every_outcome_can_be_kept_and_counted():
    assert {str(one) for one in Outcome} <= set(AttemptResult.values)
    assert sorted(map(str, RESULTS)) == sorted(AttemptResult.values)


def test_a_hostile_body_is_classified():
    for body in ("[" * 100_000, '{"message": 5}', '{"message": "' + "x" * 10_000 + '"}', "\ud800"):
        assert len(classify_reply(Reply(500, {}, body)).message) <= 300
