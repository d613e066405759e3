"""Failures that n8n reports, looked up in its REST API, and dead letters that come back by its own retry."""

import itertools
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob

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
from reliability.pipeline import bulk, clock, lookup, n8n_api, replay, retry
from reliability.pipeline.audit import Hand

from ..support.bodies import failed
from ..support.n8n_api import KEY, FakeN8n
from ..support.receiver import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def n8n(settings):
    made = FakeN8n()
    settings.N8N_API_URL, settings.N8N_API_KEY = made.url, KEY
    yield made
    made.stop()


@pytest.fixture
def report(api):
    def call(body, client=None):
        return (client or api).post("/api/v1/executions/failed/", json.dumps(body), content_type="application/json")

    return call


@pytest.fixture
def send(api):
    def call(path, body=None):
        return api.post(f"/api/v1/dead-letters/{path}", json.dumps(body or {}), content_type="application/json")

    return call


def look() -> FailureReport:
    """Do what a worker does for the newest report."""
    report = FailureReport.objects.first()
    lookup.look(report_id=report.pk)
    report.refresh_from_db()
    return report


def looks() -> int:
    """Count the jobs that wait to look the newest report up."""
    wanted = {"task_name": "look_up", "status": "todo", "args__report_id": str(FailureReport.objects.first().pk)}
    return ProcrastinateJob.objects.filter(**wanted).count()


def work(now=True) -> ExecutionRetry:
    """Do what a worker does for the newest retry."""
    one = ExecutionRetry.objects.first()
    if now:
        ExecutionRetry.objects.filter(pk=one.pk).update(due_at=clock.now())
    retry.work(retry_id=one.pk)
    one.refresh_from_db()
    return one


def headers(delivery, attempt=1) -> dict[str, str]:
    return {"x-backstop-delivery": str(delivery.pk), "x-backstop-attempt": str(attempt)}


@pytest.fixture
def delivered(workflow, receiver, drain, accept):
    """A delivery that n8n answered at once, before its work was done."""

    def make(**values) -> Delivery:
        made = accept({"n": 1}, **values)
        drain()
        made.refresh_from_db()
        assert made.state == "delivered"
        return made

    workflow()
    return make


@pytest.fixture
def letter(n8n, report):
    """A dead letter that n8n reported, of an execution that n8n keeps."""

    def make(number="2") -> DeadLetter:
        n8n.add(number)
        assert report(failed(number)).status_code == 201
        look()
        return DeadLetter.objects.get(execution_id=number)

    return make


# --- Looking up -------------------------------------------------------------------------------------------


def test_a_report_does_not_wait_for_n8n_and_its_job_commits_with_it(n8n, report):
    n8n.add("2")
    answer = report(failed("2"))
    assert (answer.status_code, answer.json()["state"]) == (201, "looking_up")
    assert n8n.asked == []
    assert looks() == 1
    assert report(failed("2")).status_code == 200
    assert looks() == 1


def test_the_execution_is_looked_up_and_its_delivery_dies_with_the_real_error(n8n, report, delivered):
    made = delivered()
    n8n.add("2", headers=headers(made))
    report(failed("2"))
    found = look()
    assert (found.state, found.delivery_id, found.attempt) == ("joined", made.pk, 1)
    made.refresh_from_db()
    letter = DeadLetter.objects.get()
    assert (made.state, letter.source, letter.delivery_id) == ("dead", "delivery", made.pk)
    assert (letter.error_message, letter.execution_id) == ("Code: boom [line 1]", "2")
    assert letter.document == {"n": 1}
    assert report(failed("2")).json()["dead_letter"] == str(letter.pk)
    look()
    assert DeadLetter.objects.count() == 1


def test_by_a_real_worker(n8n, report, delivered, workers, receiver):
    made = delivered()
    n8n.add("2", headers=headers(made))
    report(failed("2"))
    workers.start(N8N_WEBHOOK_URL=receiver.url, N8N_API_URL=n8n.url + "/api/v1/", N8N_API_KEY=KEY)
    until(lambda: Delivery.objects.get(pk=made.pk).state == "dead")
    letter = DeadLetter.objects.get()
    replay.bring_back(dead_letter_id=letter.pk, via="execution", hand=Hand("t"), now=clock.now())
    until(lambda: DeadLetter.objects.get().status == "recovered")
    assert n8n.count("POST", "/retry") == 1


@pytest.mark.parametrize("kept", [True, False])
def test_what_no_delivery_caused_is_buried(n8n, report, kept):
    if kept:
        n8n.add("2")
    report(failed("2"))
    assert look().state == "buried"
    letter = DeadLetter.objects.get()
    assert (letter.source, letter.error_message) == ("n8n", "Code: boom [line 1]")


def test_a_header_of_another_workflow_proves_nothing(n8n, report, delivered):
    from reliability.models import Workflow

    made = delivered()
    Workflow.objects.update(n8n_workflow_id="another")
    n8n.add("2", headers=headers(made))
    report(failed("2"))
    assert look().state == "buried"
    made.refresh_from_db()
    assert made.state == "delivered"


def test_a_look_up_that_leads_to_another_tenant_is_refused(n8n, report, delivered, key):
    made = delivered(tenant="acme")
    n8n.add("2", headers=headers(made))
    report(failed("2"), Client(headers={"X-API-Key": key(tenant="beta")}))
    assert look().state == "refused"
    assert not DeadLetter.objects.exists()
    made.refresh_from_db()
    assert made.state == "delivered"


@pytest.mark.parametrize("status", [503, 401, 403, 0])
def test_an_n8n_that_cannot_be_asked_is_asked_again_later_and_then_no_more(n8n, report, status):
    n8n.answer = lambda method, path: status
    report(failed("2"))
    waits = []
    for _ in range(lookup.LOOKS):
        before = clock.now()
        found = look()
        if found.state != "looking_up":
            break
        waits.append(round((found.look_up_at - before).total_seconds()))
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert found.state == "buried"
    message = DeadLetter.objects.get().error_message
    assert message.startswith("Code: boom [line 1] (its origin was not found")
    assert KEY not in message
    if status == 403:
        assert "execution:read" in message


def test_after_an_hour_it_is_buried_anyway(n8n, report):
    n8n.answer = lambda method, path: 503
    report(failed("2"))
    FailureReport.objects.update(reported_at=clock.now() - timedelta(hours=1))
    assert look().state == "buried"


def test_a_lost_look_is_found_again(n8n, report):
    report(failed("2"))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    assert lookup.wake_stuck(now=clock.now()) == 0
    FailureReport.objects.update(look_up_at=clock.now() - timedelta(minutes=2))
    assert lookup.wake_stuck(now=clock.now()) == 1
    assert looks() == 1


def test_an_earlier_attempts_failure_leaves_the_present_one_alone(n8n, report, delivered):
    made = delivered()
    Delivery.objects.update(attempt_count=2)
    n8n.add("2", headers=headers(made, 1))
    report(failed("2"))
    assert look().state == "joined"
    made.refresh_from_db()
    assert made.state == "delivered"


# --- n8n's own retry --------------------------------------------------------------------------------------


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
    assert timedelta(seconds=60) < retried.due_at - clock.now() < retry.ASKED_FOR
    retry.work(retry_id=retried.pk)  # not due: its answer might still come
    ExecutionRetry.objects.update(due_at=clock.now() - timedelta(minutes=2))
    assert retry.wake_stuck(now=clock.now()) == 1
    workers.start(**asking)
    until(lambda: DeadLetter.objects.get(pk=made.pk).status == "recovered")
    assert n8n.count("POST") == 1


def test_what_nobody_can_find_out_is_a_person_s_to_decide(n8n, letter, send):
    made = letter()
    send(f"{made.pk}/replay/")
    ExecutionRetry.objects.update(state="asked")
    for _ in range(retry.LOOKS + 1):
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
        (None, "failed", "does not know it"),
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
        retry.work(retry_id=ExecutionRetry.objects.get().pk)
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
    while (now := bulk.step(operation_id=operation.pk, now=now)) is not None:
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
        retry.begin(dead_letter_id=made.pk, hand=Hand("t"), now=clock.now())


def report_state() -> set[str]:
    return set(FailureReport.objects.values_list("state", flat=True))


@pytest.mark.parametrize(
    ("api", "webhook", "base"),
    [
        ("", "https://n8n.example.com/webhook", "https://n8n.example.com/api/v1"),
        ("", "https://example.com/n8n/webhook/", "https://example.com/n8n/api/v1"),
        ("https://n8n.example.com", "https://x/webhook", "https://n8n.example.com/api/v1"),
        ("https://n8n.example.com/api/v1", "https://x/webhook", "https://n8n.example.com/api/v1"),
        ("https://n8n.example.com/api/v1/", "https://x/webhook", "https://n8n.example.com/api/v1"),
    ],
)
def test_the_apis_address(settings, api, webhook, base):
    settings.N8N_API_URL, settings.N8N_WEBHOOK_URL = api, webhook
    assert n8n_api.base() == base
