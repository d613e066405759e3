"""Failures that n8n reports, looked up in its REST API."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from reliability.bulk.replay_one import replay_one
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.models import (
    DeadLetter,
    Delivery,
    FailureReport,
)
from reliability.n8n import client as n8n_client
from reliability.n8n import delivery_lookup

from ..support.bodies import failed
from ..support.n8n_api import KEY
from ..support.receiver import until
from .n8n_reports import headers, look, looks

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_an_execution_whose_error_holds_a_nul_is_looked_up(n8n, report, delivered):
    made = delivered()
    n8n.add("2", headers=headers(made), message="bo\x00om")
    report(failed("2"))
    found = look()
    assert (found.state, found.delivery_id) == ("joined", made.pk)


def test_by_a_real_worker(n8n, report, delivered, workers, receiver):
    made = delivered()
    n8n.add("2", headers=headers(made))
    report(failed("2"))
    workers.start(N8N_WEBHOOK_URL=receiver.url, N8N_API_URL=n8n.url + "/api/v1/", N8N_API_KEY=KEY)
    until(lambda: Delivery.objects.get(pk=made.pk).state == "dead")
    letter = DeadLetter.objects.get()
    replay_one(dead_letter_id=letter.pk, via="execution", actor=Actor("t"), now=clock.now())
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
    waits = [2, 4, 8, 16, 32, 64, 128, 256, 512]
    for wait in waits:
        before = clock.now()
        found = look()
        assert found.state == "looking_up"
        assert before <= found.look_up_at - timedelta(seconds=wait) <= clock.now()
    found = look()
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
    assert delivery_lookup.wake_overdue(now=clock.now()) == 0
    FailureReport.objects.update(look_up_at=clock.now() - timedelta(minutes=2))
    assert delivery_lookup.wake_overdue(now=clock.now()) == 1
    assert looks() == 1


def test_an_earlier_attempts_failure_leaves_the_present_one_alone(n8n, report, delivered):
    made = delivered()
    Delivery.objects.update(attempt_count=2)
    n8n.add("2", headers=headers(made, 1))
    report(failed("2"))
    assert look().state == "joined"
    made.refresh_from_db()
    assert made.state == "delivered"


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
    assert n8n_client.api_url() == base
