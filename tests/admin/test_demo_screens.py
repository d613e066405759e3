"""The screens on the demo's week: every list and page, and what needs much data."""

import re

import pytest
from django.contrib.admin import site
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.management import demo
from reliability.models import (
    AuditEntry,
    Breaker,
    Delivery,
    FailedSignIn,
    StripeEndpoint,
    StripeEvent,
    StripeRefusal,
    Workflow,
)
from scheduling.models import CronJob

from ..support import shared
from .test_console import signed_in
from .test_screens import path_of, text_of

pytestmark = pytest.mark.django_db
# What a page may ask the database, the session and the user included.
QUERIES = 15
ACTOR = Actor("user:ada", "because")
OWN = ("reliability", "scheduling")
MODELS = [model for model in site._registry if model._meta.app_label in OWN and model is not FailedSignIn]


@pytest.fixture(scope="module", autouse=True)
def week(django_db_setup, django_db_blocker):
    with shared.transaction_of_module(django_db_blocker):
        demo.fill(now=clock.now())
        yield


def test_every_list_and_page_opens_for_each_group_within_few_queries():
    for group in ("viewers", "operators", "leads"):
        client, many = signed_in(group), {}
        client.get("/admin/")
        for model in MODELS:
            addresses = [path_of(model)]
            if (row := model.objects.order_by("-pk").first()) is not None:
                addresses.append(path_of(model, row.pk, "change"))
            for address in addresses:
                with CaptureQueriesContext(connection) as queries:
                    answer = client.get(address)
                assert answer.status_code == 200, address
                if len(queries) > QUERIES:
                    many[address] = len(queries)
        assert not many


def test_no_page_holds_a_script_or_a_handler_of_its_own():
    client = signed_in()
    for model in (Delivery, Breaker, Workflow, StripeEvent, StripeEndpoint, CronJob, AuditEntry):
        page = text_of(client.get(path_of(model, model.objects.order_by("-pk").first().pk, "change")))
        own = page.partition('class="bs-page')[2].partition('id="content-related"')[0]
        assert " onclick=" not in own
        assert "javascript:" not in own


def test_a_list_opens_with_each_of_its_filters(monkeypatch):
    client = signed_in()
    for model in MODELS:
        monkeypatch.setattr(site._registry[model], "list_per_page", 5)  # more rows show nothing more of the filter
        page = client.get(path_of(model)).context["cl"]
        for spec in page.filter_specs:
            for choice in spec.choices(page):
                assert client.get(path_of(model) + choice["query_string"]).status_code == 200, choice


def test_a_range_of_time_that_is_none_matches_nothing():
    client = signed_in()
    for model in (Delivery, StripeEvent, AuditEntry):
        assert len(client.get(path_of(model), {"range": "7d"}).context["cl"].result_list)
        assert not client.get(path_of(model), {"range": "7 days"}).context["cl"].result_list


def test_an_open_breaker_says_why_and_since_when():
    page = text_of(signed_in("viewers").get(path_of(Breaker)))
    why = r"Open for (\d+) min: 10 failures in 10 min \(http_500: The enrichment service is down\); next probe in"
    found = re.search(why, page)
    assert found is not None
    assert 14 <= int(found[1]) < 60, "the demo is some minutes old by now"
    assert "deliveries are waiting." in page
    assert "Forced open" in page


def test_a_workflow_says_how_it_goes_and_where_its_policy_comes_from(week):
    client = signed_in("viewers")
    page = text_of(client.get(path_of(Workflow)))
    assert "The warehouse moves to a new server" in page
    orders = Workflow.objects.get(slug="demo-order-sync")
    shown = client.get(path_of(Workflow, orders.pk, "change"))
    policy = {name: (value, origin) for name, value, origin in shown.context["policy"]}
    assert policy["max retries"] == ("4", "workflow")
    assert policy["circuit breaker threshold"] == ("10", "environment")
    assert policy["timeout"] == ("30 s", "environment")
    own = {lane.tenant: values for lane, values in shown.context["tenants"]}
    assert own["demo-umbra"] == ["concurrency limit: 3", "max retries: 6"]
    figures = shown.context["figures"]
    assert 0.9 < figures.success < 1
    assert figures.dead == orders.failure_groups.filter(dead__gt=0).count() or figures.dead > 0


def test_an_event_shows_its_way_its_duplicates_and_its_page_at_stripe(week):
    event = StripeEvent.objects.filter(repeats__isnull=False, livemode=True).exclude(delivery_ids=[]).first()
    shown = signed_in("viewers").get(path_of(StripeEvent, event.pk, "change"))
    assert [step.title for step in shown.context["steps"]] == ["Received", "Verified", "Stored", "Delivered"]
    assert re.search(r"\b1 duplicate ignored|\b([2-9]|\d\d+) duplicates ignored", text_of(shown))
    assert f'href="https://dashboard.stripe.com/events/{event.event_id}"' in text_of(shown)
    assert path_of(Delivery, event.delivery_ids[0], "change") in text_of(shown)


def test_an_endpoint_shows_its_address_and_what_it_refused(week):
    endpoint = StripeEndpoint.objects.get(slug="demo-acme")
    page = text_of(signed_in("leads").get(path_of(StripeEndpoint, endpoint.pk, "change")))
    assert "http://testserver/stripe/webhook/demo-acme/" in page
    assert "To rotate it" in page
    assert StripeRefusal.objects.first().address in page
    assert not any(secret.secret in page for secret in endpoint.secrets.all())


def test_a_job_shows_its_last_runs_in_words(week):
    client = signed_in("operators")
    page = text_of(client.get(path_of(CronJob)))
    assert "The last 20 runs: " in page
    job = CronJob.objects.get(slug="demo-gap-fill")
    runs = client.get(path_of(CronJob, job.pk, "change")).context["runs"]
    assert len(runs) == 20
    assert [past.went for past, *_ in runs[:2]] == ["running", "running"]
    assert {past.went for past, *_ in runs} <= {"ok", "running", "skipped", "failed"}
