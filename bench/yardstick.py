"""The speed of this machine: every bar of a rate or a time is a ratio to it, taken in the same run.

One unit is the time of a fixed piece of work: a JSON document is encoded, one row is inserted and committed, and one
request is sent to the fast receiver and answered. A slower machine has a longer unit, so that its bars grow with it.
"""

import json
import os
import time

import psycopg
import requests

from . import ground

TIMES, WARM_UP = 400, 50
# The first quartile of the times: the machine's other load only makes times longer.
SHARE = 0.25
TABLE = "CREATE TABLE IF NOT EXISTS bench_yardstick (id bigserial PRIMARY KEY, payload jsonb)"
INSERT = "INSERT INTO bench_yardstick (payload) VALUES (%s)"


def unit() -> float:
    """Return one unit, in milliseconds."""
    document = {"workflow": "fast", "lines": [{"sku": f"SKU-{n}", "quantity": n} for n in range(100)]}
    times = []
    with (
        ground.receiver() as address,
        psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection,
        requests.Session() as session,
    ):
        connection.execute(TABLE)
        for _ in range(TIMES + WARM_UP):
            begun = time.perf_counter()
            body = json.dumps(document)
            connection.execute(INSERT, [body])
            session.post(f"{address}/webhook/fast", data=body.encode(), timeout=30)
            times.append(1000 * (time.perf_counter() - begun))
        connection.execute("DROP TABLE bench_yardstick")
    return sorted(times[WARM_UP:])[int(TIMES * SHARE)]
