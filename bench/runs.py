"""The runs, one function each. Every one returns what it measured, as rates and ratios."""

import json
import threading
import time
from statistics import median
from typing import Any

import requests

from . import ground, load

ROUNDS = 3
Figures = dict[str, Any]


def light() -> Figures:
    """The light endpoint against a bare ASGI application that answers the same bytes."""
    ours = load.request("GET", "/cron/weekly-recap/", Authorization=f"Bearer {ground.CRON_SECRET}")
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        for name, application in (("bare", "bench.minimal:bare"), ("ours", "config.asgi:application")):
            with ground.web(application):
                load.run(requests=[ours], connections=8, seconds=0.5)
                found = load.run(requests=[ours], connections=8, seconds=3)
                assert not found["errors"]
                rates[name].append(found["rate"])
    return _ratio(rates["ours"], rates["bare"], "requests/s")


def accepting() -> Figures:
    """`POST /api/v1/deliveries/` against a minimal Django view that checks a key, inserts one row and commits."""
    from django.db import connection

    plain = _key()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_row (id bigserial PRIMARY KEY, workflow text, payload jsonb)")
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_key (prefix text PRIMARY KEY, hash text)")
        cursor.execute("INSERT INTO bench_key SELECT prefix, hash FROM reliability_apikey ON CONFLICT DO NOTHING")
    workflow("paused", paused=True)
    body = json.dumps({"workflow": "paused", "payload": {"order": 4711, "client": "a@example.com"}}).encode()
    rates: dict[str, list[float]] = {"ours": [], "minimal": []}
    for _ in range(ROUNDS):
        for name, application, path, interface in (
            ("minimal", "bench.minimal:application", "/insert/", "wsgi"),
            ("ours", "config.asgi:application", "/api/v1/deliveries/", ""),
        ):
            with ground.web(application, interface=interface):
                wanted = [load.request("POST", path, body=body, Authorization=f"Bearer {plain}")]
                load.run(requests=wanted, connections=8, seconds=0.5)
                found = load.run(requests=wanted, connections=8, seconds=3)
                assert not found["errors"], found
                rates[name].append(found["rate"])
    _empty()
    return _ratio(rates["ours"], rates["minimal"], "requests/s")


def batches() -> Figures:
    """Batches of 1,000, one connection."""
    plain = _key()
    workflow("paused", paused=True)
    many = [{"workflow": "paused", "payload": {"order": n, "client": "a@example.com"}} for n in range(1000)]
    body = json.dumps({"deliveries": many}).encode()
    with ground.web():
        wanted = [load.request("POST", "/api/v1/deliveries/batch/", body=body, Authorization=f"Bearer {plain}")]
        load.run(requests=wanted, connections=1, times=2)
        found = load.run(requests=wanted, connections=1, times=15)
        assert not found["errors"]
    _empty()
    return {"rate": found["rate"] * 1000, "unit": "deliveries/s"}


def throughput(*, count: int = 5000) -> Figures:
    """One worker against 16 threads that post with `requests.Session` and no queue at all."""
    rates: dict[str, list[float]] = {"ours": [], "threads": []}
    with ground.receiver() as address:
        for _ in range(ROUNDS):
            rates["threads"].append(_post_without_a_queue(address, count))
            rates["ours"].append(_deliver(address, count))
    return _ratio(rates["ours"], rates["threads"], "deliveries/s")


def backlog(*, waiting: int = 1_000_000, count: int = 5000) -> Figures:
    """The same with a million deliveries waiting in other lanes, against without."""
    rates: dict[str, list[float]] = {"with": [], "without": []}
    with ground.receiver() as address:
        rates["without"] += [_deliver(address, count) for _ in range(ROUNDS)]
        _fill(waiting)
        rates["with"] += [_deliver(address, count, keep=True) for _ in range(ROUNDS)]
        plan = _claim_plan()
    found = _ratio(rates["with"], rates["without"], "deliveries/s")
    return {**found, "plan": plan}


def latency(*, count: int = 300) -> Figures:
    """From accepted to received, one at a time, in an idle worker. Milliseconds."""
    from reliability.core import clock
    from reliability.delivery import intake
    from reliability.delivery.intake import Trigger
    from reliability.models import digest_of

    def send(key: str) -> float:
        now = clock.now()
        intake.accept(triggers=[Trigger("fast", "{}", digest_of({}), idempotency_key=key)], now=now)
        return time.time()

    def received() -> dict[str, float]:
        return requests.get(address, timeout=5).json()["stamps"]  # type: ignore[no-any-return]  # of our receiver

    workflow("fast", concurrency_limit=16)
    with ground.receiver() as address, ground.worker():
        send("timed-first")
        while "timed-first" not in received():
            time.sleep(0.05)  # the worker is still starting, which is not what is timed
        sent = {}
        for n in range(-20, count):
            time.sleep(0.03)
            sent[f"timed-{n}"] = send(f"timed-{n}")
        time.sleep(1)
        stamps = received()
    waits = sorted(1000 * (stamps[key] - at) for key, at in sent.items() if not key.startswith("timed--"))
    _empty()
    return {"median": median(waits), "p99": waits[int(len(waits) * 0.99)], "unit": "ms"}


def memory() -> Figures:
    """The largest of each server's processes after work."""
    plain = _key()
    workflow("fast", concurrency_limit=16)
    body = json.dumps({"workflow": "fast", "payload": {"order": 1}}).encode()
    with ground.receiver(), ground.web() as web, ground.worker() as worker:
        wanted = [load.request("POST", "/api/v1/deliveries/", body=body, Authorization=f"Bearer {plain}")]
        many = {"deliveries": [{"workflow": "fast", "payload": {"order": n}} for n in range(1000)]}
        batch = load.request(
            "POST", "/api/v1/deliveries/batch/", body=json.dumps(many).encode(), Authorization=f"Bearer {plain}"
        )
        load.run(requests=wanted, connections=8, seconds=4)
        load.run(requests=[batch], connections=2, times=10)
        listing = load.request("GET", "/api/v1/deliveries/", Authorization=f"Bearer {plain}")
        load.run(requests=[listing], connections=4, times=100)
        _wait_until_done()
        found = {"web": ground.largest(web.pid), "worker": ground.largest(worker.pid), "unit": "MB"}
    _empty()
    return found


def _ratio(ours: list[float], theirs: list[float], unit: str) -> Figures:
    """The ratio of medians, and the rates it comes from."""
    return {"ratio": median(ours) / median(theirs), "ours": ours, "theirs": theirs, "unit": unit}


def _key() -> str:
    from reliability.models import ApiKey

    return ApiKey.issue(name="bench")[1]


def workflow(slug: str, **values: Any) -> None:
    from reliability.models import Workflow

    Workflow.objects.update_or_create(slug=slug, defaults={"name": slug, "path": slug, **values})


def _empty() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE reliability_delivery, reliability_attempt, reliability_deadletter, procrastinate_jobs CASCADE"
        )
        cursor.execute("VACUUM ANALYZE reliability_delivery")


def _accept(count: int) -> None:
    from reliability.core import clock
    from reliability.delivery import intake
    from reliability.delivery.intake import Trigger
    from reliability.models import digest_of

    payloads = [{"order": n, "client": "a@example.com"} for n in range(1000)]
    ready = [Trigger("fast", json.dumps(one), digest_of(one)) for one in payloads]
    for _ in range(count // 1000):
        intake.accept(triggers=ready, now=clock.now())


def _deliver(address: str, count: int, *, keep: bool = False) -> float:
    """Let a worker deliver what was accepted before it started; the clock runs from its first to its last."""
    workflow("fast", concurrency_limit=16)
    _accept(count)
    requests.get(address, timeout=5)
    with ground.worker():
        deadline = time.monotonic() + 180
        while _left("fast"):
            assert time.monotonic() < deadline, "deliveries did not end"
            time.sleep(0.1)
        found = requests.get(address, timeout=5).json()
    assert found["count"] == count
    if not keep:
        _empty()
    return count / (found["last"] - found["first"])


def _left(slug: str) -> bool:
    from reliability.models import Delivery

    states = ("pending", "sending")
    return Delivery.objects.filter(lane__workflow__slug=slug, state__in=states).exists()


def _wait_until_done() -> None:
    deadline = time.monotonic() + 180
    while _left("fast") and time.monotonic() < deadline:
        time.sleep(0.2)


def _post_without_a_queue(address: str, count: int) -> float:
    lock, left = threading.Lock(), list(range(count))

    def work() -> None:
        session = requests.Session()
        while True:
            with lock:
                if not left:
                    return
                n = left.pop()
            body = json.dumps({"order": n, "client": "a@example.com"}).encode()
            headers = {"Content-Type": "application/json", "Idempotency-Key": str(n)}
            session.post(f"{address}/webhook/fast", data=body, headers=headers, timeout=30)

    threads = [threading.Thread(target=work) for _ in range(16)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - begun)


def _fill(count: int) -> None:
    """Put deliveries into 50 other lanes, as a long outage would leave them."""
    from django.db import connection

    from reliability.lanes import opening
    from reliability.models import Workflow

    workflow("stuck", paused=True)
    stuck = Workflow.objects.get(slug="stuck")
    lanes = [opening.open_lane(workflow_id=stuck.pk, tenant=f"tenant-{n}").pk for n in range(50)]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source,
                attempt_count, retries_used, due_at, created_at, last_error)
            SELECT gen_random_uuid(), (%s::int[])[1 + n %% 50], 'fill-' || n, '{"order": 1}', '\\x00', 'pending', 'api',
                0, 0, now() - n * interval '1 millisecond', now(), ''
            FROM generate_series(1, %s) AS n
            """,
            [lanes, count],
        )
        cursor.execute("VACUUM ANALYZE reliability_delivery")


def _claim_plan() -> dict[str, Any]:
    """Return which index the claim reads, and how many rows, with everything else waiting."""
    from django.db import connection, transaction

    from reliability.core import clock
    from reliability.delivery.dispatch import CLAIM
    from reliability.models import Lane

    _accept(1000)
    lane = Lane.objects.get(workflow__slug="fast", tenant="default")
    now = clock.now()
    token = "00000000-0000-4000-8000-000000000000"
    values = {"lane": lane.pk, "now": now, "room": 16, "token": token, "until": now}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + CLAIM, values)
        plan = cursor.fetchone()[0][0]["Plan"]
        transaction.set_rollback(True)
    nodes = list(_nodes(plan))
    scans = [node for node in nodes if node["Node Type"].endswith("Scan") and "Index Name" in node]
    return {
        "indexes": sorted({node["Index Name"] for node in scans}),
        "most_rows_read": max(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in nodes
        ),
        "sequential_scans": sum(node["Node Type"] == "Seq Scan" for node in nodes),
    }


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
