"""The console in a real Chromium: signed in, looked at, clicked through. Pictures go to `.cache/pictures/`."""

import os
import shutil
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from reliability.models import AuditEntry, DeadLetter, Delivery
from reliability.pipeline import burial, clock

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
PICTURES = Path(__file__).resolve().parents[2] / ".cache" / "pictures"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
LISTS = ("delivery", "deadletter", "workflow", "breaker", "apikey", "auditentry")


@pytest.fixture(scope="session")
def chromium(django_db_setup):
    # The browser's driver keeps a loop in this thread, where Django would otherwise refuse its ORM.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium")
    if found is None:
        pytest.fail("Chromium is needed: install Debian's package chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_console(chromium, live_server):
    """Sign an operator in and return the page; `complaints` collects what the browser's console said."""
    User.objects.create_superuser("operator", password="a-password-1")
    contexts = []

    def start(size="desktop", scheme="light"):
        width, height = SIZES[size]
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(f"{live_server.url}/")
        page.fill("[name=username]", "operator")
        page.fill("[name=password]", "a-password-1")
        page.click("[type=submit]")
        page.wait_for_url("**/admin/")
        return page

    yield start
    for context in contexts:
        context.close()


@pytest.fixture
def letters(workflow, accept):
    workflow(paused=True)
    accept({"order": 1})
    text = '{"text": "</script><img src=x onerror=alert(1)>"}'
    reports = [burial.Report("echo", "default", text, f"no such client {n}", "E1") for n in range(3)]
    return [burial.report(report=one, now=clock.now()) for one in reports]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_list_is_readable_at_every_size(open_console, letters, live_server, size, scheme):
    page = open_console(size, scheme)
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"index-{size}-{scheme}.png")
    for name in LISTS:
        page.goto(f"{live_server.url}/admin/reliability/{name}/")
        assert page.locator("#changelist").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the window"
        page.screenshot(path=PICTURES / f"{name}-{size}-{scheme}.png")
    page.goto(f"{live_server.url}/admin/reliability/deadletter/{letters[0].pk}/change/")
    assert page.get_by_text("onerror=alert(1)").first.is_visible()
    page.screenshot(path=PICTURES / f"letter-{size}-{scheme}.png", full_page=True)
    assert not page.complaints


def test_an_operator_replays_two_of_three(open_console, letters, live_server):
    page = open_console()
    page.goto(f"{live_server.url}/admin/reliability/deadletter/?q=E1")
    for box in page.locator("input[name=_selected_action]").all()[:2]:
        box.check()
    page.locator("select[name=action]").select_option("replay_selected")
    page.locator("button[name=index]").click()
    page.screenshot(path=PICTURES / "confirm-desktop-light.png")
    page.get_by_label("Reason").fill("the vendor is back")
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("2 dead letters are being replayed").wait_for()
    assert sorted(DeadLetter.objects.values_list("status", flat=True)) == ["dead", "replaying", "replaying"]
    assert Delivery.objects.filter(source="replay").count() == 2
    assert set(AuditEntry.objects.values_list("reason", flat=True)) == {"the vendor is back"}
    assert not page.complaints
