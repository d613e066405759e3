"""Takes the pictures of docs/images/ (`make screenshots`): a made-up week, light and dark, on a desk and a phone."""

from pathlib import Path

import pytest
from django.core.management import call_command

from reliability.core import clock
from reliability.models import DeadLetter
from reliability.stats import overview

from .browser import SCHEMES, SIZES

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
# So high that the overview shows its first failure groups.
OVERVIEW = {"width": 1280, "height": 1195}
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.fixture
def demo(transactional_db, settings, monkeypatch):
    monkeypatch.setattr("reliability.queue.workers_alive", lambda: 1)  # the pictures are not of a broken set-up
    settings.ENVIRONMENT_NAME = "Staging"
    call_command("demo", force=True, verbosity=0)


def pages() -> dict[str, str]:
    letters = "/admin/reliability/deadletter/"
    newest = DeadLetter.objects.filter(status="dead").order_by("-id").first()
    return {
        "overview": "/admin/",
        "dead-letters": f"{letters}?status__exact=dead",
        "dead-letter": f"{letters}{newest.pk}/change/",
        "breakers": "/admin/reliability/breaker/",
        "cron-jobs": "/admin/scheduling/cronjob/",
    }


def test_pictures(console, demo):
    assert overview.load(now=clock.now(), range_=overview.Range.DAY).groups
    IMAGES.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        for scheme in SCHEMES:
            shown = console("operator", size, scheme)
            for name, path in pages().items():
                if (size, name) == ("phone", "cron-jobs"):
                    continue
                shown.go(path)
                width, height = SIZES[size]
                is_high = (size, name) == ("desktop", "overview")
                shown.page.set_viewport_size(OVERVIEW if is_high else {"width": width, "height": height})
                shown.page.screenshot(path=IMAGES / f"{name}-{size}-{scheme}.png")
            assert not shown.complaints
