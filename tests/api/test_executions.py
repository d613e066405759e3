"""Failed executions that n8n reports by the API."""

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connection

from reliability.models import Attempt, DeadLetter, DeliveryState, Execution, FailureReport, Workflow
from reliability.n8n import workflow_matching

from ..support.bodies import TRIGGER, crashed, failed

URL = "/api/v1/executions/failed/"
FIGURES = "/api/v1/executions/"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_key(settings):
    settings.N8N_API_KEY = ""


@pytest.fixture
def report(api):
    def call(body, client=None, url=URL, **headers):
        return (client or api).post(url, json.dumps(body), content_type="application/json", headers=headers)

    return call


def test_a_failure_without_a_delivery_is_buried_with_all_that_n8n_said(workflow, report):
    workflow("echo", name="Echo")
    answer = report(failed("2"))
    assert answer.status_code == 201, answer.content
    letter = DeadLetter.objects.get()
    shape = answer.json()
    assert shape == {
        "id": str(FailureReport.objects.get().pk),
        "state": "buried",
        "delivery": None,
        "dead_letter": str(letter.pk),
        "execution_id": "2",
    }
    assert (letter.source, letter.status, letter.lane.workflow.slug, letter.lane.tenant) == (
        *("n8n", "dead", "echo", "default"),
    )
    assert (letter.error_code, letter.error_message) == ("execution_failed", "Code: boom [line 1]")
    assert (letter.execution_id, letter.execution_url) == ("2", failed("2")["execution"]["url"])
    assert letter.document == failed("2")
    assert Execution.objects.get().status == "error"


def test_the_same_execution_again_is_the_same_entry(report):
    first, second = report(failed("2")), report({**failed("2"), "unknown": 1})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert DeadLetter.objects.count() == FailureReport.objects.count() == 1
    assert report(failed("3")).status_code == 201
    assert DeadLetter.objects.count() == 2


def test_64_at_once_make_one_entry(report, client_of):
    client = client_of()

    def once(_):
        try:
            return report(failed("2"), client).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(once, range(64)))
    assert sorted(answers) == [200] * 63 + [201]
    assert DeadLetter.objects.count() == FailureReport.objects.count() == Workflow.objects.count() == 1


def test_two_keys_that_report_the_same_execution_make_one_entry(report, client_of):
    assert report(failed("2"), client_of("default")).status_code == 201
    assert report(failed("2")).status_code == 201
    assert DeadLetter.objects.count() == 1


def test_a_trigger_that_cannot_start_is_one_entry_however_many_report_it_at_once(report):
    def call(_):
        try:
            return report(TRIGGER).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(call, range(16)))
    assert codes == [200] * 15 + [201]
    assert DeadLetter.objects.get().retry_count == 15


def test_a_trigger_that_cannot_start_is_one_entry_however_often_n8n_tries(report):
    first = report(TRIGGER)
    assert (first.status_code, first.json()["state"]) == (201, "buried")
    assert report(TRIGGER).status_code == 200
    letter = DeadLetter.objects.get()
    assert (letter.error_code, letter.retry_count) == ("trigger_failed", 1)
    assert letter.error_message == "Schedule Trigger: not a cron expression"
    assert letter.lane.workflow.slug == "nightly-report"


def test_executions_that_were_not_saved_are_told_apart_by_nothing(report):
    assert [report(failed(None)).status_code for _ in range(2)] == [201, 201]
    assert set(DeadLetter.objects.values_list("execution_id", flat=True)) == {""}


def test_so_many_workflows_are_made_of_reports_and_one_stands_for_all_others(report, client_of, monkeypatch):
    monkeypatch.setattr(workflow_matching, "REPORTED_LIMIT", 2)
    client = client_of("acme", "report")
    for n in range(5):
        body = failed(str(n))
        body["workflow"] = {"id": f"wf-{n}", "name": f"Made up {n}"}
        assert report(body, client).status_code == 201
    letters = DeadLetter.objects.order_by("id")
    assert [one.lane.workflow.slug for one in letters] == ["made-up-0", "made-up-1", *["n8n-others"] * 3]
    assert letters[4].document["workflow"]["name"] == "Made up 4"
    assert set(Workflow.objects.values_list("paused", flat=True)) == {True}
    assert {one.lane.tenant for one in letters} == {"acme"}


def test_the_one_for_all_others_takes_nobodys_place_and_may_not_be_resumed_by_advice(workflow, report, monkeypatch):
    monkeypatch.setattr(workflow_matching, "REPORTED_LIMIT", 0)
    workflow("n8n-others")
    for n in range(2):
        body = failed(str(n))
        body["workflow"] = {"id": f"wf-{n}", "name": f"Made up {n}"}
        assert report(body).status_code == 201
    lanes = {one.lane.workflow.slug for one in DeadLetter.objects.all()}
    assert lanes == {"n8n-others-2"}
    assert Workflow.objects.get(slug="n8n-others-2").paused_reason == workflow_matching.COLLECTS_OTHERS


def test_a_workflow_that_nobody_knows_is_made_and_paused(report):
    report(failed("2", workflow="Rechnung für Öl"))
    made = Workflow.objects.get()
    assert (made.slug, made.name, made.n8n_workflow_id) == ("rechnung-f-r-l", "Rechnung für Öl", "wf1")
    assert made.paused
    assert "n8n" in made.paused_reason


@pytest.mark.parametrize(
    "known",
    [
        {"slug": "by-id", "name": "something", "n8n_workflow_id": "wf1"},
        {"slug": "by-name", "name": "ECHO"},
        {"slug": "echo", "name": "by slug"},
    ],
    ids=lambda known: known["name"],
)
def test_the_lane_is_found_by_id_name_or_slug(workflow, report, known):
    workflow("decoy", name="Decoy")
    workflow(**known)
    report(failed("2"), tenant=None)
    assert DeadLetter.objects.get().lane.workflow.slug == known["slug"]
    assert Workflow.objects.count() == 2


def test_a_slug_that_is_anothers_is_not_taken(workflow, report):
    workflow("echo", name="Echo", n8n_workflow_id="another")
    report(failed("2"))
    assert DeadLetter.objects.get().lane.workflow.slug == "n8n-wf1"


def test_the_tenant_is_the_keys_or_the_bodys(report, client_of):
    report({**failed("1"), "tenant": "acme"})
    report(failed("2"), client_of("beta"))
    assert report({**failed("3"), "tenant": "acme"}, client_of("beta")).status_code == 403
    assert set(DeadLetter.objects.values_list("lane__tenant", flat=True)) == {"acme", "beta"}


@pytest.mark.parametrize("by", ["body", "header"])
def test_a_delivery_that_is_named_is_joined(workflow, report, sent, by):
    workflow()
    made = sent("pending")
    named = {"delivery_id": str(made.pk)} if by == "body" else {}
    headers = {} if by == "body" else {"X-Backstop-Delivery": str(made.pk)}
    answer = report({**failed("2"), **named}, **headers)
    assert answer.status_code == 201
    assert (answer.json()["state"], answer.json()["delivery"]) == ("joined", str(made.pk))
    assert answer.json()["dead_letter"] is None
    assert not DeadLetter.objects.exists()
    made.refresh_from_db()
    assert (made.state, made.last_error) == ("pending", "execution_failed: Code: boom [line 1]")
    assert Execution.objects.get().delivery_id == made.pk
    assert report({**failed("2"), **named}, **headers).status_code == 200


def test_a_delivered_one_whose_work_failed_afterwards_is_dead(workflow, report, sent, lane_breaker):
    workflow(circuit_breaker_threshold=1)
    made = sent("delivered")
    answer = report({**failed("2"), "delivery_id": str(made.pk)})
    letter = DeadLetter.objects.get()
    assert answer.json()["dead_letter"] == str(letter.pk)
    assert (letter.source, letter.delivery_id, letter.document) == ("delivery", made.pk, {"n": 1})
    assert (letter.error_code, letter.error_message) == ("execution_failed", "Code: boom [line 1]")
    assert (letter.execution_id, letter.execution_url) == ("2", failed("2")["execution"]["url"])
    made.refresh_from_db()
    assert made.state == "dead"
    assert Attempt.objects.get().result == "reported_failed"
    assert lane_breaker().state == "open"


def test_a_dead_one_says_what_n8n_says(workflow, report, receiver, drain, accept):
    workflow(max_retries=0)
    receiver.always(500, '{"message": "Error in workflow"}')
    made = accept()
    drain()
    answer = report({**failed("2"), "delivery_id": str(made.pk)})
    letter = DeadLetter.objects.get()
    assert answer.json()["dead_letter"] == str(letter.pk)
    assert (letter.error_code, letter.error_message) == ("http_500", "Code: boom [line 1]")
    assert letter.execution_id == "2"


def test_one_that_is_buried_later_takes_what_was_reported_of_its_last_attempt(
    workflow, report, receiver, drain, accept
):
    workflow(max_retries=1)
    made = accept()

    def fail(got):
        from ..support.receiver import Reply

        number = got.headers["x-backstop-attempt"]
        answer = report({**failed(f"10{number}", message=f"boom {number}"), "delivery_id": str(made.pk)})
        assert answer.status_code == 201
        connection.close()
        return Reply(500)

    receiver.rule = fail
    for _ in range(4):
        drain()
    letter = DeadLetter.objects.get()
    assert (letter.error_code, letter.error_message, letter.execution_id) == ("http_500", "Code: boom 2", "102")
    assert FailureReport.objects.filter(state="joined", delivery=made).count() == 2


def test_a_failure_reported_before_the_2xx_was_settled_is_not_lost(workflow, report, receiver, drain, accept):
    from ..support.receiver import Reply

    workflow()
    made = accept()

    def respond(got):
        assert report({**failed("2"), "delivery_id": str(made.pk)}).json()["state"] == "joined"
        connection.close()
        return Reply(200)

    receiver.rule = respond
    drain()
    made.refresh_from_db()
    assert made.state == "dead"
    assert DeadLetter.objects.get().execution_id == "2"
    assert len(receiver.got) == 1


def test_a_late_report_of_an_earlier_attempt_does_not_undo_the_present_one(workflow, report, receiver, drain, accept):
    from ..support.receiver import Reply

    workflow()
    made = accept()
    answers = iter([Reply(500), Reply(200)])
    receiver.rule = lambda got: next(answers)
    for _ in range(4):
        drain()
    for body in ({"delivery_id": str(made.pk)}, {"delivery_id": str(made.pk), "attempt": 1}):
        report({**failed(str(len(body))), **body})
    made.refresh_from_db()
    assert made.state == "delivered"
    assert not DeadLetter.objects.exists()
    report({**failed("9"), "delivery_id": str(made.pk), "attempt": "2"})
    made.refresh_from_db()
    assert made.state == "dead"


@pytest.mark.parametrize("state", ["cancelled", "skipped"])
def test_what_was_withdrawn_is_only_linked(workflow, report, sent, state):
    workflow()
    made = sent(state)
    assert report({**failed("2"), "delivery_id": str(made.pk)}).json()["state"] == "joined"
    made.refresh_from_db()
    assert made.state == state
    assert not DeadLetter.objects.exists()


def test_another_tenants_delivery_is_not_found_and_nothing_is_kept(workflow, report, sent, client_of):
    workflow()
    made = sent("delivered", tenant="acme")
    beta = client_of("beta")
    for body in ({**failed("2"), "delivery_id": str(made.pk)}, {**failed("2"), "delivery_id": str(uuid4())}):
        answer = report(body, beta)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
    Execution.objects.create(
        lane=made.lane, delivery=made, execution_id="2", status="success", reported_at=made.created_at
    )
    assert report(failed("2"), beta).status_code == 404
    assert not FailureReport.objects.exists()
    assert not DeadLetter.objects.exists()
    made.refresh_from_db()
    assert made.state == DeliveryState.DELIVERED


def test_what_two_tenants_claim_to_have_run_is_nobodys(workflow, report, sent, client_of):
    workflow()
    for tenant in ("acme", "beta"):
        made = sent("delivered", tenant=tenant)
        figures = {"workflow": "echo", "execution_id": "2", "status": "running", "delivery": str(made.pk)}
        assert report(figures, client_of(tenant), FIGURES).status_code == 201
    assert report(failed("2")).json()["state"] == "buried"
    assert report(failed("2"), client_of("beta")).json()["delivery"] == str(made.pk)
    assert report({**failed("2"), "delivery_id": str(made.pk)}, client_of("gamma")).status_code == 404


def test_a_delivery_that_is_gone_is_no_reason_to_lose_a_failure(report):
    assert report({**failed("2"), "delivery_id": str(uuid4())}).json()["state"] == "buried"


def test_an_execution_that_is_known_is_joined_without_being_named(workflow, report, sent):
    workflow()
    made = sent("delivered")
    body = {"workflow": "echo", "execution_id": "2", "status": "running", "delivery": str(made.pk)}
    assert report(body, url=FIGURES).status_code == 201
    assert report(failed("2")).json()["delivery"] == str(made.pk)
    made.refresh_from_db()
    assert made.state == "dead"


def test_a_crash_is_called_one(report):
    report(crashed("2"))
    assert DeadLetter.objects.get().error_code == "execution_crashed"
    assert Execution.objects.get().status == "crashed"
    assert report(failed("2", message="Workflow did not finish, possible out-of-memory issue")).status_code == 200
    assert DeadLetter.objects.count() == 1


def test_what_an_expression_left_empty_was_not_given(report):
    assert report({**failed("2"), "delivery_id": "", "tenant": None, "attempt": ""}).status_code == 201


def test_a_large_report_is_kept_and_cut_and_a_huge_one_refused(report, settings):
    body = failed("2", message="m" * 5_000_000)
    assert report(body).status_code == 201
    letter = DeadLetter.objects.get()
    assert len(letter.payload) < 300_000
    assert len(letter.error_message) == 10_000
    settings.MAX_BODY_BYTES = 1_000_000
    assert report(failed("3", message="m" * 2_000_000)).status_code == 413


def test_it_needs_the_scope_report(report, client_of):
    assert report(failed("2"), client_of(None, "read", "deliver", "operate")).status_code == 403
    assert report(failed("2"), client_of(None, "report")).status_code == 201
