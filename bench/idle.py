"""What Backstop costs while nothing happens, and whether it grows while much does."""

import json
import os
import time
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import psycopg

from . import ground, load, runs

SETTLE, IDLE = 15.0, 60.0
WARM_UP, SOAK, BURST, EVERY = 45.0, 180.0, 1.0, 3.0
# How often the database is asked which statement each connection has begun last.
LOOK_EVERY = 0.02
ACTIVITY = """
SELECT pid, query_start, query FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
TICK = os.sysconf("SC_CLK_TCK")
Figures = dict[str, Any]


def idle() -> Figures:
    """One web process and one worker with nothing to do: CPU of both, the most frequent query, memory of each."""
    with ground.web() as web, ground.worker() as worker:
        time.sleep(SETTLE)
        before = cpu_of(web.pid) + cpu_of(worker.pid)
        begun = time.monotonic()
        seen = _statements(until=begun + IDLE)
        took = time.monotonic() - begun
        used = cpu_of(web.pid) + cpu_of(worker.pid) - before
        memory = {"web": ground.largest(web.pid), "worker": ground.largest(worker.pid)}
    rates = {text: round(count / took, 3) for text, count in seen.most_common(5)}
    return {"cpu": 100 * used / took, "often": max(rates.values(), default=0.0), **memory, "statements": rates}


def soak() -> Figures:
    """An hour's work in minutes: bursts of deliveries, of which some fail; and memory after the warm-up.

    `web` and `worker` are what each grew by from the first third after the warm-up to the last, in MB.
    """
    bodies = _bodies()
    sizes: dict[str, list[float]] = {"web": [], "worker": []}
    done = 0
    with ground.receiver(), ground.web() as web, ground.worker() as worker:
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < WARM_UP + SOAK:
            found = load.run(requests=bodies, connections=4, seconds=BURST)
            time.sleep(EVERY - BURST)
            done += int(found["count"])
            if now >= WARM_UP:
                sizes["web"].append(ground.largest(web.pid))
                sizes["worker"].append(ground.largest(worker.pid))
    grown = {name: _growth(values) for name, values in sizes.items()}
    return {**grown, "deliveries": done, "memory": {name: max(values) for name, values in sizes.items()}}


def _bodies() -> list[bytes]:
    """Requests for three workflows, of which one always fails: attempts, retries, dead letters, an open breaker."""
    from reliability.models import ApiKey

    plain = ApiKey.issue(name="soak")[1]
    runs.workflow("one")
    runs.workflow("two", concurrency_limit=20)
    runs.workflow("broken", max_retries=1, base_delay_ms=100)
    wanted = []
    for n in range(200):
        slug = ("one", "two", "two", "two", "broken")[n % 5]
        body = json.dumps({"workflow": slug, "payload": {"n": n, "text": "x" * (50 * n)}}).encode()
        wanted.append(load.request("POST", "/api/v1/deliveries/", body=body, Authorization=f"Bearer {plain}"))
    return wanted


def _growth(values: list[float]) -> float:
    third = len(values) // 3
    return mean(values[-third:]) - mean(values[:third])


def _statements(*, until: float) -> "Counter[str]":
    """Count, by text, the statements that connections to the benchmark's database begin."""
    address = os.environ["DATABASE_URL"].replace(f"/{ground.NAME}", "/postgres", 1)
    seen: Counter[str] = Counter()
    with psycopg.connect(address, autocommit=True) as connection:
        last: dict[int, Any] = {pid: at for pid, at, _ in connection.execute(ACTIVITY, [ground.NAME]).fetchall()}
        while time.monotonic() < until:
            for pid, at, query in connection.execute(ACTIVITY, [ground.NAME]).fetchall():
                if last.get(pid) != at:
                    last[pid] = at
                    seen[" ".join(query.split())[:80]] += 1
            time.sleep(LOOK_EVERY)
    return seen


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process and its children have used."""
    return sum(_ticks(one) for one in (pid, *ground.children(pid))) / TICK


def _ticks(pid: int) -> int:
    # proc(5): after the name, which may hold anything but ends with the last bracket, field 3 comes first.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
