"""A scrape of `/metrics` over 10,000,000 deliveries and 1,000,000 dead letters."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import requests

from . import ground

DELIVERIES, LETTERS, WAITING = 10_000_000, 1_000_000, 50_000
WORKFLOWS, TENANTS = 20, 3
TIMES = 20

# Ids that order by time, as those of a year would.
DELIVERY = """
INSERT INTO reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source, attempt_count,
    retries_used, due_at, created_at, finished_at, last_error)
SELECT (lpad(to_hex(1700000000000 + n * 3000), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid,
    (%(lanes)s::int[])[1 + n %% %(lane_count)s], 'key-' || n, '{}', '\\x00',
    CASE WHEN n > %(settled)s THEN 'pending' WHEN n %% 10 = 0 THEN 'dead' ELSE 'delivered' END, 'api', 1, 0,
    now() - (%(count)s - n) * interval '3 seconds', now(), now(), ''
FROM generate_series(1::bigint, %(count)s) AS n
"""
LETTER = """
INSERT INTO reliability_deadletter (id, lane_id, source, status, payload, error_code, error_message, reason,
    fingerprint, retry_count, execution_id, execution_url, created_at, died_at, expires_at)
SELECT (lpad(to_hex(1700000000000 + n * 30000), 12, '0') || '70009' || lpad(to_hex(n), 15, '0'))::uuid,
    (%(lanes)s::int[])[1 + n %% %(lane_count)s], 'api',
    (ARRAY['dead', 'recovered', 'purged', 'archived'])[1 + n %% 4], '{}', 'http_500', 'It failed',
    (ARRAY['http_5xx', 'timeout', 'http_4xx'])[1 + n %% 3], 'print-' || n %% 50, 1, '', '', now(), now(),
    now() + interval '1 day'
FROM generate_series(1::bigint, %(letters)s) AS n
"""
TOTALS = """
INSERT INTO reliability_lanetotal (lane_id, workflow_id, delivered, dead, retries, retries_delivered, results,
    durations, duration_ms, latencies, latency_ms)
SELECT id, workflow_id, 150000, 16000, 40000, 30000, ARRAY[150000, 10, 9000, 40, 5, 7000, 1, 2, 3],
    array_fill(11000, ARRAY[15]), 90000000, array_fill(10000, ARRAY[15]), 120000000 FROM reliability_lane
"""
COUNTS = """
INSERT INTO reliability_total (name, key, lane_id, label, shard, count)
SELECT name, l.workflow_id, l.id, label, shard, 100 FROM reliability_lane l, generate_series(0, 15) AS shard,
    (VALUES ('deaths', 'http_5xx'), ('deaths', 'timeout'), ('deaths', 'http_4xx'), ('ended', 'cancelled'),
        ('executions', 'success'), ('executions', 'error'), ('transitions', 'open'), ('transitions', 'closed'))
        AS t(name, label)
"""


def metrics() -> dict[str, Any]:
    """Median milliseconds of a scrape, as its client sees it, and how much it says."""
    begun = time.perf_counter()
    _fill()
    filled = time.perf_counter() - begun
    with ground.web():
        address = f"http://127.0.0.1:{ground.PORT}/metrics"
        requests.get(address, timeout=60).raise_for_status()
        times, text = [], ""
        for _ in range(TIMES):
            begun = time.perf_counter()
            answer = requests.get(address, timeout=60)
            times.append(1000 * (time.perf_counter() - begun))
            text = answer.text
    assert " 0.0\n" in text
    assert 'backstop_scrape_part_up{part="lanes"} 1.0' in text
    return {"median": median(times), "slowest": max(times), "bytes": len(text), "filled_s": filled, "unit": "ms"}


def _fill() -> None:
    """Lay the rows down without triggers, and count afterwards."""
    from django.db import connection

    from reliability.lanes import opening

    with connection.cursor() as cursor:  # of what other runs have left
        cursor.execute("TRUNCATE reliability_lane, reliability_lanetotal, reliability_total CASCADE")
    lanes = [
        opening.open_lane(workflow_id=one, tenant=f"tenant-{n}").pk for one in _workflows() for n in range(TENANTS)
    ]
    values = {
        "lanes": lanes,
        "lane_count": len(lanes),
        "count": DELIVERIES,
        "settled": DELIVERIES - WAITING,
        "letters": LETTERS,
    }
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica; SET maintenance_work_mem = '512MB'")
        with _without_indexes(cursor, "reliability_delivery"):
            cursor.execute(DELIVERY, values)
        with _without_indexes(cursor, "reliability_deadletter"):
            cursor.execute(LETTER, values)
        cursor.execute(TOTALS)
        cursor.execute(COUNTS)
        cursor.execute("SELECT backstop_recount_dead_letters()")
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE reliability_delivery, reliability_deadletter, reliability_total")


@contextmanager
def _without_indexes(cursor: Any, table: str) -> Iterator[None]:
    """Leave out, meanwhile, the indexes that no constraint stands on."""
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s AND indexname NOT IN"
        " (SELECT conname FROM pg_constraint) AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
        [table],
    )
    found = cursor.fetchall()
    for name, _ in found:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    for _, statement in found:
        cursor.execute(statement)


def _workflows() -> Iterator[Any]:
    from reliability.models import Workflow

    for n in range(WORKFLOWS):
        slug = f"scraped-{n}"
        yield Workflow.objects.create(slug=slug, name=f"Scraped {n}", path=slug, paused=True).pk
