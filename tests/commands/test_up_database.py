"""`manage.py up` on the embedded PostgreSQL: it is looked after like the other processes, and loses nothing."""

import os
import signal
import subprocess
import sys
import time

import psutil
import psycopg
import pytest
import requests

from config import embedded
from reliability.management import embedded_database

from ..support import scratch
from ..support.newcomer import Newcomer, children, command_of
from ..support.receiver import Receiver, until
from ..support.workers import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
WITHIN = 90


@pytest.fixture(scope="module")
def newcomer():
    """One for all tests: each leaves its data in order, and starts `up` where it does not run."""
    received = Receiver().start()
    with scratch.directory() as directory:
        made = Newcomer(directory)
        made.environment["N8N_WEBHOOK_URL"] = received.url
        yield made
        made.end()
    received.stop()


@pytest.fixture
def running(newcomer):
    """The process of `manage.py up`, ready."""
    if newcomer.process is None or newcomer.process.poll() is not None:
        newcomer.up()
    until(newcomer.is_ready, within=WITHIN, what="readiness")
    return newcomer.process


def key_of(newcomer) -> dict[str, str]:
    return {"Authorization": "Bearer " + newcomer.manage("create_api_key", "--name", "test")}


def write_workflow(newcomer) -> None:
    (newcomer.root / "echo.json").write_text('{"name": "echo", "path": "echo"}')
    newcomer.manage("import_workflows", "echo.json")


def send(newcomer, headers, number) -> bool:
    body = {"workflow": "echo", "payload": {"n": number}, "idempotency_key": f"k{number}"}
    try:
        url = f"{newcomer.url}/api/v1/deliveries/"
        return requests.post(url, json=body, headers=headers, timeout=10).status_code == 201
    except requests.RequestException:
        return False


def test_the_web_address_is_told_once_it_answers(newcomer, running):
    address = f"Backstop runs at {newcomer.url}/"
    until(lambda: address in newcomer.log.read_text(), within=WITHIN)
    steps = ("Starting Backstop: ", "Applying migrations", "Starting web, worker-1, pinger", address)
    text = newcomer.log.read_text()
    places = [text.find(step) for step in steps]
    assert -1 not in places, text
    assert places == sorted(places), "the steps are told in their order, the address last"


def test_a_killed_postmaster_is_started_again_and_nothing_accepted_is_lost(newcomer, running):
    write_workflow(newcomer)
    headers = key_of(newcomer)
    accepted = {number for number in range(10) if send(newcomer, headers, number)}
    for times, number in enumerate((100, 101), start=1):
        newcomer.kill_postmaster()
        accepted |= {one for one in (number, number + 10) if send(newcomer, headers, one)}
        until(lambda: len(newcomer.events("database_restarted")) == times, within=WITHIN, what="a restart")  # noqa: B023
        until(newcomer.is_ready, within=WITHIN, what="readiness")
    assert len(accepted) >= 10
    # A command beside it uses the server that runs, and leaves it running.
    newcomer.manage("doctor", "--help")
    backend = newcomer.query(
        "SELECT pg_backend_pid(), pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' LIMIT 1"
    )[0][1]
    os.kill(backend, signal.SIGKILL)  # PostgreSQL then ends all its sessions, and goes on by itself
    until(newcomer.is_ready, within=WITHIN, what="readiness")
    until(lambda: delivered(newcomer) >= {f"k{one}" for one in accepted}, within=WITHIN, what="all deliveries")


def delivered(newcomer) -> set[str]:
    """The keys of what is delivered; none while PostgreSQL recovers."""
    try:
        rows = newcomer.query("SELECT idempotency_key FROM reliability_delivery WHERE state = 'delivered'")
    except psycopg.OperationalError:
        return set()
    return {row[0] for row in rows}


def test_a_server_that_cannot_start_is_tried_again_with_the_reason_and_the_logs_name(newcomer, running):
    configuration = newcomer.data / "postgresql.conf"
    text = configuration.read_text()
    configuration.write_text(text + "\nshared_buffers = 'rather many'\n")
    newcomer.kill_postmaster()
    until(lambda: "configuration file" in newcomer.log.read_text(), within=WITHIN, what="the reason")
    assert f"See the log: {newcomer.data / embedded.LOG}" in newcomer.log.read_text()
    assert requests.get(f"{newcomer.url}/healthz", timeout=10).status_code == 200
    configuration.write_text(text)
    until(newcomer.is_ready, within=2 * WITHIN, what="readiness")


def test_a_killed_up_leaves_a_server_that_the_next_one_takes_over_and_ends(newcomer, running):
    before = embedded.postmaster(newcomer.data)
    started = children(running.pid)
    running.kill()
    running.wait()
    until(lambda: not any(command_of(pid) for pid in started), within=WITHIN, what="the end of the children")
    assert embedded.postmaster(newcomer.data) == before
    process = newcomer.up()
    assert embedded.postmaster(newcomer.data) == before
    started = children(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=WITHIN) == 0
    assert not any(command_of(pid) for pid in started)
    assert embedded.postmaster(newcomer.data) is None


def test_a_server_that_hangs_is_reported_and_left_alone(newcomer, monkeypatch, caplog):
    monkeypatch.setattr(embedded_database, "PROBE_EVERY", 0.2)
    monkeypatch.setattr(embedded_database, "PROBE_LIMIT", 0.5)
    directory = newcomer.data
    starter = [sys.executable, "-m", "config.embedded", str(directory), str(os.getpid())]
    subprocess.run(starter, cwd=ROOT, check=True, timeout=WITHIN)
    server = embedded.postmaster(directory)
    try:
        one = embedded_database.Database(directory=directory, socket_path=embedded.socket_path(newcomer.address()))
        server.suspend()
        tend_until(one, lambda: "database_does_not_answer" in caplog.text)
        assert one.starter.process is None
        server.resume()
        tend_until(one, lambda: "database_answers_again" in caplog.text)
        assert embedded.postmaster(directory) == server
    finally:
        server.kill()
        psutil.wait_procs([server], timeout=WITHIN)


def tend_until(one, condition) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        one.tend()
        time.sleep(0.05)
