"""The console in a real Chromium: every list and the overview at each size and in each scheme."""

import pytest

from reliability.models import AuditEntry, DeadLetter, Delivery
from reliability.pipeline import burial, clock

from .browser import SCHEMES, SIZES, axe
from .browser import chromium, console  # noqa: F401  # fixtures

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
LISTS = ("deadletter", "delivery", "breaker", "workflow", "apikey", "auditentry")


@pytest.fixture
def letters(workflow, accept):
    workflow(paused=True)
    accept({"order": 1})
    text = '{"text": "</script><img src=x onerror=alert(1)>"}'
    reports = [burial.Report("echo", "default", text, f"no such client {n}", "E1") for n in range(3)]
    return [burial.report(report=one, now=clock.now()) for one in reports]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_list_is_readable_at_every_size(console, letters, size, scheme):
    shown = console("superuser", size, scheme)
    wrong = {}
    paths = ["/admin/", *(f"/admin/reliability/{name}/" for name in LISTS)]
    paths.append(f"/admin/reliability/deadletter/{letters[0].pk}/change/")
    for path in paths:
        shown.go(path)
        shown.picture(path.strip("/").replace("/", "-")[:40])
        wrong[path] = [*axe(shown.page), *([] if shown.fits else ["wider than the window"]), *shown.complaints]
        shown.complaints.clear()
    assert not {path: found for path, found in wrong.items() if found}
