"""A fresh delivery's way out while another session holds something of another lane."""

import os
import time
from typing import Any

import psycopg
import requests

from . import ground, runs

ROUNDS = 20
Figures = dict[str, Any]


def locked_lane() -> Figures:
    """Seconds from accepted to received in a free lane, while one transaction holds a locked one's row, and so on.

    The worker is about to send in the locked lane as well: it has deliveries due, and results to write down.
    """
    from reliability import queue
    from reliability.models import Lane

    for slug in ("locked", "free"):
        runs.workflow(slug, concurrency_limit=16)
    locks = {
        "row": "SELECT 1 FROM reliability_lane WHERE id = %s FOR NO KEY UPDATE",
        "advisory": f"SELECT pg_advisory_xact_lock({queue.LANE_LOCK}, %s)",
        "deliveries": "SELECT 1 FROM reliability_delivery WHERE lane_id = %s FOR UPDATE",
    }
    found: dict[str, float] = {}
    with ground.receiver() as address, ground.worker():
        for slug in ("locked", "free"):
            _accept(slug, f"timed-first-{slug}")
        _until(address, {"timed-first-locked", "timed-first-free"})
        lane = Lane.objects.get(workflow__slug="locked")
        for name, statement in locks.items():
            found[name] = _slowest(address, name, statement, lane.pk)
    return {"slowest": max(found.values()), "by_lock": found, "unit": "s"}


def _slowest(address: str, name: str, statement: str, lane_id: int) -> float:
    with psycopg.connect(os.environ["DATABASE_URL"]) as session:
        _accept("locked", f"timed-{name}-due")
        session.execute(statement, [lane_id])
        sent = {}
        for n in range(ROUNDS):
            _accept("locked", f"timed-{name}-locked-{n}")
            sent[f"timed-{name}-{n}"] = _accept("free", f"timed-{name}-{n}")
            time.sleep(0.1)
        stamps = _until(address, set(sent))
        session.rollback()
    return max(stamps[key] - at for key, at in sent.items())


def _accept(slug: str, key: str) -> float:
    from reliability.core import clock
    from reliability.delivery import intake
    from reliability.delivery.intake import Trigger
    from reliability.models import digest_of

    intake.accept(triggers=[Trigger(slug, "{}", digest_of({}), idempotency_key=key)], now=clock.now())
    return time.time()


def _until(address: str, keys: set[str], *, within: float = 120) -> dict[str, float]:
    """Wait until these have come; return when each did. What has not, counts as coming at the end of the wait."""
    stamps: dict[str, float] = {}
    deadline = time.monotonic() + within
    while keys - stamps.keys() and time.monotonic() < deadline:
        stamps |= requests.get(address, timeout=5).json()["stamps"]
        time.sleep(0.05)
    return {key: stamps.get(key, time.time()) for key in keys}
