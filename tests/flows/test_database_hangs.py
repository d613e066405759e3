"""A database that hangs holds nothing up for longer than its limits, and work goes on once it is back."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
import requests

from ..support import stripe
from ..support.postgres import Server
from ..support.receiver import Receiver
from ..support.web import Web
from ..support.workers import ROOT, Workers, environment

# Seconds after which a request would count as hanging; what it should take, the benchmark holds.
HANGS = 60
SECRET = "a-cron-secret"
BODY = {"workflow": "echo", "payload": {"n": 1}}


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.end()


@pytest.fixture(scope="module")
def receiver():
    made = Receiver().start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def values(server, receiver):
    return {
        "DATABASE_URL": server.url,
        "N8N_WEBHOOK_URL": receiver.url,
        "CRON_SECRET": SECRET,
        "STRIPE_WEBHOOK_SECRET": stripe.SECRET,
        "WEB_THREADS": "16",  # nobody waits for a thread here: that has limits of its own
        "DATABASE_INTAKE_TIMEOUT_MS": "2000",
        "DATABASE_CONSOLE_TIMEOUT_MS": "3000",
        "DATABASE_WORKER_TIMEOUT_MS": "3000",
    }


@pytest.fixture(scope="module")
def key(server, tmp_path_factory):
    """A workflow and an API key in the server's database; the key's plain text."""
    document = json.dumps({"name": "echo", "path": "echo", "timeout_ms": 2000})
    path = tmp_path_factory.mktemp("workflows") / "echo.json"
    path.write_text(document)
    env = environment(DATABASE_URL=server.url)

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout

    run("import_workflows", str(path))
    return run("create_api_key", "--name", "test").strip().splitlines()[-1]


@pytest.fixture(scope="module")
def web(tmp_path_factory, values):
    made = Web(tmp_path_factory.mktemp("web"), **values)
    yield made
    made.kill()


@pytest.fixture
def call(web, key):
    """Call the web server by method and path."""

    def make(method: str, path: str, **more) -> requests.Response:
        headers = {"Authorization": f"Bearer {key}", **more.pop("headers", {})}
        return requests.request(method, web.url + path, headers=headers, timeout=HANGS, allow_redirects=False, **more)

    return make


@pytest.fixture
def everywhere(call, web):
    """Call each kind of interface; return the answers by name."""
    event = stripe.event()
    calls = {
        "quick": lambda: call("POST", "/api/v1/deliveries/", json=BODY),
        "view": lambda: call("POST", "/api/v1/deliveries/", json={**BODY, "expires_at": "2100-01-01T00:00:00Z"}),
        "batch": lambda: call("POST", "/api/v1/deliveries/batch/", json={"deliveries": [BODY] * 3}),
        "stripe": lambda: call(
            "POST", "/stripe/webhook/", data=event, headers={"Stripe-Signature": stripe.sign(event)}
        ),
        "cron": lambda: call("POST", "/cron/alerts/", headers={"Authorization": f"Bearer {SECRET}"}),
        "list": lambda: call("GET", "/api/v1/deliveries/"),
        "ready": lambda: call("GET", "/readyz"),
        "console": lambda: call("GET", "/admin/", headers={"Cookie": "sessionid=" + "x" * 32}),
        "metrics": lambda: call("GET", "/metrics"),
    }

    def ask(*names: str) -> dict[str, requests.Response]:
        with ThreadPoolExecutor(len(calls)) as pool:
            asked = {name: pool.submit(calls[name]) for name in (names or calls)}
            return {name: one.result() for name, one in asked.items()}

    return ask


def assert_all_say_when_to_come_again(answers) -> None:
    statuses = {name: one.status_code for name, one in answers.items()}
    assert statuses.pop("metrics", 200) == 200  # it tells what the process knows without a database
    assert set(statuses.values()) == {503}, statuses
    for name, one in answers.items():
        if name not in ("ready", "metrics"):
            assert one.headers["Retry-After"] == "30", name
            kind = "text/html" if name == "console" else "application/problem+json"
            assert one.headers["Content-Type"].startswith(kind), name


def until(what, *, within: float = HANGS) -> None:
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_interface_answers_while_the_server_is_stopped_and_accepts_once_it_is_back(server, everywhere, call):
    assert everywhere("quick")["quick"].status_code == 201
    with server.stopped():
        assert_all_say_when_to_come_again(everywhere())
        assert_all_say_when_to_come_again(everywhere())  # where no thread has a connection any more
        assert call("GET", "/healthz").status_code == 200
    until(lambda: call("POST", "/api/v1/deliveries/", json=BODY).status_code == 201)
    found = everywhere()
    expected = {"quick": 201, "view": 201, "batch": 201, "list": 200, "ready": 200, "metrics": 200, "stripe": 200}
    assert expected.items() <= {name: one.status_code for name, one in found.items()}.items()


def test_a_locked_table_holds_intake_up_no_longer_than_its_limit(server, everywhere, call):
    with psycopg.connect(server.url) as other:
        other.execute("LOCK TABLE reliability_delivery")
        assert_all_say_when_to_come_again(everywhere("quick", "view", "batch", "list", "ready"))
        assert call("GET", "/readyz").json() == {"ok": False, "database": True, "migrations": True, "writes": False}
        assert everywhere("stripe")["stripe"].status_code == 200  # its ledger is not locked
    assert {one.status_code for one in everywhere("quick", "view", "batch").values()} == {201}


def test_a_session_that_became_read_only_is_replaced(server, everywhere, call):
    """As after a failover, where a session was made while the server still was a standby."""
    name = server.url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        found = everywhere("quick", "view", "batch", "ready")
        assert_all_say_when_to_come_again(found)
        assert found["ready"].json()["writes"] is False
        other.execute("SET default_transaction_read_only = off")
        other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    until(lambda: call("GET", "/readyz").status_code == 200)
    until(lambda: {one.status_code for one in everywhere("quick", "view", "batch").values()} == {201})


def test_a_worker_that_was_cut_off_delivers_all_once_the_server_is_back(server, call, receiver, values, tmp_path):
    workers = Workers(tmp_path)
    keys = []

    def accept(count: int) -> None:
        for _ in range(count):
            keys.append(str(uuid4()))
            body = {**BODY, "idempotency_key": keys[-1]}
            until(lambda body=body: call("POST", "/api/v1/deliveries/", json=body).status_code in (200, 201))

    def is_delivered() -> bool:
        return receiver.keys.keys() >= set(keys)

    def goes_on() -> bool:
        """Start the worker again where it has ended, as its supervisor does."""
        if all(one.poll() is not None for one in workers.running):
            workers.start(**values)
        return is_delivered()

    try:
        workers.start(**values)
        accept(5)
        until(is_delivered)
        accept(20)
        with server.stopped():
            time.sleep(8)  # longer than the worker waits for a statement
        accept(5)
        until(goes_on)
    finally:
        workers.end_all()
