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
from reliability.transport import client as transport

from ..support.archives import use
from ..support.wire import Wire

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


@pytest.fixture
def wire():
    """Start a server with a script; it ends with the test."""
    started = []

    def start(script, **options) -> Wire:
        started.append(Wire(script, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def own_session(monkeypatch):
    """A session of this test's own, with what the environment says then."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    transport._local.__dict__.clear()
    yield
    transport._local.__dict__.clear()
