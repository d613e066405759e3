"""Nobody retries an error workflow: a report that can be read is kept, whatever is wrong with a part of it."""

import json
import logging

import pytest

from reliability.models import DeadLetter, Delivery, FailureReport

from ..support.bodies import failed

URL = "/api/v1/executions/failed/"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_key(settings):
    settings.N8N_API_KEY = ""


@pytest.fixture
def report(api):
    def call(body, url=URL):
        data = body if isinstance(body, bytes) else json.dumps(body)
        return api.post(url, data, content_type="application/json")

    return call


def deep(levels):
    return ("[" * levels + "]" * levels).encode()


WHOLE = json.dumps(failed("2")).encode()
KEPT = {
    "a NUL": WHOLE.replace(b"boom", b"bo\\u0000om"),
    "a raw NUL": WHOLE.replace(b"boom", b"bo\x00om"),
    "half of a pair": WHOLE.replace(b"boom", b"bo\\ud800om"),
    "no UTF-8": WHOLE.replace(b"boom", b"bo\xffom"),
    "a line break": WHOLE.replace(b"boom", b"bo\nom"),
    "too deep": WHOLE[:-1] + b', "more": ' + deep(150) + b"}",
    "much too deep": WHOLE[:-1] + b', "more": ' + deep(100_000) + b"}",
    "a number too large": WHOLE[:-1] + b', "more": [1e400, NaN, ' + b"9" * 5000 + b"]}",
    "a name twice": WHOLE[:-1] + b', "more": 1, "more": 2}',
    "a list of one": b"[" + WHOLE + b"]",
}


@pytest.mark.parametrize("body", KEPT.values(), ids=KEPT)
def test_what_cannot_be_stored_is_replaced_and_the_report_kept(workflow, report, body):
    workflow("echo", name="Echo")
    answer = report(body)
    assert answer.status_code == 201, answer.content
    letter = DeadLetter.objects.get()
    assert (letter.lane.workflow.slug, letter.execution_id, letter.error_code) == ("echo", "2", "execution_failed")
    assert letter.error_message.startswith("Code: bo")
    assert letter.document["workflow"] == {"id": "wf1", "name": "Echo"}
    assert report(body).status_code == 200  # the same execution again
    shown = DeadLetter.objects.extra(where=["payload::jsonb IS NOT NULL"])  # what PostgreSQL reads as JSON
    assert shown.count() == 1


MISSING = {
    "no execution": {"workflow": {"id": "1", "name": "x"}},
    "no workflow": {"execution": {"id": "1", "error": {"message": "down"}}},
    "text for an object": {**failed("2"), "execution": "down"},
    "a workflow's name alone": {**failed("2"), "workflow": "Echo"},
    "no uuid": {**failed("2"), "delivery_id": "no-uuid"},
    "a number for a uuid": {**failed("2"), "delivery_id": 5},
    "a list for a uuid": {**failed("2"), "delivery_id": ["x"]},
    "a word for an attempt": {**failed("2"), "attempt": "first"},
    "no attempt": {**failed("2"), "attempt": 0},
    "no slug": {**failed("2"), "tenant": "Not A Slug"},
    "an object for a tenant": {**failed("2"), "tenant": {}},
    "something else": {"message": "it is down", "at": "noon"},
    "a list": [{"a": 1}, {"b": 2}],
    "text": "it is down",
    "a number": 5,
}


@pytest.mark.parametrize("body", MISSING.values(), ids=MISSING)
def test_what_is_missing_or_unusable_loses_nothing_else(report, body):
    answer = report(body)
    assert answer.status_code == 201, answer.content
    letter = DeadLetter.objects.get()
    given = body if isinstance(body, dict) else {"body": body}
    assert letter.document == {name: value for name, value in given.items() if value != ""}
    assert letter.lane.tenant == "default"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'""', b"not JSON", b'{"a": "b" "c"}'])
def test_what_holds_nothing_that_can_be_read_is_refused_and_the_log_says_so(report, body, caplog):
    with caplog.at_level(logging.WARNING, "reliability.api.n8n.executions"):
        answer = report(body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert not FailureReport.objects.exists()
    is_json = body in (b"", b"{}", b"[]", b"null", b'""')
    assert ("failure_report_unreadable" in caplog.messages) != is_json


UNUSABLE = ["", " ", None, 5.5, True, [], {}, "x" * 201, "a\x00b", "a\ud800b", "undefined", "[object Object]"]


@pytest.mark.parametrize("execution_id", UNUSABLE, ids=lambda one: repr(one)[:20])
def test_an_unusable_execution_id_makes_no_repeat(report, execution_id):
    first = report(failed("2", id=execution_id, error={"message": "one"}))
    second = report(failed("2", id=execution_id, error={"message": "two"}))
    assert (first.status_code, second.status_code) == (201, 201)
    assert {one.error_message for one in DeadLetter.objects.all()} == {"Code: one", "Code: two"}
    assert FailureReport.objects.filter(execution_id="").count() == 2


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ('"down"', "down"),
        ('"do\\u0000wn \\ud800"', "do�wn �"),
        ('{"message": "down"}', "down"),
        ('["down"]', '["down"]'),
        ("5", "5"),
        ("null", "The workflow reported that it failed."),
        ('"' + "x" * 20_000 + '"', "x" * 10_000),
    ],
    ids=lambda one: one[:20],
)
def test_an_outcome_is_kept_whatever_its_error_holds(workflow, report, sent, error, kept):
    workflow(completion="callback", max_retries=0)
    made = sent("awaiting_callback")
    body = f'{{"status": "failed", "error": {error}, "execution_id": {{}}}}'
    answer = report(body.encode(), f"/api/v1/deliveries/{made.pk}/outcome/")
    assert answer.status_code == 200, answer.content
    assert kept in Delivery.objects.get().last_error


def test_an_executions_id_may_be_a_number(workflow, report):
    workflow()
    figures = {"workflow": "echo", "execution_id": 7, "status": "success"}
    assert report(figures, "/api/v1/executions/").json()["execution_id"] == "7"
    assert report({**figures, "execution_id": True}, "/api/v1/executions/").status_code == 400


def test_a_dead_letters_error_is_cut_and_cleaned_and_its_payload_held_to_the_rules(workflow, report):
    workflow()
    body = {
        "workflow": "echo",
        "payload": {"n": 1},
        "error_message": "a\x00b\ud800" + "x" * 20_000,
        "error_code": "\x00",
    }
    answer = report(body, "/api/v1/dead-letters/")
    assert answer.status_code == 201, answer.content
    assert answer.json()["error_message"] == "a�b�" + "x" * 9_996
    assert report({**body, "payload": {"n": "a\x00b"}}, "/api/v1/dead-letters/").status_code == 400
    assert report({**body, "payload": {"n": "\ud800"}}, "/api/v1/dead-letters/").status_code == 400
    assert DeadLetter.objects.count() == 1
