"""What callers see while PostgreSQL is stopped, and how soon it is over."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import requests

from . import ground

STOPPED_SECONDS = 75.0
# Ten times as many as the web server has threads, and operators enough to take every thread that they may.
CALLERS, OPERATORS = 40, 8
PATIENCE = 120.0
LIGHT = "/cron/weekly-recap/"


def database_stopped(*, seconds: float = STOPPED_SECONDS, **environment: str) -> dict[str, Any]:
    """Stop PostgreSQL (SIGSTOP) under load: how long requests take meanwhile, and until all is normal after it.

    Seconds. `intake` is the slowest POST, each of which has to end in 503 with Retry-After, and `intake_of_limit` its
    ratio to `DATABASE_INTAKE_TIMEOUT_MS`; `light` the slowest answer of /healthz and of the light endpoint; `back` the
    time from the server's return until intake accepts.
    """
    from django.conf import settings

    from .runs import _empty, _key, workflow

    workflow("fast", concurrency_limit=16)
    headers = {"Authorization": f"Bearer {_key()}", "Content-Type": "application/json"}
    body = json.dumps({"workflow": "fast", "payload": {"order": 1}})
    intake = Probe("POST", "/api/v1/deliveries/", headers=headers, data=body)
    light = Probe("GET", LIGHT, headers={"Authorization": f"Bearer {ground.CRON_SECRET}"})
    health, ready = Probe("GET", "/healthz"), Probe("GET", "/readyz")
    console = Probe("GET", "/admin/", headers={"Cookie": "sessionid=" + "x" * 32})
    with ground.web(**environment):
        assert intake.ask().status_code == 201
        console.ask()
        with stopped():
            with asking(*[intake] * CALLERS, *[console] * OPERATORS, light, health, ready):
                time.sleep(seconds)
            assert {one[0] for one in intake.seen[1:]} == {503}, "a request was not answered 503"
            assert all(one[2] for one in intake.seen[1:]), "an answer had no Retry-After"
            assert {one[0] for one in ready.seen} == {503}, "/readyz did not say so"
        began = time.monotonic()
        while intake.ask().status_code != 201:
            assert time.monotonic() - began < PATIENCE, "intake did not come back"
            time.sleep(0.05)
        back = time.monotonic() - began
    _empty()
    slowest = max(one[1] for one in intake.seen[1:])
    return {
        "intake": slowest,
        "intake_of_limit": 1000 * slowest / settings.DATABASE_INTAKE_TIMEOUT_MS,
        "light": max(one[1] for one in light.seen + health.seen),
        "ready": max(one[1] for one in ready.seen),
        "back": back,
        "requests": len(intake.seen),
        "unit": "s",
    }


class Probe:
    """A request that is repeated. `seen` has the status, the seconds and the Retry-After of each answer."""

    def __init__(self, method: str, path: str, **more: Any) -> None:
        self.method, self.url, self.more = method, f"http://127.0.0.1:{ground.PORT}{path}", more
        self.seen: list[tuple[int, float, str]] = []

    def ask(self) -> requests.Response:
        began = time.monotonic()
        answer = requests.request(self.method, self.url, timeout=PATIENCE, **self.more)
        self.seen.append((answer.status_code, time.monotonic() - began, answer.headers.get("Retry-After", "")))
        return answer


@contextmanager
def asking(*probes: Probe) -> Iterator[None]:
    """Repeat each probe in a thread of its own meanwhile, a few times a second."""
    end = threading.Event()

    def repeat(ask: Callable[[], object]) -> None:
        while not end.is_set():
            ask()
            end.wait(0.2)

    threads = [threading.Thread(target=repeat, args=[one.ask]) for one in probes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


@contextmanager
def stopped() -> Iterator[None]:
    """Stop the processes of the benchmark's own PostgreSQL; one at another machine cannot be."""
    postmaster = _postmaster()
    pids = [postmaster, *ground.children(postmaster)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def _postmaster() -> int:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return int((Path(row[0]) / "postmaster.pid").read_text().split()[0])
