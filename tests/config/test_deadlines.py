"""No wait for the database is without an end, whatever the server does, and a half-used connection is never kept."""

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from config import resolver
from config.database import connections, names, roles, sqlstates
from config.database.roles import Role
from reliability.core.db_pipeline import pipelined

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = Role("quick", 0.4)
# Far more than any limit here, and far less than for ever.
LONG = 20


@pytest.fixture(autouse=True)
def _own_connection():
    connection.close()
    yield
    connection.close()


@pytest.fixture
def other():
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}, autocommit=True) as made:
        yield made


@contextmanager
def stopped():
    """Stop the server's process of this thread's connection, as a machine does that no longer runs."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def bounded():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LONG


def query(statement: str = "SELECT 1", *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchone()


def _copy():
    with connection.cursor() as cursor, cursor.copy("COPY (SELECT 1) TO STDOUT") as rows:
        list(rows)


def _pipeline():
    with transaction.atomic(), connection.cursor() as one, connection.cursor() as two:
        with pipelined():
            one.execute("SELECT 1")
            two.execute("SELECT 2")
        return two.fetchone()


def _many():
    with connection.cursor() as cursor:
        cursor.executemany("SELECT %s", [(1,), (2,)])


def _streamed():
    with connection.chunked_cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()


def _in_transaction():
    with transaction.atomic():
        return query()


@pytest.mark.parametrize("work", [query, _copy, _pipeline, _many, _streamed, _in_transaction])
def test_a_server_that_is_stopped_is_given_up(work):
    with stopped() as pid, bounded(), roles.within(QUICK), pytest.raises(OperationalError, match="not answer in time"):
        work()
    assert query("SELECT pg_backend_pid()") != (pid,)


def _write_and_be_cut_off():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO kept_here VALUES (1)")
        with stopped():
            query()


def test_a_transaction_that_is_cut_off_ends_in_bounded_time_and_keeps_nothing():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept_here (n int)")
    try:
        with bounded(), roles.within(QUICK), pytest.raises(OperationalError):
            _write_and_be_cut_off()
        assert query("SELECT count(*) FROM kept_here") == (0,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE kept_here")


@pytest.mark.parametrize("end", [connection.close, connection.close_if_unusable_or_obsolete])
def test_to_close_or_to_check_a_connection_of_a_stopped_server_takes_no_longer(end):
    with stopped(), bounded(), roles.within(QUICK):
        connection.errors_occurred = True
        end()
        assert connection.connection is None


def test_what_begins_after_the_deadline_does_not_begin():
    query()
    with bounded(), roles.within(Role("over", 0.01)):
        time.sleep(0.02)
        with pytest.raises(OperationalError):
            query()


def test_the_deadline_is_of_all_statements_together():
    statements = [lambda: query("SELECT pg_sleep(0.1)")] * 100
    with bounded(), roles.within(Role("whole", 1.0)), pytest.raises(OperationalError):
        [one() for one in statements]


def test_an_inner_block_shortens_a_deadline_and_never_extends_it():
    with roles.within(Role("outer", 5)):
        with roles.within(Role("inner", 1000)):
            assert roles.remaining() <= 5
        with roles.within(Role("inner", 1)):
            assert roles.remaining() <= 1
        assert 1 < roles.remaining() <= 5
    assert roles.remaining() is None
    with roles.within(roles.COMMAND):
        assert roles.remaining() is None


def test_a_process_has_a_limit_for_each_wait(monkeypatch):
    monkeypatch.setattr(roles, "_process", QUICK)
    for _ in range(2):
        assert roles.remaining() == QUICK.limit
        with stopped(), bounded(), pytest.raises(OperationalError):
            query()


def test_the_server_ends_a_statement_first_where_it_runs():
    with roles.within(Role("limited", 2)), pytest.raises(OperationalError) as ended:
        query("SELECT pg_sleep(60)")
    assert ended.value.__cause__.sqlstate == "57014"
    assert connection.connection is not None


def test_the_server_ends_a_wait_for_a_lock(other):
    key = 4711
    other.execute("SELECT pg_advisory_lock(%s)", [key])
    with roles.within(Role("limited", 2)), pytest.raises(OperationalError) as ended:
        query("SELECT pg_advisory_lock(%s)", key)
    assert ended.value.__cause__.sqlstate == "55P03"


def test_a_transaction_left_open_is_ended_by_the_server(other, monkeypatch):
    """As by a process that is stopped: others would wait for its locks."""
    monkeypatch.setattr(roles, "_process", QUICK)
    connection.ensure_connection()
    connection.set_autocommit(False)
    (pid,) = query("SELECT pg_backend_pid()")
    deadline = time.monotonic() + LONG
    while other.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(DatabaseError) as ended:
        query()
    assert sqlstates.is_lost(ended.value)


def test_each_role_has_its_limits_on_the_session_that_it_finds():
    def limits() -> tuple[str, ...]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout'")
            found = dict(cursor.fetchall())
        return tuple(found[name] for name in roles.COMMAND.parameters)

    pid = query("SELECT pg_backend_pid()")
    for role in (roles.INTAKE, roles.CONSOLE, roles.INTAKE, roles.WORKER, roles.COMMAND):
        with roles.within(role):
            assert limits() == tuple(role.parameters.values())
        with roles.within(role), transaction.atomic():
            assert limits() == tuple(role.parameters.values())
    assert query("SELECT pg_backend_pid()") == pid
    assert tuple(roles.COMMAND.parameters.values()) == ("0", "0", "0")


def test_a_session_without_limits_has_its_statement_cancelled(settings, other):
    settings.DATABASE_SESSION_LIMITS = "never"
    with bounded(), roles.within(QUICK), pytest.raises(OperationalError, match="did not answer"):
        query("SELECT pg_sleep(3600)")
    deadline = time.monotonic() + LONG
    while other.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(3%'").fetchone()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def deaf():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as made:
        yield made.getsockname()[1]


def test_to_connect_ends_by_the_deadline_however_many_hosts_there_are(deaf, monkeypatch):
    hosts = ",".join(["127.0.0.1"] * 20)
    monkeypatch.setitem(connection.settings_dict, "HOST", hosts)
    monkeypatch.setitem(connection.settings_dict, "PORT", str(deaf))
    began = time.monotonic()
    with roles.within(QUICK), pytest.raises(OperationalError):
        query()
    assert time.monotonic() - began < LONG / 2  # each alone has two seconds at the least, by libpq


def test_to_look_up_a_host_ends_by_the_deadline(monkeypatch):
    end = threading.Event()

    def hang(host, *_, flags=0, **__):
        if not flags:
            end.wait(LONG)
        raise socket.gaierror

    monkeypatch.setattr(resolver.socket, "getaddrinfo", hang)
    monkeypatch.setitem(connection.settings_dict, "HOST", "db.example.com")
    with bounded(), roles.within(QUICK), pytest.raises(OperationalError):
        query()
    end.set()


def test_the_addresses_of_each_host_are_tried_with_its_own_port(monkeypatch):
    found = {"a": ["10.0.0.1", "10.0.0.2"], "c": []}

    def look_up(host, port, *, within):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found[host]]

    monkeypatch.setattr(resolver, "resolve", look_up)
    options = {"host": "a,/run/postgresql,192.0.2.1,c", "port": "1,2,3,4", "user": "u"}
    assert names.resolved(options, by=time.monotonic() + 1) == {
        "host": "a,a,/run/postgresql,192.0.2.1",
        "hostaddr": "10.0.0.1,10.0.0.2,,192.0.2.1",
        "port": "1,1,2,3",
        "user": "u",
    }
    with pytest.raises(psycopg.OperationalError):
        names.resolved({"host": "c"}, by=time.monotonic() + 1)
    unchanged = {"host": "/run/postgresql"}
    assert names.resolved(unchanged, by=0.0) is unchanged


def test_a_host_whose_name_is_never_answered_leaves_the_others_their_time(monkeypatch):
    end, real = threading.Event(), socket.getaddrinfo

    def hang(host, *arguments, flags=0, **options):
        if host == "hangs.example" and not flags:
            end.wait(LONG)
        return real(host, *arguments, flags=flags, **options)

    monkeypatch.setattr(resolver.socket, "getaddrinfo", hang)
    try:
        found = names.resolved({"host": "hangs.example,localhost", "port": "1,2"}, by=time.monotonic() + 4)
    finally:
        end.set()
    assert set(found["host"].split(",")) == {"localhost"}
    assert set(found["port"].split(",")) == {"2"}


def test_a_name_leads_to_the_server(monkeypatch):
    if (connection.settings_dict["HOST"] or "/").startswith("/"):
        options = names.resolved({"host": "localhost", "port": "1"}, by=time.monotonic() + LONG)
        assert "127.0.0.1" in options["hostaddr"].split(",")
        return
    with roles.within(Role("named", LONG)):
        assert query() == (1,)


def test_waiting_for_notifications_keeps_its_own_time():
    with roles.within(Role("limited", LONG)):
        connection.ensure_connection()
        assert list(connection.connection.notifies(timeout=0.05)) == []
        assert query() == (1,)


def test_who_has_what_limit():
    cases = {
        ("POST", "/api/v1/deliveries/"): roles.INTAKE,
        ("POST", "/api/v1/deliveries/batch/"): roles.INTAKE,
        ("GET", "/api/v1/deliveries/"): roles.CONSOLE,
        ("POST", "/api/v1/executions/failed/"): roles.INTAKE,
        ("POST", "/api/v1/claims/"): roles.INTAKE,
        ("DELETE", "/api/v1/slots/x/"): roles.INTAKE,
        ("GET", "/api/v1/breakers/permit/"): roles.INTAKE,
        ("POST", "/stripe/webhook/"): roles.INTAKE,
        ("POST", "/cron/alerts/"): roles.INTAKE,
        ("POST", "/in/github/"): roles.INTAKE,
        ("POST", "/api/v1/dead-letters/replay/"): roles.CONSOLE,
        ("GET", "/admin/"): roles.CONSOLE,
        ("GET", "/readyz"): roles.READINESS,
        ("GET", "/metrics"): roles.METRICS,
    }
    for (method, path), role in cases.items():
        assert roles.of(method=method, path=path) is role, path


def test_the_driver_has_what_this_rests_on():
    """Private names of psycopg; where a release takes one away, nothing would be bounded any more."""
    assert issubclass(psycopg.errors._WaitTimeout, psycopg.OperationalError)
    for kind, ours in (
        (psycopg.Connection, connections.Connection),
        (psycopg.AsyncConnection, connections.AsyncConnection),
    ):
        assert {"gen", "interval", "timeout"} <= set(kind.wait.__code__.co_varnames)
        assert hasattr(kind, "_connect_gen")
        assert issubclass(ours, kind)
