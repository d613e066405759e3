"""Dead letters that are due to leave, and where they go."""

from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.lanes import opening
from reliability.models import (
    DeadLetter,
    Delivery,
    error_fields,
)

from ..support.archives import use

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def folder(settings, tmp_path):
    """The archive's folder; the storage is made anew."""
    return use(settings, tmp_path / "archive")


@pytest.fixture
def letters(workflow):
    """Make dead letters that expired an hour ago, each with the delivery that died."""

    def make(count: int, *, slug: str = "echo", with_delivery: bool = True, **values) -> list[DeadLetter]:
        now = clock.now()
        one = workflow(slug)
        lane = opening.open_lane(workflow_id=one.pk, tenant="default")
        made = []
        for n in range(count):
            payload = f'{{"n": {n}, "secret": "ü \\n"}}'
            times = {"due_at": now - 2 * DAY, "created_at": now - 2 * DAY, "finished_at": now - DAY}
            delivery = with_delivery and Delivery.objects.create(
                lane=lane, idempotency_key=f"key-{n}", payload=payload, payload_digest=b"\1" * 32, state="dead", **times
            )
            made.append(
                DeadLetter.objects.create(
                    lane=lane,
                    delivery=delivery or None,
                    source="delivery" if delivery else "api",
                    **error_fields(code="http_500", message="boom"),
                    **{
                        "payload": payload,
                        "created_at": now - DAY,
                        "died_at": now - DAY,
                        "expires_at": now - HOUR,
                        **values,
                    },
                )
            )
        return made

    return make
