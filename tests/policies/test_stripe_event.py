"""What events say of themselves: snapshots, thin ones, and what is none."""

import json
from datetime import UTC, datetime

import pytest

from reliability.errors import InvalidInput
from reliability.policies.stripe_event import Event, read, stamp_of

from ..support import stripe

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_snapshot():
    assert read(json.loads(stripe.event()), now=NOW) == Event(
        id="evt_1NG8Du2eZvKYlo2CUI79vXWy",
        type="invoice.paid",
        livemode=False,
        occurred_at=datetime.fromtimestamp(1686089970, UTC),
        api_version="2019-02-19",
        object_id="in_1MtHbELkdIwHu7ixl4OzzPMv",
    )


def test_a_thin_event():
    found = read(json.loads(stripe.event("v1.billing.meter.error_report_triggered")), now=NOW)
    assert (found.type, found.object_id) == (
        "v1.billing.meter.error_report_triggered",
        "mtr_test_61R9IeP0SgKbYROOx16PEAQF7j",
    )
    assert found.occurred_at == datetime(2024, 9, 17, 6, 20, 52, 246_000, UTC)
    assert not found.is_ping
    assert read(json.loads(stripe.event("v2.core.event_destination.ping")), now=NOW).is_ping


def test_an_event_that_says_little():
    found = read({"id": "evt_1", "type": "a.b", "data": {"object": {"object": "balance"}}}, now=NOW)
    assert found == Event("evt_1", "a.b", False, NOW)


@pytest.mark.parametrize("moment", ["2026-06-15T11:00:00+02:00", "2026-06-15T09:00:00", "2026-06-15T09:00:00Z"])
def test_a_moment_is_read_in_utc(moment):
    found = read({"id": "evt_1", "type": "a.b", "created": moment}, now=NOW).occurred_at
    assert (found, found.tzinfo) == (datetime(2026, 6, 15, 9, tzinfo=UTC), UTC)


def test_a_connected_account_is_named():
    assert read({"id": "evt_1", "type": "a.b", "account": "acct_1"}, now=NOW).account == "acct_1"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], None),
        ("evt_1", None),
        ({}, "id"),
        ({"id": None, "type": "a.b"}, "id"),
        ({"id": "", "type": "a.b"}, "id"),
        ({"id": 7, "type": "a.b"}, "id"),
        ({"id": "evt 1", "type": "a.b"}, "id"),
        ({"id": "évt_1", "type": "a.b"}, "id"),
        ({"id": "e" * 256, "type": "a.b"}, "id"),
        ({"id": "evt_1\n", "type": "a.b"}, "id"),
        ({"id": "evt_1"}, "type"),
        ({"id": "evt_1", "type": ["a.b"]}, "type"),
        ({"id": "evt_1", "type": "a.b", "livemode": "true"}, "livemode"),
        ({"id": "evt_1", "type": "a.b", "created": -1}, "created"),
        ({"id": "evt_1", "type": "a.b", "created": 10**18}, "created"),
        ({"id": "evt_1", "type": "a.b", "created": True}, "created"),
        ({"id": "evt_1", "type": "a.b", "created": "yesterday"}, "created"),
        ({"id": "evt_1", "type": "a.b", "created": {}}, "created"),
        # Moments that PostgreSQL has no place for.
        ({"id": "evt_1", "type": "a.b", "created": "9999-12-31T23:59:59-23:59"}, "created"),
        ({"id": "evt_1", "type": "a.b", "created": "0001-01-01T00:00:00+23:59"}, "created"),
    ],
)
def test_what_is_no_event_says_which_field(document, field):
    with pytest.raises(InvalidInput) as caught:
        read(document, now=NOW)
    assert list(caught.value.errors) == ([field] if field else [])


@pytest.mark.parametrize(
    ("header", "now", "off"),
    [
        ("t=1000,v1=a", 1000, ""),
        ("t=1000,v1=a", 1300, ""),  # 300 seconds old: just within
        ("t=1000,v1=a", 1301, "stale"),
        ("t=1300,v1=a", 1000, ""),
        ("t=1301,v1=a", 1000, "future"),
        ("v1=a,t=1000", 5000, "stale"),
        ("t=1000,t=5000", 5000, "stale"),  # the first one is what is signed
        ("v1=a", 5000, ""),  # no moment: the signature's own check refuses it
        ("t=,v1=a", 5000, ""),
        ("t=١٢,v1=a", 5000, ""),
        ("t=" + "9" * 4000, 5000, ""),
    ],
)
def test_the_moment_of_a_signature(header, now, off):
    assert stamp_of(header).off_by(now=now, tolerance=300) == off
