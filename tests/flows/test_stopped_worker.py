"""A worker that is stopped past its lease sends nothing once it goes on."""

import os
import signal
import time

import pytest

from reliability.models import Attempt, Delivery

from ..support.receiver import until

pytestmark = pytest.mark.django_db(transaction=True)

# Python runs a module of this name first. It stops the process where its first connection to n8n was made, which is
# after the claim and before the request.
STOP = """
import os, signal, socket, time
connect = socket.socket.connect
def stopping(self, address):
    connect(self, address)
    if address[1:2] == (int(os.environ["STOP_AT"]),) and not os.path.exists(os.environ["STOPPED"]):
        open(os.environ["STOPPED"], "w").close()
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.5)  # another thread may be the first to stop
socket.socket.connect = stopping
"""

# The same amid a look: the lane is locked, and what it holds has just been read.
STOP_AMID_LOOK = """
import os, signal, psycopg
execute = psycopg.Cursor.execute
def stopping(self, query, *arguments, **options):
    result = execute(self, query, *arguments, **options)
    if str(query).lstrip().startswith("SELECT clock_timestamp()") and "min(lease_until)" in str(query):
        if not os.path.exists(os.environ["STOPPED"]):
            open(os.environ["STOPPED"], "w").close()
            os.kill(os.getpid(), signal.SIGSTOP)
    return result
psycopg.Cursor.execute = stopping
"""


@pytest.fixture
def stopping(workers, receiver, tmp_path):
    """Start a worker that stops itself between its first claim and the request; return it once it has."""
    marker = tmp_path / "stopped"

    def start(script: str = STOP):
        (tmp_path / "sitecustomize.py").write_text(script)
        values = {"PYTHONPATH": str(tmp_path), "STOP_AT": str(receiver.port), "STOPPED": str(marker)}
        process = workers.start(N8N_WEBHOOK_URL=receiver.url, **values)
        until(lambda: marker.exists() and is_stopped(process.pid), within=60, what="the worker to stop")
        return process

    return start


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_a_worker_that_was_stopped_past_its_lease_does_not_send(workflow, receiver, workers, accept, stopping):
    workflow(timeout_ms=500)
    made = accept()
    process = stopping()
    assert Delivery.objects.get().state == "sending"
    time.sleep(1)
    other = workers.start(N8N_WEBHOOK_URL=receiver.url)
    # Stopped amid a look at the lane, it holds the lane's lock until PostgreSQL ends its idle transaction.
    until(
        lambda: Delivery.objects.filter(state="delivered").exists(), within=180, what="the other worker to deliver it"
    )
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(3)
    assert [one.headers["x-backstop-attempt"] for one in receiver.got] == ["2"]
    attempts = {one.number: (one.result, one.code) for one in Attempt.objects.filter(delivery=made)}
    assert attempts == {1: ("interrupted", "worker_lost"), 2: ("delivered", "")}
    assert (process.poll(), other.poll()) == (None, None)
    assert b"lease_ran_out" in process.log.read_bytes()


def test_one_that_goes_on_within_its_lease_but_too_late_to_send_gives_the_delivery_back(
    workflow, receiver, accept, stopping
):
    workflow(timeout_ms=5000, on_unknown_outcome="hold")
    made = accept()
    process = stopping()
    time.sleep(11)  # the last moment to send is 10 s after the claim, the lease ends after 20 s
    os.kill(process.pid, signal.SIGCONT)
    receiver.wait_for(1, within=60)
    until(lambda: Delivery.objects.filter(state="delivered").exists(), within=60)
    attempts = {one.number: (one.result, one.code) for one in Attempt.objects.filter(delivery=made)}
    assert attempts == {1: ("misconfigured_locally", "lease_ran_out"), 2: ("delivered", "")}
    assert Delivery.objects.get().retries_used == 0


def test_a_worker_that_is_stopped_amid_a_look_keeps_the_lane_from_others_for_seconds(
    workflow, receiver, workers, accept, stopping
):
    workflow()
    accept()
    process = stopping(STOP_AMID_LOOK)
    assert Delivery.objects.get().state == "pending"
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    # 10 s, and whatever a busy machine adds; that session's other limits are 45 s and more.
    until(lambda: Delivery.objects.filter(state="delivered").exists(), within=40, what="the other worker to deliver it")
    os.kill(process.pid, signal.SIGCONT)
    accept({"n": 2})
    assert receiver.wait_for(2, within=60)
    assert process.poll() is None
