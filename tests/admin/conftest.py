"""Dead letters to look at."""

import json
from datetime import timedelta

import pytest
from django.contrib import admin

from reliability.core import clock
from reliability.dead_letters import create
from reliability.models import Attempt, DeadLetter, Delivery, Lane

from .dead_letters import NASTY, RTL

admin.autodiscover()  # the tests of every screen ask for all of them


@pytest.fixture
def bury(workflow):
    """Make a dead letter; `values` are set on its row."""

    def make(payload: str = '{"n": 1}', *, slug: str = "echo", tenant: str = "default", message="no", **values):
        if not Lane.objects.filter(workflow__slug=slug).exists():
            workflow(slug, paused=True)
        report = create.Report(slug, tenant, payload, message, values.pop("code", "E1"))
        letter = create.from_api(report=report, now=clock.now())
        DeadLetter.objects.filter(pk=letter.pk).update(**values)
        letter.refresh_from_db()
        return letter

    return make


@pytest.fixture
def delivered_badly(workflow, accept):
    """Make a dead letter of a delivery with three attempts."""

    def make(payload=None, **values) -> DeadLetter:
        workflow(paused=True, **values)
        delivery = accept(payload or {"zebra": 1, "apple": 2.50}, idempotency_key="order-1")
        begun = clock.now() - timedelta(hours=1)
        for number in (1, 2, 3):
            Attempt.objects.create(
                delivery=delivery,
                number=number,
                result="transient",
                code="http_502",
                error=f"upstream {NASTY}",
                status_code=502 if number > 1 else None,
                started_at=begun + timedelta(minutes=10 * number),
                duration_ms=1500,
                response_headers={"server": NASTY},
                response_body=json.dumps({"message": NASTY, "filler": "x" * 5000}),
            )
        Delivery.objects.filter(pk=delivery.pk).update(state="dead", attempt_count=3, finished_at=clock.now())
        return DeadLetter.objects.create(
            lane=delivery.lane,
            delivery=delivery,
            source="delivery",
            payload=delivery.payload,
            error_code="http_502",
            error_message=f"502 {NASTY} {RTL}",
            reason="http_5xx",
            fingerprint="abc",
            retry_count=2,
            created_at=clock.now(),
            died_at=clock.now(),
            expires_at=clock.now() + timedelta(hours=24),
        )

    return make
