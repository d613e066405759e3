"""Web and workers killed at random moments, again and again, while deliveries come in and go out."""

import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import requests

from . import ground, runs

DELIVERIES, WORKERS = 5000, 2
KILLS = {"web": 40, "worker": 60}
# By workflow. Of a worker that is killed, each place of the limit stays taken until its lease ends.
LIMITS = {"storm-one": 1, "storm-few": 4, "storm-some": 8, "storm-many": 20}
# How long a process lives once it works, or has had time to start, in seconds; which share of them is killed while it
# starts; and how long all of it may take.
LIVES, STARTS, EARLY, WITHIN = (0.1, 3.0), 8.0, 0.1, 1200.0
# What the receiver takes to answer, in seconds.
ANSWER = 0.03
IN_FLIGHT = """
SELECT w.slug, count(*) FROM reliability_delivery d JOIN reliability_lane l ON l.id = d.lane_id
JOIN reliability_workflow w ON w.id = l.workflow_id WHERE d.state IN ('sending', 'awaiting_callback') GROUP BY w.slug
"""
Figures = dict[str, Any]


def kill_storm() -> Figures:
    """Kill web and workers, `KILLS` times in all; count what was lost, and which limits did not hold.

    `lost` counts deliveries that were accepted by an answer of 2xx and never reached the receiver. `over_limit` counts
    the lanes that had more in flight than their limit, as the receiver or the database saw it. `unfinished` are those
    that were not delivered in the end.
    """
    chance = random.Random(11)  # the same storm each time, as far as the machine allows
    key = runs._key()
    for slug, limit in LIMITS.items():
        runs.workflow(
            slug, concurrency_limit=limit, timeout_ms=1000, max_retries=50, base_delay_ms=10, max_delay_ms=500
        )
    begun = time.monotonic()
    with receiver() as seen, watch() as peaks:
        client = Client(key)
        client.start()
        killed = _storm(chance, client, until=begun + WITHIN)
        client.join(WITHIN)
        left = _drain(until=begun + WITHIN)
    most = {slug: (seen.peak[f"/webhook/{slug}"], peaks[slug]) for slug in LIMITS}
    return {
        "lost": len(client.accepted - seen.keys.keys()),
        "over_limit": sum(max(most[slug]) > limit for slug, limit in LIMITS.items()),
        "unfinished": left,
        "kills": sum(killed.values()),
        "killed": dict(killed),
        "accepted": len(client.accepted),
        "requests": sum(seen.keys.values()),
        "most_in_flight": most,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _storm(chance: random.Random, client: "Client", *, until: float) -> Counter[str]:
    """Keep one web server and the workers running, and kill each when its time is over."""
    web, environment = ground.web_command()
    running = [Process("web", web, environment), *(Process("worker", ground.worker_command()) for _ in range(WORKERS))]
    killed: Counter[str] = Counter()
    try:
        for one in running:
            one.start(chance)
        while (killed != KILLS or client.is_alive()) and time.monotonic() < until:
            time.sleep(0.05)
            for one in running:
                one.look(chance)
                if killed[one.name] < KILLS[one.name] and one.is_due:
                    one.kill()
                    killed[one.name] += 1
                if one.is_gone:
                    one.start(chance)
    finally:
        for one in running:
            one.kill()
    return killed


@dataclass
class Process:
    """A process of ours that is started again and again; it is killed with its children, which are its own alone."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    ends: float = math.inf
    began: float = 0.0
    known: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, chance: random.Random) -> None:
        values = {**os.environ, **self.environment}
        self.known, self.began = _newest_worker(), time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *self.command],
            cwd=ground.ROOT,
            env=values,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        starts_badly = chance.random() < EARLY
        self.ends = time.monotonic() + chance.uniform(*LIVES) if starts_badly else math.inf

    def look(self, chance: random.Random) -> None:
        """Let its life begin once it works: a machine under load takes longer to start it."""
        if self.ends == math.inf and not self.is_gone and self._works():
            self.ends = time.monotonic() + chance.uniform(*LIVES)

    def _works(self) -> bool:
        if time.monotonic() > self.began + STARTS:
            return True
        if self.name == "worker":
            return _newest_worker() > self.known
        try:
            return requests.get(f"http://127.0.0.1:{ground.PORT}/healthz", timeout=0.5).ok
        except requests.RequestException:
            return False

    @property
    def is_gone(self) -> bool:
        return self.process is None or self.process.poll() is not None

    @property
    def is_due(self) -> bool:
        return not self.is_gone and time.monotonic() >= self.ends

    def kill(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        children = ground.children(self.process.pid)
        for pid in (self.process.pid, *children):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        self.process.wait()


def _newest_worker() -> int:
    """Return the id of the worker that began last."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM procrastinate_workers")
        return int(cursor.fetchone()[0])


class Client(threading.Thread):
    """Posts deliveries under keys of their own, each until it is accepted: one whose answer got lost is repeated."""

    THREADS, BATCH = 4, 10

    def __init__(self, key: str) -> None:
        super().__init__(daemon=True)
        self.key = key
        self.accepted: set[str] = set()
        self._left = [range(n, n + self.BATCH) for n in range(0, DELIVERIES, self.BATCH)]

    def run(self) -> None:
        threads = [threading.Thread(target=self._post_all, daemon=True) for _ in range(self.THREADS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    def _post_all(self) -> None:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.key}"
        slugs = list(LIMITS)
        while True:
            try:
                numbers = self._left.pop()
            except IndexError:
                return
            names = {number: f"storm-{number}" for number in numbers}
            batch = [
                {"workflow": slugs[number % len(slugs)], "payload": {}, "idempotency_key": name}
                for number, name in names.items()
            ]
            self._post(session, {"deliveries": batch})
            self.accepted.update(names.values())

    def _post(self, session: requests.Session, body: dict[str, Any]) -> None:
        while True:
            try:
                answer = session.post(f"http://127.0.0.1:{ground.PORT}/api/v1/deliveries/batch/", json=body, timeout=10)
                if answer.ok:
                    return
                assert answer.status_code >= 500, answer.text
            except requests.RequestException:
                pass
            time.sleep(0.05)


@contextmanager
def watch() -> Iterator[Counter[str]]:
    """Look at the database all the while; most in flight by workflow."""
    peaks: Counter[str] = Counter()
    ended = threading.Event()

    def look() -> None:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
            while not ended.wait(0.05):
                for slug, count in session.execute(IN_FLIGHT):
                    peaks[slug] = max(peaks[slug], count)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _drain(*, until: float) -> int:
    """Let workers that nobody kills finish; return how many deliveries were not delivered in time."""
    from reliability.models import Delivery

    open_ones = Delivery.objects.filter(lane__workflow__slug__in=list(LIMITS)).exclude(state="delivered")
    with ground.worker(), ground.worker():
        while (left := open_ones.count()) and time.monotonic() < until:
            time.sleep(0.5)
    return left


class Seen:
    """What the receiver saw: how often each key came, and the most requests of a path at once."""

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.lock = threading.Lock()

    def begin(self, path: str, key: str) -> None:
        with self.lock:
            self.keys[key] += 1
            self.open[path] += 1
            self.peak[path] = max(self.peak[path], self.open[path])

    def end(self, path: str) -> None:
        with self.lock:
            self.open[path] -= 1


@contextmanager
def receiver() -> Iterator[Seen]:
    """A receiver that takes a moment for each request, and remembers them all."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            seen.begin(self.path, self.headers["idempotency-key"])
            time.sleep(ANSWER)
            seen.end(self.path)
            body = json.dumps({"ok": True}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing: each kill breaks connections."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: object, client_address: object) -> None:
            """As above."""

    server = Server(("127.0.0.1", ground.RECEIVER_PORT), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
