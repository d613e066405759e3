"""The sentences of the console: tables of cases."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from reliability.admin.common import status_text
from reliability.admin.delivery.workflows import percent
from reliability.lanes.wait_reasons import Cause, Wait
from reliability.models import Breaker, Delivery
from reliability.policies.breaker import EPOCH, MILLISECOND

NOW = datetime(2026, 3, 12, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOON, BEFORE = NOW + 2 * MINUTE, NOW - 14 * MINUTE
BUCKETS = [[(BEFORE - MINUTE - EPOCH) // MILLISECOND, 9, 3], [(BEFORE - 30 * MINUTE - EPOCH) // MILLISECOND, 9, 0]]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Wait(Cause.HELD, on=uuid4()), "Waiting for the previous run to finish"),
        (Wait(Cause.DUE, until=SOON), "Due in 2 min"),
        (Wait(Cause.SWITCHED_OFF), "Dispatch is switched off"),
        (Wait(Cause.PAUSED), "Workflow paused"),
        (
            Wait(Cause.PAUSED, until=SOON, detail="a\n release"),
            "Workflow paused (a release); resumes in 2 min",
        ),
        (
            Wait(Cause.MISCONFIGURED, until=SOON, detail="auth_header: Not a header's name"),
            "Not sendable with the current settings (auth_header: Not a header's name); next attempt in 2 min",
        ),
        (Wait(Cause.BREAKER, until=SOON, detail="http_503"), "The breaker is open (http_503); next probe in 2 min"),
        (Wait(Cause.BREAKER, until=BEFORE), "The breaker is open; next probe now"),
        (Wait(Cause.BREAKER), "The breaker is open"),
        (Wait(Cause.INSTANCE, until=SOON), "The n8n instance's breaker is open; next probe in 2 min"),
        (Wait(Cause.LIMIT, count=5, limit=5), "Waiting for a slot (5 of 5 in use)"),
        (Wait(Cause.RATE, until=SOON, limit=60), "Rate limit of 60 per minute reached; next attempt in 2 min"),
        (Wait(Cause.DEMO), "Demo data, never sent"),
        (Wait(Cause.TURN), "Ready to send; waiting for a worker"),
    ],
)
def test_what_a_delivery_waits_for(found, said):
    assert status_text.wait(found, now=NOW) == said


def test_a_retry_is_called_the_next_attempt():
    assert status_text.wait(Wait(Cause.DUE, until=SOON), now=NOW, is_retry=True) == "Next attempt in 2 min"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"state": "sending", "lease_until": SOON}, "A worker is sending it; its lease ends in 2 min."),
        ({"state": "awaiting_callback", "lease_until": BEFORE}, "now."),
        ({"state": "delivered", "finished_at": BEFORE}, "Delivered 14 min ago, 1 min after it was accepted."),
        (
            {"state": "dead", "finished_at": BEFORE, "attempt_count": 1},
            "Failed permanently 14 min ago, after 1 attempt.",
        ),
        (
            {"state": "dead", "finished_at": BEFORE, "attempt_count": 4},
            "Failed permanently 14 min ago, after 4 attempts.",
        ),
        ({"state": "cancelled", "finished_at": BEFORE}, "Cancelled 14 min ago."),
        ({"state": "skipped", "finished_at": BEFORE}, "Skipped 14 min ago: same payload as the previous delivery."),
    ],
)
def test_how_a_delivery_stands(values, said):
    made = Delivery(created_at=BEFORE - MINUTE, **values)
    assert status_text.delivery(made, found=None, now=NOW).endswith(said)


@pytest.mark.parametrize(
    ("values", "waiting", "said"),
    [
        ({}, 0, "Closed: 0 failures in the last 10 min, opens at 10."),
        ({"ramp": 2}, 0, "Closed: 0 failures in the last 10 min, opens at 10; ramping up, 2 in flight at most."),
        (
            {
                "state": "open",
                "opened_at": BEFORE,
                "next_probe_at": SOON,
                "reason": "http_503: down",
                "buckets": BUCKETS,
            },
            31,
            "Open for 14 min: 9 failures in 10 min (http_503: down); next probe in 2 min. 31 deliveries are waiting.",
        ),
        (
            {"state": "open", "opened_at": BEFORE, "next_probe_at": BEFORE, "reason": "http_401: no"},
            1,
            "Open for 14 min: http_401: no; next probe now. 1 delivery is waiting.",
        ),
        (
            {"state": "open", "opened_at": BEFORE, "next_probe_at": SOON, "reason": "http_404: published?"},
            0,
            "Open for 14 min: http_404: published? Next probe in 2 min.",
        ),
        (
            {"state": "forced_open", "opened_at": BEFORE, "reason": "upgrade"},
            10_000,
            "Forced open for 14 min, until it is reset: upgrade. 10,000 or more deliveries are waiting.",
        ),
        (
            {"state": "forced_open", "opened_at": BEFORE, "forced_until": SOON},
            0,
            "Forced open for 14 min, until the first probe in 2 min.",
        ),
        (
            {"state": "half_open", "probe_until": SOON, "reason": "http_503: down"},
            0,
            "Half-open: one probe at a time (http_503: down); a probe is in flight, its lease ends in 2 min.",
        ),
        ({"state": "half_open"}, 0, "Half-open: one probe at a time (recovering); the next delivery is the probe."),
    ],
)
def test_how_a_breaker_stands(settings, values, waiting, said):
    settings.N8N_CIRCUIT_BREAKER_THRESHOLD, settings.N8N_CIRCUIT_BREAKER_WINDOW_MS = 10, 600_000
    assert status_text.breaker(Breaker(scope="instance", **values), waiting=waiting, now=NOW) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(None, "—"), (1, "100 %"), (0.99999, "99.99 %"), (0.9951, "99.51 %"), (0.9, "90.0 %"), (0, "0.0 %")],
)
def test_all_but_a_few_is_not_all(share, said):
    assert percent(share) == said


@pytest.mark.parametrize(("text", "length"), [("a", 1), ("a" * 160, 160), ("a" * 161, 161), ("a\n\tb", 3)])
def test_a_long_reason_is_cut(text, length):
    assert len(status_text.short(text)) == length
