"""Bulk operations in a real Chromium, with a real worker: looked at, typed, watched, paused, gone on with."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User

from reliability.core import clock
from reliability.lanes import opening
from reliability.models import AuditEntry, DeadLetter, Operation

from ..support.receiver import until
from .browser import SCHEMES, SIZES, axe

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
NASTY = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def letters(workflow, receiver):
    """160 of one kind, and one that is left alone."""
    lane = opening.open_lane(
        workflow_id=workflow("echo", concurrency_limit=20, max_retries=0, circuit_breaker_threshold=1000).pk,
        tenant="default",
    )
    now = clock.now()
    kind = {"error_code": "http_502", "reason": "http_5xx", "fingerprint": "f" * 16, "error_message": NASTY}
    moments = {"created_at": now, "died_at": now, "expires_at": now + timedelta(days=1)}
    made = [DeadLetter(lane=lane, source="api", payload=f'{{"n": {n}}}', **kind, **moments) for n in range(160)]
    made.append(DeadLetter(lane=lane, source="api", payload="{}", error_code="other", **moments))
    return DeadLetter.objects.bulk_create(made)


def allow(*permissions: str) -> None:
    User.objects.get(username="operator").user_permissions.add(*Permission.objects.filter(codename__in=permissions))


def errors(shown) -> list[str]:
    """Return complaints other than of an answer that had to be asked for again."""
    return [text for text in shown.complaints if "400 (Bad Request)" not in text]


def test_a_group_is_replayed_watched_paused_and_gone_on_with(console, letters, receiver, workers):
    receiver.always(200)
    shown = console("operator")
    allow("control_operation")
    page = shown.page
    shown.go(f"/admin/reliability/operation/replay/?workflow=echo&reason=http_5xx&fingerprint={'f' * 16}")
    assert page.get_by_text("HTTP 5xx").first.is_visible()
    assert page.get_by_text("onerror=alert(1)").first.is_visible()
    shown.picture("bulk", full=True)
    assert axe(page) == []
    page.get_by_label("Replays per second").fill("20")
    page.get_by_role("textbox", name="Reason").fill("the vendor is back")
    page.get_by_role("button", name="Replay 160").click()
    page.get_by_text("Type the number of matches: 160").wait_for()
    assert not Operation.objects.exists()
    page.get_by_label("Type 160 to confirm").fill("160")
    page.get_by_role("button", name="Replay 160").dblclick()
    page.wait_for_url("**/operation/*-*/")
    operation = Operation.objects.get()
    assert (operation.matched, operation.canary, operation.rate_per_second) == (160, True, 20)
    assert AuditEntry.objects.get(action="bulk_replay").reason == "the vendor is back"

    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: int(page.locator("#bs-done").inner_text()) > 20, within=40, what="progress")
    page.get_by_role("textbox", name="Reason").fill("a look at it first")
    page.get_by_role("button", name="Pause").click()
    page.locator("#bs-operation").get_by_text("Paused", exact=True).wait_for()
    shown.picture("operation", full=True)
    assert axe(page) == []
    operation.refresh_from_db()
    assert (operation.state, operation.done < 160) == ("paused", True)
    page.get_by_label("Replays per second").fill("80")
    page.get_by_role("textbox", name="Reason").fill("faster")
    page.get_by_role("button", name="Change rate").click()
    page.get_by_role("textbox", name="Reason").fill("on with it")
    page.get_by_role("button", name="Resume").click()
    page.locator("#bs-operation").get_by_text("Done", exact=True).wait_for(timeout=30_000)
    assert page.locator("#bs-recovered").inner_text() == "160"
    assert page.locator("#bs-operation-buttons").get_by_text("This operation has finished").is_visible()
    assert page.locator("#bs-operation-said").inner_text() == "Done, 100 percent handled."
    assert set(receiver.keys.values()) == {1}
    assert DeadLetter.objects.filter(status="recovered").count() == 160
    assert DeadLetter.objects.filter(status="dead").count() == 1
    assert not errors(shown)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_its_pages_fit_and_can_be_read(console, letters, size, scheme):
    shown = console("lead", size, scheme)
    running = Operation.objects.create(
        kind="replay", filter={"q": NASTY}, cutoff=clock.now(), created_at=clock.now(), actor=NASTY, matched=3, done=1
    )
    pages = {"bulk-purge": "purge/", "bulk-nonsense": "replay/?after=never", "operation": f"{running.pk}/", "list": ""}
    for name, path in pages.items():
        shown.go(f"/admin/reliability/operation/{path}")
        shown.picture(f"of-{name}", full=True)
        assert shown.fits, name
        assert axe(shown.page) == [], name
    assert not errors(shown)


def test_by_keyboard_alone(console, letters):
    shown = console("lead")
    page = shown.page
    shown.go("/admin/reliability/operation/purge/?error_code=other")
    page.get_by_role("textbox", name="Reason").focus()
    page.keyboard.type("a test")
    page.keyboard.press("Tab")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/operation/*-*/")
    until(lambda: Operation.objects.filter(kind="purge", matched=1).exists())
    assert not shown.complaints
