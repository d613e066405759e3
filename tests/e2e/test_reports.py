"""What a real n8n reports of its executions, and its own retry of them."""

import io

import pytest
from django.core.management import call_command

from reliability.bulk.replay_one import replay_one
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.models import Attempt, DeadLetter, Delivery, ExecutionRetry, FailureReport, Workflow
from reliability.n8n import client as n8n_client

from ..support.receiver import Reply, until
from ..support.workers import Workers
from . import reporting

pytestmark = pytest.mark.e2e
DOWN = Reply(500, '{"error": "down"}')


@pytest.fixture(scope="session")
def n8n_key(n8n):
    return n8n.api_key(label="reports")


@pytest.fixture(autouse=True)
def asking(transactional_db, n8n, n8n_key, settings, vendor, workflow, tmp_path):
    """A worker and a server that may ask n8n; workflows that answer before their work is done."""
    settings.N8N_API_URL, settings.N8N_API_KEY = n8n.base, n8n_key
    reporting.issue_key()
    for slug in ("reported", "unreported"):
        workflow(slug, timeout_ms=20_000)
    vendor.got.clear()
    made = Workers(tmp_path)
    made.start(N8N_WEBHOOK_URL=n8n.url, N8N_API_KEY=n8n_key)
    yield made
    made.end_all()


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def bring_back(letter: DeadLetter) -> None:
    replay_one(dead_letter_id=letter.pk, via="execution", actor=Actor("test"), now=clock.now())


def status() -> str:
    return DeadLetter.objects.get().status


def test_a_failure_after_the_2xx_meets_its_delivery_and_comes_back_by_n8ns_retry(n8n, accept, vendor):
    vendor.rule = lambda got: DOWN
    made = accept({"amount": 5}, workflow="reported", idempotency_key="invoice-7")
    letter = until(DeadLetter.objects.first, within=90)
    report = FailureReport.objects.get()
    assert (report.state, report.delivery_id, report.attempt, report.n8n_workflow_id) == (
        "joined",
        made.pk,
        1,
        "e2ereported",
    )
    assert (letter.source, letter.delivery_id, letter.document) == ("delivery", made.pk, {"amount": 5})
    assert letter.error_code == "execution_failed"
    assert letter.error_message.startswith("Vendor: ")
    assert letter.execution_url.endswith(f"/executions/{letter.execution_id}")
    made.refresh_from_db()
    assert made.state == "dead"
    assert list(Attempt.objects.order_by("id").values_list("result", flat=True)) == ["delivered", "reported_failed"]

    # It fails again: the same entry, under the new execution's id.
    bring_back(letter)
    until(lambda: DeadLetter.objects.get().retry_count == 1, within=60)
    again = DeadLetter.objects.get()
    assert (again.status, again.pk) == ("dead", letter.pk)
    assert int(again.execution_id) > int(letter.execution_id)
    until(lambda: FailureReport.objects.filter(retry_of=letter.execution_id, state="joined").count() == 1, within=60)
    assert DeadLetter.objects.count() == 1

    vendor.rule = lambda got: Reply()
    bring_back(again)
    until(lambda: status() == "recovered", within=60)
    assert [(one.key, one.json) for one in vendor.got] == [("invoice-7", {"amount": 5})] * 3
    assert n8n_client.execution(execution_id=again.execution_id).retry_success_id
    assert set(ExecutionRetry.objects.values_list("state", flat=True)) == {"failed", "succeeded"}


def test_what_nobody_sent_is_buried_with_its_workflows_name(n8n, vendor):
    import requests

    vendor.rule = lambda got: DOWN
    Workflow.objects.filter(slug="reported").delete()
    assert requests.post(f"{n8n.url}/reported", json={"n": 1}, headers={"Idempotency-Key": "k"}, timeout=30).ok
    letter = until(DeadLetter.objects.first, within=90)
    assert (letter.source, letter.lane.workflow.slug, letter.lane.workflow.paused) == ("n8n", "reported", True)
    vendor.rule = lambda got: Reply()
    bring_back(letter)
    until(lambda: status() == "recovered", within=60)


def test_a_killed_n8n_leaves_crashed_executions_that_are_found_and_run_again(n8n, accept, vendor):
    vendor.rule = lambda got: Reply(wait=20)
    made = accept({"n": 1}, workflow="unreported", idempotency_key="order-9")
    until(lambda: vendor.got and Delivery.objects.get(pk=made.pk).state == "delivered", within=60)
    n8n.kill()
    n8n.start()
    assert "missing" in until(
        lambda: (said := run("n8n_reconcile", "--dry-run")) and "crashed" in said and said, within=60
    )
    assert not FailureReport.objects.exists()
    assert "joined" in run("n8n_reconcile")
    # n8n remembers what earlier tests left, too.
    letter = DeadLetter.objects.get(delivery=made)
    assert letter.error_code == "execution_crashed"
    assert run("n8n_reconcile") == "0 executions processed.\n"
    vendor.rule = lambda got: Reply()
    bring_back(letter)
    until(lambda: DeadLetter.objects.get(pk=letter.pk).status == "recovered", within=60)
    assert [one.key for one in vendor.got] == ["order-9"] * 2


def test_n8ns_workflows_are_offered_and_taken_over(n8n):
    shown = run("n8n_sync")
    assert "arrives" in shown
    assert "new" in shown
    assert "answers before its work is done" in shown
    assert "arrives: created" in run("n8n_sync", "--apply", "arrives")
    assert Workflow.objects.get(slug="arrives").n8n_workflow_id == "e2earrives"
    run("n8n_sync", "--apply", "reported")
    (line,) = [one for one in run("n8n_sync").splitlines() if one.startswith("reported ")]
    assert "known" in line
