"""Takes the pictures of README.md (`make screenshots`): an outage, the replay of dead letters, and the end of both.

A real worker delivers to a real server in n8n's place. Nothing in the pictures is made up.
"""

import json
from pathlib import Path

import pytest
from django.core.management import call_command

from reliability.core import clock
from reliability.delivery import intake
from reliability.delivery.intake import Trigger
from reliability.models import Breaker, DeadLetter, Delivery, Operation, digest_of

from ..support.receiver import until
from .browser import SCHEMES, person

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZE = {"width": 640, "height": 520}
WORKFLOWS = ("charge-card", "notify-customer", "client-onboarding")
FAST = {"N8N_CIRCUIT_BREAKER_THRESHOLD": "3", "N8N_CIRCUIT_BREAKER_RECOVERY_MS": "30000", "N8N_BASE_DELAY_MS": "100"}


def hand_in(count: int, *, workflow: str) -> None:
    triggers = [
        Trigger(workflow=workflow, payload=json.dumps({"order": n}), digest=digest_of({"order": n}))
        for n in range(count)
    ]
    intake.accept(triggers=triggers, now=clock.now())


def counted(**conditions: object) -> int:
    return Delivery.objects.filter(**conditions).count()


def test_outage(console, workflow, receiver, workers):
    for slug in WORKFLOWS:
        workflow(slug, max_retries=0, timeout_ms=5000)
    shown = [console("superuser", "desktop", scheme) for scheme in SCHEMES]
    for one in shown:
        one.page.set_viewport_size(SIZE)
    person("superuser")

    def picture(name: str, path: str) -> None:
        for one in shown:
            one.go(path)
            one.page.screenshot(path=IMAGES / f"outage-{name}-{one.scheme}.png")

    receiver.always(200)
    workers.start(N8N_WEBHOOK_URL=receiver.url, **FAST)
    for slug in WORKFLOWS:
        hand_in(40, workflow=slug)
    until(lambda: counted(state="delivered") == 120, within=60, what="120 deliveries")

    receiver.always(500, '{"message": "Error in workflow"}')
    hand_in(2, workflow="charge-card")
    until(lambda: DeadLetter.objects.count() == 2, within=60, what="dead letters")
    receiver.stop()
    for slug in WORKFLOWS:
        hand_in(60, workflow=slug)
    until(Breaker.objects.filter(lane__isnull=True, state="open").exists, within=60, what="an open breaker")
    picture("held", "/admin/")

    receiver.always(200)
    receiver.start()
    call_command("reset_breaker", instance=True, reason="n8n is back", verbosity=0)
    until(lambda: not counted(state__in=("pending", "sending")), within=150, what="an empty backlog")
    call_command("replay", all=True, reason="n8n is back", verbosity=0)
    until(lambda: not DeadLetter.objects.exclude(status="recovered").exists(), within=60, what="recovered dead letters")
    until(lambda: Operation.objects.get().state == "done", within=60, what="the end of the operation")
    picture("replayed", f"/admin/reliability/operation/{Operation.objects.get().pk}/")
    picture("delivered", "/admin/")
