"""The runs of what comes in: Stripe's events."""

import hashlib
import hmac
import time
from pathlib import Path
from statistics import median
from typing import Any

from . import ground, load

EVENT = Path(__file__).resolve().parents[1] / "tests" / "support" / "stripe_events" / "invoice.paid.json"
ROUNDS, COUNT, LEDGER = 3, 4000, 5_000_000
Figures = dict[str, Any]
_made = 0


def stripe() -> Figures:
    """Events/s over 8 connections, against a view that calls `construct_event` and makes two INSERTs; then repeats
    against first arrivals; then both again with five million events in the ledger."""
    from .runs import workflow

    _tables()
    workflow("paused", paused=True, stripe_events=["invoice.*"])
    empty = _rounds()
    _fill(LEDGER)
    full = _rounds()
    return {
        **_figures(empty),
        **{f"{name}_full": value for name, value in _figures(full).items() if name != "unit"},
        "ledger": LEDGER,
    }


def _figures(rates: dict[str, list[float]]) -> Figures:
    first = median(rates["first"])
    return {
        "ratio": first / median(rates["minimal"]),
        "repeats": median(rates["repeat"]) / first,
        "ours": rates["first"],
        "theirs": rates["minimal"],
        "again": rates["repeat"],
        "unit": "events/s",
    }


def _rounds() -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {"minimal": [], "first": [], "repeat": []}
    for _ in range(ROUNDS):
        with ground.web("bench.minimal:application", interface="wsgi"):
            _send("/stripe/", 500)
            rates["minimal"].append(_send("/stripe/", COUNT))
        with ground.web():
            _send("/stripe/webhook/", 500)
            rates["first"].append(_send("/stripe/webhook/", COUNT))
            rates["repeat"].append(_send("/stripe/webhook/", COUNT, again=True))
    return rates


def _send(path: str, count: int, *, again: bool = False) -> float:
    """Send `count` signed events, or one event `count` times; return the rate."""
    global _made  # noqa: PLW0603  # ids go on from run to run
    if not again:
        _made += count
    text = EVENT.read_text()
    wanted = [_request(path, text, _made - (0 if again else n)) for n in range(1 if again else count)]
    found = load.run(requests=wanted, connections=8, times=count)
    assert not found["errors"], found
    return found["rate"]


def _request(path: str, text: str, number: int) -> bytes:
    body = text.replace("evt_1NG8Du2eZvKYlo2CUI79vXWy", f"evt_{number:024d}", 1)
    body = body.replace("in_1MtHbELkdIwHu7ixl4OzzPMv", f"in_{number:024d}").encode()
    at = int(time.time())
    digest = hmac.new(ground.STRIPE_SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return load.request("POST", path, body=body, **{"Stripe-Signature": f"t={at},v1={digest}"})


def _tables() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_event (id text PRIMARY KEY, type text, payload text)")
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_work (id bigserial PRIMARY KEY, event text, payload text)")


def _fill(count: int) -> None:
    """Put events into the ledger, as years would: ids stay, payloads are scrubbed."""
    from django.db import connection

    from reliability.stripe import ledger

    with connection.cursor() as cursor:
        # Without triggers: one that counts each event by its own is made for transactions of few.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            """
            INSERT INTO reliability_stripeevent (id, endpoint_id, tenant, account, livemode, event_id, type,
                api_version, object_id, occurred_at, received_at, source, stale, ignored, delivery_ids, payload,
                scrubbed_at)
            SELECT gen_random_uuid(), %s, 'default', '', false, 'evt_' || md5(n::text), 'invoice.paid',
                '2019-02-19', 'in_' || md5((n / 4)::text), now() - n * interval '10 seconds', now(), 'webhook', false,
                '', '{}', '', now()
            FROM generate_series(1, %s) AS n
            """,
            [ledger.default_endpoint().pk, count],
        )
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE reliability_stripeevent")
