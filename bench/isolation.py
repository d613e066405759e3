"""Whether work that hangs delays work of another kind."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import requests

from . import ground, runs

RETRIES, DELIVERIES = 300, 30
LANE = "isolated"


def isolation() -> dict[str, Any]:
    """Seconds from accepted to received, while 300 due execution retries wait for an API of n8n that hangs."""
    from django.conf import settings

    runs.workflow(LANE, concurrency_limit=16)
    with _hanging() as (address, connections), ground.receiver() as receiver:
        values = {"N8N_API_URL": address, "N8N_API_KEY": "a-key-of-the-benchmark"}
        os.environ.update(values)
        settings.N8N_API_URL, settings.N8N_API_KEY = values.values()
        _retries()
        try:
            with ground.worker() as worker:
                while not connections:
                    time.sleep(0.01)
                waits = [_wait(receiver, f"timed-{n}") for n in range(DELIVERIES)]
                memory, asked = ground.largest(worker.pid), len(connections)
                for one in connections:
                    one.close()  # so that the worker need not wait for it to end
        finally:
            for name in values:
                os.environ.pop(name)
    return {"slowest": max(waits), "median": median(waits), "asked_at_once": asked, "memory": memory}


def _retries() -> None:
    """Make dead letters of n8n's executions, and have n8n retry them all."""
    from reliability.core import clock
    from reliability.dead_letters import create
    from reliability.models import DeadLetter
    from reliability.n8n import execution_retry

    now = clock.now()
    for n in range(RETRIES):
        letter = create.from_api(report=create.Report(LANE, "default", "{}", "it failed"), now=now)
        DeadLetter.objects.filter(pk=letter.pk).update(execution_id=str(n + 1), source="n8n")
    made = execution_retry.begin_each(dead_letter_ids=list(DeadLetter.objects.values_list("pk", flat=True)), now=now)
    assert len(made) >= RETRIES, len(made)


def _wait(receiver: str, key: str) -> float:
    """Accept a delivery; return the seconds until it has come."""
    from reliability.core import clock
    from reliability.delivery import intake
    from reliability.delivery.intake import Trigger
    from reliability.models import digest_of

    trigger = Trigger(LANE, "{}", digest_of({}), idempotency_key=key)
    begun = time.time()
    intake.accept(triggers=[trigger], now=clock.now())
    while time.time() - begun < 120:
        came = requests.get(receiver, timeout=5).json()["stamps"]
        if key in came:
            return float(came[key]) - begun
        time.sleep(0.02)
    return time.time() - begun


@contextmanager
def _hanging() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes every connection and answers nothing; with the connections that it has taken."""
    taken: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def take() -> None:
        try:
            while True:
                taken.append(listener.accept()[0])
        except OSError:
            return  # it was closed

    threading.Thread(target=take, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in taken:
            one.close()
