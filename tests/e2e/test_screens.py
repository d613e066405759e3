"""The screens in a real Chromium, over the demo's week: readable at each size, and usable by hand."""

import time
from datetime import timedelta

import pytest
from django.db import connection

from reliability.alerts import check as alert_check
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.management import demo
from reliability.models import Alert, ApiKey, Breaker, Delivery, FailureReport, StripeEndpoint, StripeEvent, Workflow
from reliability.setup import api_keys
from scheduling.models import CronJob

from .browser import SCHEMES, SIZES, axe

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
LISTS = (
    *("delivery", "attempt", "breaker", "breakertransition", "workflow", "lane", "stripeevent", "stripeendpoint"),
    *("striperefusal", "stripeclaim", "execution", "failurereport", "apikey", "flag", "auditentry", "archive"),
    *("alert", "alertsilence", "alertnotice"),
)


@pytest.fixture
def week(transactional_db):
    demo.fill(now=clock.now())
    now = clock.now()
    alert_check.silence(actor=Actor("user:ada", "a release"), now=now, until=now + timedelta(hours=1), alert="CpuHigh")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")  # one of an earlier test seems alive for a while
    for at in (now - timedelta(minutes=30), now):  # there is no worker
        alert_check.check(now=at)


def pages() -> list[str]:
    rows = (
        Delivery.objects.filter(state="dead").first(),
        Delivery.objects.filter(state="pending").first(),
        Breaker.objects.filter(state="open").first(),
        Workflow.objects.get(slug="demo-order-sync"),
        StripeEvent.objects.filter(repeats__isnull=False).first(),
        StripeEndpoint.objects.first(),
        FailureReport.objects.first(),
        CronJob.objects.get(slug="demo-gap-fill"),
        Alert.objects.get(name="NoWorker", state="firing"),
    )
    of_rows = [f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/" for row in rows]
    lists = [f"/admin/reliability/{name}/" for name in LISTS]
    return [*lists, *(f"/admin/scheduling/{name}/" for name in ("cronjob", "run", "ping")), *of_rows]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_screen_is_readable_at_every_size(console, week, size, scheme):
    shown = console("superuser", size, scheme)
    wrong = {}
    for path in pages():
        assert shown.go(path).status == 200, path
        name = path.strip("/").replace("/", "-")
        shown.picture(f"{name[:34]}{'-page' if 'change' in path else ''}")
        wrong[path] = [*axe(shown.page), *([] if shown.fits else ["wider than the window"]), *shown.complaints]
        shown.complaints.clear()
    assert not {path: found for path, found in wrong.items() if found}


def test_a_delivery_is_cancelled_from_its_page_by_the_keyboard(console, week):
    waits = Delivery.objects.filter(state="pending", lane__workflow__slug="demo-lead-enrich").first()
    shown = console("operator")
    page = shown.page
    shown.go(f"/admin/reliability/delivery/{waits.pk}/change/")
    assert page.get_by_text("The breaker is open").is_visible()
    page.get_by_role("link", name="Cancel").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Reason").fill("ordered twice")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Cancel").press("Enter")
    page.wait_for_url("**/change/**")
    assert page.locator(".bs-sentence").get_by_text("Cancelled").is_visible()
    assert page.get_by_text("ordered twice").is_visible()
    assert not shown.complaints
    waits.refresh_from_db()
    assert waits.state == "cancelled"


def test_a_breaker_is_held_open_with_an_end_and_reset(console, week):
    breaker = Breaker.objects.get(lane__workflow__slug="demo-order-sync", lane__tenant="demo-acme")
    shown = console("lead")
    page = shown.page
    shown.go(f"/admin/reliability/breaker/{breaker.pk}/change/")
    page.get_by_role("link", name="Force open").click()
    page.get_by_label("Reason").fill("the shop moves")
    page.get_by_label("Duration").select_option(label="30 minutes")
    page.get_by_role("button", name="Force open").click()
    page.wait_for_url("**/change/**")
    assert page.locator(".bs-sentence").get_by_text("Forced open").is_visible()
    assert page.get_by_text("user:lead").first.is_visible()
    page.get_by_role("link", name="Reset breaker", exact=True).click()
    page.get_by_label("Reason").fill("it has moved")
    page.get_by_role("button", name="Reset breaker", exact=True).click()
    page.wait_for_url("**/change/**")
    assert page.get_by_text("Closed: 0 failures").is_visible()
    assert not shown.complaints


def test_an_id_is_copied(console, week):
    event = StripeEvent.objects.order_by("-pk").first()
    shown = console("viewer")
    shown.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.go(f"/admin/reliability/stripeevent/{event.pk}/change/")
    shown.page.get_by_role("button", name="Copy the event id").click()
    assert shown.page.evaluate("navigator.clipboard.readText()") == event.event_id


def test_two_clicks_send_one_form_and_its_key_is_shown(console, transactional_db, monkeypatch):
    issue = api_keys.issue

    def slowly(**values):
        time.sleep(1)
        return issue(**values)

    monkeypatch.setattr(api_keys, "issue", slowly)
    shown = console("superuser")
    page = shown.page
    shown.go("/admin/reliability/apikey/add/")
    page.get_by_label("Name").fill("ci")
    page.get_by_label("Reason").fill("a test")
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    box = page.get_by_role("button", name="Save", exact=True).bounding_box()
    for _ in range(2):
        page.mouse.click(box["x"] + 5, box["y"] + 5)
        time.sleep(0.2)
    page.wait_for_url("**/apikey/")
    assert len(sent) == 1
    key = ApiKey.objects.get()
    assert key.matches(page.locator("code").first.inner_text())
    assert not shown.complaints
