"""Dead letters in a real Chromium: found, read, edited, replayed, at each size and in each scheme."""

import json
from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.dead_letters import create
from reliability.delivery import intake
from reliability.delivery.intake import Trigger
from reliability.models import Attempt, AuditEntry, DeadLetter, Delivery

from .browser import SCHEMES, SIZES, axe

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
LIST = "/admin/reliability/deadletter/"
NASTY = "</script><img src=x onerror=alert(1)>"
DOCUMENT = {
    "id": "evt_1Q000040Zk",
    "type": "charge.refunded",
    NASTY: NASTY,
    "a\"b'c": "\u202egnp.exe",
    "lines": [{"description": "Pro plan × 1", "amount": 5283}] * 12,
}


@pytest.fixture
def letters(workflow):
    """Eight dead letters; the newest is a delivery's, with three attempts."""
    workflow("slack-alert", paused=True)
    for n in range(7):
        report = create.Report("slack-alert", "default", '{"n": 1}', f"no such client {n} {NASTY}", "E1")
        create.from_api(report=report, now=clock.now())
    text = json.dumps(DOCUMENT, ensure_ascii=False)
    trigger = Trigger(workflow="slack-alert", payload=text, digest=b"0" * 32, idempotency_key="evt_1Q000040Zk")
    delivery = intake.accept(triggers=[trigger], now=clock.now())[0].delivery
    now = clock.now()
    for number in (1, 2, 3):
        Attempt.objects.create(
            delivery=delivery,
            number=number,
            result="transient",
            code="http_502",
            error="502 Bad Gateway from n8n: upstream connect error",
            status_code=502 if number > 1 else None,
            started_at=now - timedelta(minutes=60 - 15 * number),
            duration_ms=1144,
            response_headers={"server": "nginx", "x-request-id": "b8f38d1b376afb43"},
            response_body=json.dumps({"code": 502, "message": "502 Bad Gateway", "hint": "retry"}),
        )
    Delivery.objects.filter(pk=delivery.pk).update(state="dead", attempt_count=3, finished_at=now)
    return DeadLetter.objects.create(
        lane=delivery.lane,
        delivery=delivery,
        source="delivery",
        payload=text,
        error_code="http_502",
        error_message=f"502 Bad Gateway from n8n: upstream connect error {NASTY}",
        reason="http_5xx",
        fingerprint="abc",
        retry_count=2,
        created_at=now,
        died_at=now - timedelta(minutes=23),
        expires_at=now + timedelta(hours=24),
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_each_page_is_readable(console, letters, size, scheme):
    opened = console("lead", size, scheme)
    page = opened.page
    for name, path in {
        "letters": LIST,
        "letters-none": f"{LIST}?q=nothing-like-it",
        "letters-nonsense": f"{LIST}?after=yesterday",
        "letter-page": f"{LIST}{letters.pk}/change/",
        "letter-edit": f"{LIST}{letters.pk}/edit/",
    }.items():
        opened.go(path)
        opened.picture(name, full=True)
        assert opened.fits, f"{name} is wider than the window"
        assert axe(page) == [], name
    opened.go(LIST)
    page.get_by_text("Filters", exact=False).first.click()
    opened.picture("letters-filters")
    assert opened.complaints == []


def test_a_letter_is_edited_compared_and_sent(console, letters):
    opened = console("lead")
    page = opened.page
    opened.go(LIST)
    page.get_by_role("link", name="evt_1Q000040Zk").first.click()
    page.get_by_role("heading", name="HTTP 5xx").wait_for()
    page.get_by_role("link", name="Edit and replay").click()
    field = page.get_by_label("Payload")
    text = field.input_value()
    field.fill(text.replace("charge.refunded", "charge.succeeded") + "}")
    page.get_by_label("Reason").fill("wrong type")
    page.get_by_role("button", name="Review changes").click()
    page.get_by_text("there is text after its end").wait_for()
    page.get_by_label("Payload").fill(text.replace("charge.refunded", "charge.succeeded"))
    page.get_by_role("button", name="Review changes").click()
    page.get_by_text("new idempotency key").wait_for()
    opened.picture("letter-diff", full=True)
    assert axe(page) == []
    page.get_by_role("button", name="Send edited payload").click()
    page.get_by_text("queued for replay: edited").wait_for()
    opened.picture("letter-replaying", full=True)
    new = Delivery.objects.get(source="replay")
    assert json.loads(new.payload) == DOCUMENT | {"type": "charge.succeeded"}
    assert list(json.loads(new.payload)) == list(DOCUMENT)
    assert opened.complaints == []


def test_rows_are_chosen_and_purged_and_one_comes_back(console, letters):
    opened = console("lead")
    page = opened.page
    opened.go(f"{LIST}?error_code=E1")
    for box in page.locator("input[name=_selected_action]").all()[:2]:
        box.check()
    page.locator("select[name=action]").select_option("purge_selected")
    page.locator("button[name=index]").click()
    page.get_by_label("Reason").fill("test data")
    page.get_by_role("button", name="Purge").click()
    page.get_by_text("2 dead letters purged").wait_for()
    assert "error_code=E1" in page.url
    opened.go(f"{LIST}{DeadLetter.objects.filter(status='purged')[0].pk}/change/")
    page.get_by_role("link", name="Undo purge").click()
    page.get_by_label("Reason").fill("not this one")
    page.get_by_role("button", name="Undo purge").click()
    page.get_by_text("No operator actions yet").wait_for(state="detached")
    assert DeadLetter.objects.filter(status="purged").count() == 1
    assert AuditEntry.objects.filter(action="undo_purge").exists()
    assert opened.complaints == []


def test_the_list_is_exported_and_the_request_copied(console, letters):
    opened = console("operator")
    page = opened.page
    opened.go(f"{LIST}?error_code=E1")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("textbox", name="Reason").fill("for the vendor")
    with page.expect_download() as taken:
        page.locator("#bs-export button[type=submit]").click()
    assert len(taken.value.path().read_text().splitlines()) == 7
    opened.go(f"{LIST}{letters.pk}/change/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as curl").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl -X POST")
    assert opened.complaints == []
