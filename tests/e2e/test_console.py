"""The console in a real Chromium: every list and the overview at each size and in each scheme; keys; news."""

import pytest

from config.navigation import GROUPS
from reliability.core import clock
from reliability.dead_letters import create
from reliability.models import AuditEntry, DeadLetter, Delivery
from scheduling.models import CronJob

from .browser import SCHEMES, SIZES, axe

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
LISTS = [f"/admin/{item.model.replace('.', '/')}/" for _, items in GROUPS for item in items]
LETTERS = "/admin/reliability/deadletter/"
HOSTILE = '{"text": "</script><img src=x onerror=alert(1)>", "name": "\u202egnp.exe"}'


def bury(count=1, text=HOSTILE, code="E1"):
    reports = [create.Report("echo", "default", text, f"no such client {n} <b>", code) for n in range(count)]
    return [create.from_api(report=one, now=clock.now()) for one in reports]


@pytest.fixture
def letters(workflow, accept):
    workflow(paused=True)
    accept({"order": 1})
    CronJob.objects.get_or_create(slug="nightly", defaults={"name": "Nightly", "schedule": "0 3 * * *"})
    return bury(3)


def wrong_with(shown, path):
    """Return what is wrong with a page: grave findings, a page that scrolls sideways, what scripts complained of."""
    shown.go(path)
    found = [*axe(shown.page), *([] if shown.fits else ["wider than the window"]), *shown.complaints]
    shown.complaints.clear()
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_page_is_readable_at_every_size(console, letters, size, scheme):
    shown = console("superuser", size, scheme)
    job = CronJob.objects.get(slug="nightly")
    paths = [
        "/admin/",
        *LISTS,
        f"{LETTERS}{letters[0].pk}/change/",
        f"{LETTERS}{letters[0].pk}/replay/",
        f"/admin/scheduling/cronjob/{job.pk}/change/",
        "/admin/reliability/workflow/add/",
        "/admin/reliability/apikey/add/",
        "/admin/auth/user/add/",
        "/admin/password_change/",
    ]
    wrong = {}
    for path in paths:
        wrong[path] = wrong_with(shown, path)
        shown.picture(path.strip("/").replace("/", "-").replace(str(letters[0].pk), "one"))
    assert not {path: found for path, found in wrong.items() if found}


def test_an_operator_replays_two_of_three(console, letters):
    shown = console()
    page = shown.page
    shown.go(f"{LETTERS}?q=E1")
    for box in page.locator("input[name=_selected_action]").all()[:2]:
        box.check()
    page.locator("select[name=action]").select_option("replay_selected")
    page.locator("button[name=index]").click()
    page.get_by_label("Reason").fill("the vendor is back")
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("2 dead letters queued for replay").wait_for()
    assert sorted(DeadLetter.objects.values_list("status", flat=True)) == ["dead", "replaying", "replaying"]
    assert Delivery.objects.filter(source="replay").count() == 2
    assert set(AuditEntry.objects.values_list("reason", flat=True)) == {"the vendor is back"}
    assert not shown.complaints


def focused(page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")


def test_the_keyboard_alone_is_enough(console, letters):
    shown = console()
    page = shown.page
    shown.go(LETTERS)
    page.keyboard.press("Tab")
    assert focused(page) == "bs-skip"
    page.keyboard.press("Enter")
    assert focused(page) == "content"
    page.keyboard.press("/")
    assert focused(page) == "searchbar"
    page.keyboard.type("E1?/")
    assert page.locator("#searchbar").input_value() == "E1?/"
    page.locator("#searchbar").fill("E1")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=E1**")
    page.locator("input[name=_selected_action]").first.focus()
    page.keyboard.press("Space")
    page.locator("select[name=action]").focus()
    page.keyboard.type("Replay")
    page.locator("button[name=index]").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Reason").focus()
    page.keyboard.type("by keys alone")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("1 dead letter queued for replay").wait_for()
    assert not shown.complaints


def test_help_opens_takes_the_focus_and_gives_it_back(console, letters):
    shown = console()
    page = shown.page
    shown.go(LETTERS)
    row = page.locator("input[name=_selected_action]").first
    row.focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    dialog.wait_for()
    assert page.evaluate("document.querySelector('dialog[open]').contains(document.activeElement)")
    assert not axe(page)
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert row.evaluate("one => one === document.activeElement")


def test_what_reacts_to_a_click_reacts_to_enter(console, letters):
    shown = console("superuser", "phone")
    page = shown.page
    shown.go(LETTERS)
    page.get_by_role("button", name="Show or hide the navigation").and_(page.locator(":visible")).focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Deliveries").wait_for()
    assert not axe(page)
    shown.picture("navigation")
    shown.go("/admin/reliability/delivery/")
    page.locator("[x-on\\:click='filterOpen = true']").focus()
    page.keyboard.press("Enter")
    page.locator("#changelist-filter").wait_for()
    assert not axe(page)
    shown.picture("filters")
    page.keyboard.press("Escape")
    page.locator("#changelist-filter").wait_for(state="hidden")
    assert not shown.complaints


def test_light_and_dark_are_chosen_and_kept(console, letters):
    shown = console()
    page = shown.page
    is_dark = "document.documentElement.classList.contains('dark')"
    assert not page.evaluate(is_dark)
    page.keyboard.press("Control+e")
    page.wait_for_function(f"!{is_dark}")
    page.keyboard.press("Control+e")
    page.wait_for_function(is_dark)
    shown.go(LETTERS)
    assert page.evaluate(is_dark)
    page.get_by_role("button", name="Show or hide the navigation").and_(page.locator(":visible")).click()
    page.locator("#nav-sidebar").wait_for(state="hidden")
    shown.go(LETTERS)
    assert not page.locator("#nav-sidebar").is_visible()
    assert not shown.complaints


def test_an_id_is_copied(console, letters):
    shown = console()
    page = shown.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.go(LETTERS)
    page.evaluate(
        """() => { const one = document.createElement('button'); one.dataset.copy = 'an-id "1"'; one.id = 'probe';
        one.textContent = 'Copy'; document.getElementById('content').prepend(one); }"""
    )
    page.locator("#probe").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == 'an-id "1"'
    assert page.evaluate("document.activeElement.id") == "probe"


@pytest.mark.parametrize(
    ("status", "words"), [(403, "Permission denied"), (404, "no longer exists"), (500, "HTTP 500")]
)
def test_a_failing_dialog_says_so(console, letters, status, words):
    shown = console()
    page = shown.page
    shown.go(LETTERS)
    page.route("**/broken/", lambda route: route.fulfill(status=status, body="no"))
    page.evaluate("htmx.ajax('GET', '/broken/', {target: '#modal-content'}).catch(() => null)")
    page.locator("#bs-toasts").get_by_text(words).wait_for()
    page.locator("#bs-toasts").get_by_role("button", name="Close").click()
    assert page.locator("#bs-toasts").inner_text() == ""


def test_news_are_told_and_nothing_moves_under_the_cursor(console, letters):
    shown = console()
    page = shown.page
    page.clock.install()
    shown.go(LETTERS)
    before = page.locator("input[name=_selected_action]").count()
    bury(4, code="E2")
    page.clock.run_for(59_000)
    assert not page.locator("#bs-news").count()
    page.clock.run_for(2000)
    page.get_by_role("button", name="4 new, refresh").wait_for()
    assert page.locator("input[name=_selected_action]").count() == before
    page.get_by_role("button", name="4 new, refresh").click()
    page.wait_for_load_state()
    assert page.locator("input[name=_selected_action]").count() == before + 4
    assert not shown.complaints


@pytest.mark.parametrize("busy", ["selected", "typing", "dialog", "hidden"])
def test_nobody_is_disturbed(console, letters, busy):
    shown = console()
    page = shown.page
    page.clock.install()
    shown.go(LETTERS)
    polls = []
    page.on("request", lambda one: polls.append(one.url) if one.headers.get("x-backstop-poll") else None)
    if busy == "selected":
        page.locator("input[name=_selected_action]").first.check()
    elif busy == "typing":
        page.locator("#searchbar").focus()
    elif busy == "dialog":
        page.keyboard.press("?")
    else:
        page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(200_000)
    assert not polls


def test_the_policy_refuses_what_would_get_in(console, letters):
    shown = console()
    shown.page.evaluate(
        """() => { const one = document.createElement('script'); one.textContent = 'window.got_in = 1';
        document.body.append(one);
        document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.got_in=1">'); }"""
    )
    shown.page.wait_for_timeout(300)
    assert shown.page.evaluate("window.got_in === undefined")
    assert sum("script-src" in one for one in shown.complaints) >= 2


def test_the_documents_of_the_api_open(console, db):
    shown = console()
    shown.page.goto(f"{shown.url}/api/docs/")
    shown.page.get_by_text("/api/v1/deliveries/", exact=True).first.wait_for()
    assert not [one for one in shown.complaints if "CSP" in one or "Content Security" in one]


def test_signing_in_is_locked_after_failures(console, db):
    shown = console()
    page = shown.page
    page.context.clear_cookies()
    for _ in range(5):
        page.goto(f"{shown.url}/admin/login/")
        page.fill("[name=username]", "operator")
        page.fill("[name=password]", "a guess")
        page.click("[type=submit]")
    page.get_by_role("heading", name="Too many failed sign-ins").wait_for()
    assert not axe(page)
    shown.picture("locked-out")
