"""Cleaning up a million expired rows while a steady stream is taken in; and what becomes of the room they took."""

import json
import time
from typing import Any

from . import ground, load, steady

EXPIRED = 1_000_000
RATE = 40.0
QUIET_SECONDS, WARM_SECONDS = 30, 5
Figures = dict[str, Any]

# Ids as they were made then (UUID version 7): the moment's milliseconds, the version, the variant, noise.
FILL = """
INSERT INTO reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source, attempt_count,
    retries_used, due_at, created_at, finished_at, last_error)
SELECT id, %(lane)s, 'old-' || id, '{"order": ' || n || ', "text": "' || repeat(md5(n::text), 8) || '"}',
    sha256(n::text::bytea), 'delivered', 'api', 1, 0, at, at, at + interval '1 second', ''
FROM generate_series(1, %(count)s) AS n,
    LATERAL (SELECT now() - interval '200 days' + n * interval '5 seconds') AS t(at),
    LATERAL (SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008'
        || substr(md5(n || random()::text), 1, 15))::uuid) AS i(id)
"""
ATTEMPTS = """
INSERT INTO reliability_attempt (delivery_id, number, result, code, error, status_code, started_at, duration_ms,
    response_headers, response_body, probe, worker)
SELECT id, 1, 'delivered', '', '', 200, created_at, 20, '{"content-type": "text/html"}', '{"ok": true}', false, ''
FROM reliability_delivery WHERE source = 'api' AND state = 'delivered' ORDER BY id
"""


def cleanup() -> Figures:
    """p99 (ms) of taking in `RATE` deliveries a second during clean-up, against the quiet one of the same run."""
    from .runs import _empty, _key, workflow

    _empty()  # of what other runs have left
    plain = _key()
    workflow("paused", paused=True)
    fill(EXPIRED // 2)
    body = json.dumps({"workflow": "paused", "payload": {"order": 4711, "client": "a@example.com"}}).encode()
    request = load.request("POST", "/api/v1/deliveries/", body=body, Authorization=f"Bearer {plain}")
    with ground.web():
        with steady.stream(request=request, rate=RATE):
            time.sleep(WARM_SECONDS)
        with steady.stream(request=request, rate=RATE) as quiet:
            time.sleep(QUIET_SECONDS)
        begun = time.monotonic()
        with steady.stream(request=request, rate=RATE) as during, ground.process("manage.py", "cleanup") as running:
            code = running.wait(timeout=900)
        seconds = time.monotonic() - begun
    left = _left()
    _empty()
    errors = quiet.found["errors"] + during.found["errors"]
    assert (code, left, errors) == (0, 0, 0), (code, left, errors)
    return {
        "ratio": during.found["p99"] / quiet.found["p99"],
        "rows_a_second": EXPIRED / seconds,
        "ours": [during.found["p99"], during.found["median"]],
        "theirs": [quiet.found["p99"], quiet.found["median"]],
        "unit": "ms (p99/median)",
        "seconds": seconds,
        "during": during.found,
        "quiet": quiet.found,
    }


def fill(count: int) -> None:
    """Put old deliveries in, each with its attempt, and the statistics of tables as they would be."""
    from django.db import connection

    from reliability.lanes import opening
    from reliability.models import Workflow

    lane = opening.open_lane(workflow_id=Workflow.objects.get(slug="paused").pk, tenant="default")
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"lane": lane.pk, "count": count})
        cursor.execute(ATTEMPTS)
        cursor.execute("VACUUM ANALYZE reliability_delivery, reliability_attempt")
        cursor.execute("CHECKPOINT")


def _left() -> int:
    from reliability.models import Attempt, Delivery

    return Delivery.objects.filter(state="delivered").count() + Attempt.objects.count()


def _sizes() -> dict[str, float]:
    """Return the size of each table with its indexes, in MB."""
    from django.db import connection

    found = {}
    with connection.cursor() as cursor:
        for name in ("reliability_delivery", "reliability_attempt"):
            cursor.execute("SELECT pg_table_size(%s::regclass), pg_indexes_size(%s::regclass)", [name, name])
            table, indexes = cursor.fetchone()
            found[name] = round(table / 2**20), round(indexes / 2**20)
    return found


def room(*, rounds: int = 3, count: int = 250_000) -> None:
    """Fill and clean up in turn, and print how large (MB: table, indexes) the tables are: `python -m bench.cleanup`.

    What comes in behind the old rows stays, so that their room cannot simply be cut off.
    """
    from django.db import connection

    from reliability.core import clock
    from reliability.retention import runner

    from .runs import _accept, workflow

    workflow("fast", paused=True)

    workflow("paused", paused=True)
    wanted = [rule for rule in runner.rules() if rule.name in ("attempts", "deliveries")]
    for number in range(rounds):
        fill(count)
        _accept(5000)
        print(f"round {number + 1}: full {_sizes()}", flush=True)
        for rule in wanted:
            done = runner.apply(rule=rule, now=clock.now(), pace=runner.Pace(load=1.0))
            print(f"  {rule.name}: {done.rows:,} rows, {1e5 * done.seconds / max(done.rows, 1):.2f} s for each 100,000")
        print(f"  emptied {_sizes()}", flush=True)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM reliability_delivery, reliability_attempt")
        print(f"  vacuumed {_sizes()}", flush=True)


if __name__ == "__main__":
    ground.prepare()
    room()
