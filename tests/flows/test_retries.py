"""Dead letters that come back by n8n's own retry of their execution."""

import itertools
import json
from datetime import timedelta

import pytest
from django.test import Client

from reliability.bulk import steps
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.errors import NotReplayable
from reliability.models import (
    AuditEntry,
    DeadLetter,
    Delivery,
    Execution,
    ExecutionRetry,
    FailureReport,
    Operation,
)
from reliability.n8n import execution_retry

from ..support.bodies import failed
from ..support.n8n_api import KEY
from ..support.receiver import until
from .n8n_reports import headers, look, work

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_retry_that_succeeds_recovers_the_letter(n8n, letter, send):
    made = letter()
    answer = send(f"{made.pk}/replay/", {"reason": "fixed", "load_workflow": False})
    assert answer.status_code == 202, answer.content
    assert answer.json()["count"] == 1
    assert "delivery" not in answer.json()
    made.refresh_from_db()
    assert made.status == "replaying"
    assert n8n.count("POST") == 0
    assert work().state == "succeeded"
    made.refresh_from_db()
    assert made.status == "recovered"
    assert n8n.asked[-1] == ("POST", "/api/v1/executions/2/retry", {"loadWorkflow": False})
    entry = AuditEntry.objects.get(action="replay")
    assert (entry.target_id, entry.reason, entry.details["execution"]) == (str(made.pk), "fixed", "2")
    assert send(f"{made.pk}/replay/").status_code == 409
    assert set(Execution.objects.values_list("execution_id", "status")) == {("2", "error"), ("3", "success")}


def test_a_retry_that_fails_is_the_same_letter_again_under_its_new_execution(n8n, letter, send, report):
    made = letter()
    n8n.retries = "error"
    send(f"{made.pk}/replay/")
    assert work().state == "failed"
    made.refresh_from_db()
    assert (made.status, made.execution_id, made.error_message) == ("dead", "3", "Code: boom again")
    assert made.retry_count == 1
    assert made.execution_url.endswith("/executions/3")
    # n8n's Error Trigger reports it as well.
    assert report(failed("3", retryOf="2")).json() == {
        **report(failed("3", retryOf="2")).json(),
        "state": "joined",
        "dead_letter": str(made.pk),
    }
    assert DeadLetter.objects.count() == 1
    n8n.retries = "success"
    send(f"{made.pk}/replay/")
    work()
    made.refresh_from_db()
    assert made.status == "recovered"
    assert n8n.asked[-1][1] == "/api/v1/executions/3/retry"


def test_the_error_triggers_report_may_come_before_the_answer(n8n, letter, send, report):
    made = letter()
    send(f"{made.pk}/replay/")
    ExecutionRetry.objects.update(state="asked")
    assert report(failed("3", retryOf="2", message="again")).json()["dead_letter"] == str(made.pk)
    made.refresh_from_db()
    assert (made.status, made.execution_id, made.error_message) == ("dead", "3", "Code: again")
    assert ExecutionRetry.objects.get().state == "failed"


def test_a_retry_by_hand_that_fails_joins_the_letter(n8n, letter, report):
    made = letter()
    assert report(failed("7", retryOf="2", message="by hand")).json()["dead_letter"] == str(made.pk)
    assert report(failed("8", retryOf="7", message="by hand again")).json()["dead_letter"] == str(made.pk)
    made.refresh_from_db()
    assert (made.execution_id, made.error_message, made.status) == ("8", "Code: by hand again", "dead")
    assert DeadLetter.objects.count() == 1


def test_a_timeout_is_never_asked_twice_but_looked_after(n8n, letter, send):
    made = letter()
    n8n.hang_up_after_retry = True
    send(f"{made.pk}/replay/")
    assert work().state == "asked"
    assert work().state == "succeeded"
    assert n8n.count("POST") == 1
    made.refresh_from_db()
    assert made.status == "recovered"


@pytest.mark.parametrize(("status", "state"), [("error", "failed"), ("running", "asked")])
def test_a_worker_that_died_after_asking_leaves_a_retry_that_is_looked_after(n8n, letter, send, status, state):
    made = letter()
    send(f"{made.pk}/replay/")
    ExecutionRetry.objects.update(state="asked")
    n8n.add("3", status, mode="retry", retryOf="2", message="boom again")
    assert work().state == state
    assert n8n.count("POST") == 0
    if state == "asked":
        assert work().new_execution_id == "3"
        n8n.executions["3"]["status"] = "success"
        assert work().state == "succeeded"


def test_a_worker_killed_in_the_middle_of_asking_leaves_one_retry(n8n, letter, send, workers, receiver):
    made = letter()
    n8n.retry_wait = 2.0
    asking = {"N8N_WEBHOOK_URL": receiver.url, "N8N_API_URL": n8n.url, "N8N_API_KEY": KEY}
    first = workers.start(**asking)
    send(f"{made.pk}/replay/")
    until(lambda: n8n.count("POST") == 1)
    workers.kill(first)
    retried = ExecutionRetry.objects.get()
    assert retried.state == "asked"
    assert timedelta(seconds=60) < retried.due_at - clock.now() < execution_retry.CHECK_AFTER
    execution_retry.process(retry_id=retried.pk)  # not due: its answer might still come
    ExecutionRetry.objects.update(due_at=clock.now() - timedelta(minutes=2))
    assert execution_retry.wake_overdue(now=clock.now()) == 1
    workers.start(**asking)
    until(lambda: DeadLetter.objects.get(pk=made.pk).status == "recovered")
    assert n8n.count("POST") == 1


def test_what_nobody_can_find_out_is_a_person_s_to_decide(n8n, letter, send):
    made = letter()
    send(f"{made.pk}/replay/")
    ExecutionRetry.objects.update(state="asked")
    for _ in range(execution_retry.MAX_CHECKS + 1):
        work()
    made.refresh_from_db()
    assert made.status == "dead"
    assert made.error_message.startswith("outcome_unknown")
    assert n8n.count("POST") == 0


def test_what_n8n_did_not_begin_is_asked_again(n8n, letter, send):
    made = letter()
    send(f"{made.pk}/replay/")
    n8n.answer = lambda method, path: 429 if method == "POST" else None
    assert work().state == "pending"
    n8n.answer = lambda method, path: None
    assert work().state == "succeeded"


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        ({"retrySuccessId": "9"}, "succeeded", ""),
        ({"status": "success"}, "succeeded", ""),
        ({"status": "running"}, "failed", "is running"),
        (None, "failed", "does not have it"),
    ],
)
def test_an_execution_that_needs_no_retry_or_cannot_have_one(n8n, letter, send, change, state, said):
    made = letter()
    if change is None:
        del n8n.executions["2"]
    else:
        n8n.executions["2"].update(change)
    send(f"{made.pk}/replay/")
    assert work().state == state
    assert n8n.count("POST") == 0
    made.refresh_from_db()
    assert made.status == ("recovered" if state == "succeeded" else "dead")
    assert said in made.error_message


@pytest.mark.parametrize("case", ["another tenant", "another workflow"])
def test_an_execution_of_others_is_not_retried_by_whoever_names_it(n8n, workflow, accept, drain, receiver, key, case):
    workflow("echo", n8n_workflow_id="wf1", completion="callback", max_retries=0)
    own, foreign = accept(tenant="acme"), accept(tenant="beta")
    drain()
    if case == "another tenant":
        n8n.add("2", headers=headers(foreign), message="a secret of beta's")
    else:
        n8n.add("2", workflowId="wf2", message="a secret of beta's")
    client = Client(headers={"X-API-Key": key(tenant="acme")})
    said = json.dumps({"status": "failed", "execution_id": "2"})
    client.post(f"/api/v1/deliveries/{own.pk}/outcome/", said, content_type="application/json")
    made = DeadLetter.objects.get()
    url, via = f"/api/v1/dead-letters/{made.pk}/replay/", json.dumps({"via": "execution"})
    assert client.post(url, via, content_type="application/json").status_code == 202
    assert work().state == "failed"
    assert n8n.count("POST") == 0
    made.refresh_from_db()
    assert (made.status, "secret" in made.error_message) == ("dead", False)


def test_a_key_without_the_scope_says_which_is_missing(n8n, letter, send):
    made = letter()
    n8n.scopes.discard("execution:retry")
    send(f"{made.pk}/replay/")
    assert work().state == "failed"
    made.refresh_from_db()
    assert "execution:retry" in made.error_message


def test_two_who_retry_at_once_make_one(n8n, letter, send):
    made = letter()
    assert [send(f"{made.pk}/replay/").status_code for _ in range(2)] == [202, 409]
    for _ in range(2):
        execution_retry.process(retry_id=ExecutionRetry.objects.get().pk)
    assert n8n.count("POST") == 1


def test_it_is_refused_where_it_cannot_be(n8n, letter, send, report, settings, workflow, accept, receiver, drain):
    made = letter()
    assert send(f"{made.pk}/replay/", {"via": "webhook"}).status_code == 409
    assert send(f"{made.pk}/replay/", {"payload": {}}).status_code == 400
    assert send(f"{made.pk}/replay/", {"via": "pigeon"}).status_code == 400
    report(failed(None))
    without = DeadLetter.objects.get(execution_id="")
    answer = send(f"{without.pk}/replay/")
    assert (answer.status_code, "no execution" in answer.json()["detail"]) == (409, True)
    settings.N8N_API_KEY = ""
    answer = send(f"{made.pk}/replay/")
    assert (answer.status_code, "N8N_API_KEY" in answer.json()["detail"]) == (409, True)
    assert set(DeadLetter.objects.values_list("status", flat=True)) == {"dead"}


def test_a_delivery_that_was_joined_can_come_back_either_way(n8n, report, delivered, send, drain, receiver):
    made = delivered()
    n8n.add("2", headers=headers(made))
    report(failed("2"))
    look()
    letter = DeadLetter.objects.get()
    n8n.retries = "error"
    assert send(f"{letter.pk}/replay/", {"via": "execution"}).status_code == 202
    work()
    letter.refresh_from_db()
    assert (letter.status, letter.execution_id) == ("dead", "3")
    assert send(f"{letter.pk}/replay/").status_code == 202
    drain()
    letter.refresh_from_db()
    assert letter.status == "recovered"
    assert len(receiver.got) == 2


def test_many_come_back_each_its_own_way_at_the_rate(n8n, letter, report, send, workflow, accept, receiver, drain):
    workflow("plain", max_retries=0)
    receiver.always(500)
    accept(workflow="plain")
    drain()
    for number in ("2", "3", "4"):
        letter(number)
    report(failed(None))
    answer = send("replay/", {"filter": {}, "rate_per_second": 10})
    assert answer.json()["count"] == 5
    operation = Operation.objects.get()
    now = clock.now()
    while (now := steps.step(operation_id=operation.pk, now=now)) is not None:
        pass
    operation.refresh_from_db()
    assert (operation.done, operation.skipped) == (4, 1)
    due = list(ExecutionRetry.objects.order_by("due_at").values_list("due_at", flat=True))
    assert [round((b - a).total_seconds(), 2) for a, b in itertools.pairwise(due)] == [0.1, 0.1]
    assert Delivery.objects.filter(source="replay").count() == 1


def test_n8ns_letters_are_purged_as_others_are(n8n, letter, send, api):
    made = letter()
    assert api.delete(f"/api/v1/dead-letters/{made.pk}/", "{}", content_type="application/json").status_code == 204
    assert report_state() == {"buried"}
    with pytest.raises(NotReplayable):
        execution_retry.begin(dead_letter_id=made.pk, actor=Actor("t"), now=clock.now())


def report_state() -> set[str]:
    return set(FailureReport.objects.values_list("state", flat=True))
