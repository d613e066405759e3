"""Behind a real PgBouncer: every start passes, no limit of one process reaches another, and every wait still ends."""

import time
from contextlib import closing

import psycopg
import pytest
from django.db import OperationalError, connection
from psycopg import sql

from config.database import roles
from config.database.roles import Role
from reliability.setup.doctor import sessions

from ..support.pgbouncer import COMMAND, PgBouncer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(COMMAND is None, reason="PgBouncer is not installed (Debian: apt-get install pgbouncer)."),
]
QUICK = Role("quick", 0.5)
LIMITED = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"


@pytest.fixture
def direct():
    """A connection past PgBouncer."""
    arguments = connection.get_connection_params() | {"cursor_factory": None}
    with psycopg.connect(**arguments, autocommit=True) as made:
        yield made


@pytest.fixture
def behind(direct, monkeypatch):
    """Lead Django's connection through a PgBouncer of a pool mode."""
    running = []

    def lead(mode: str) -> None:
        monkeypatch.undo()
        running.append(PgBouncer(mode))
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", str(running[-1].port))

    yield lead
    connection.close()
    monkeypatch.undo()
    for one in running:
        one.end()


def limits(own=connection) -> dict[str, str]:
    with own.cursor() as cursor:
        cursor.execute(LIMITED, [list(roles.INTAKE.parameters)])
        return dict(cursor.fetchall())


NONE = dict.fromkeys(roles.INTAKE.parameters, "0")


def test_in_transaction_mode_no_limit_reaches_another(behind, api, workflow):
    behind("transaction")
    with roles.within(roles.INTAKE):
        assert limits() == NONE
        workflow()
        answer = api.post(
            "/api/v1/deliveries/", {"workflow": "echo", "payload": {"n": 1}}, content_type="application/json"
        )
    assert answer.status_code == 201
    with closing(connection.copy()) as other:
        assert limits(other) == NONE


def test_there_a_statement_is_given_up_and_cancelled(behind, direct):
    behind("transaction")
    began = time.monotonic()
    with roles.within(QUICK), pytest.raises(OperationalError, match="did not answer"), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(3600)")
    assert time.monotonic() - began < 60
    deadline = time.monotonic() + 20
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(3%' AND state = 'active'"
    while direct.execute(running).fetchone()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_a_wait_for_a_lock_is_too(behind, direct, api, workflow):
    workflow()
    behind("transaction")
    headers = {"content_type": "application/json"}
    with direct.transaction():
        direct.execute("LOCK TABLE reliability_delivery")
        with roles.within(QUICK):
            answer = api.post("/api/v1/deliveries/", {"workflow": "echo", "payload": {"n": 1}}, **headers)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        deadline = time.monotonic() + 20
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while direct.execute(waiting).fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert api.post("/api/v1/deliveries/", {"workflow": "echo", "payload": {"n": 1}}, **headers).status_code == 201


def test_in_session_mode_limits_hold_where_they_are_asked_for(behind, settings):
    behind("session")
    settings.DATABASE_SESSION_LIMITS = "always"
    for role in (roles.INTAKE, roles.CONSOLE):
        with roles.within(role):
            assert limits() == role.parameters
    connection.close()  # and PgBouncer forgets them with the session
    settings.DATABASE_SESSION_LIMITS = "never"
    with roles.within(roles.INTAKE):
        assert limits() == NONE


def states() -> list[tuple[str, str]]:
    # The tests' own server runs without synchronous commit, which the doctor would warn of.
    found = [one for one in sessions.time_limits() if "synchronous_commit" not in one.found]
    assert all(one.found and (one.advice or one.state == "ok") for one in found)
    return [(str(one.state), one.found + one.advice) for one in found]


def test_the_doctor_says_whether_limits_hold(behind, direct, settings):
    ((state, text),) = states()
    assert (state, "statement_timeout 3 s" in text) == ("ok", True)
    behind("transaction")
    ((state, text),) = states()
    assert state == "warning"
    assert "ALTER ROLE postgres SET statement_timeout = 3000;" in text
    settings.DATABASE_SESSION_LIMITS = "always"
    assert [state for state, _ in states()] == ["failure"]
    behind("session")
    assert [state for state, _ in states()] == ["ok"]


def test_what_the_doctor_advises_helps(behind, direct):
    role, name = (sql.Identifier(connection.settings_dict[key]) for key in ("USER", "NAME"))
    change = sql.SQL("ALTER ROLE {} IN DATABASE {} ").format(role, name)
    try:
        for parameter, value in roles.INTAKE.parameters.items():
            direct.execute(change + sql.SQL("SET {} = {}").format(sql.Identifier(parameter), value))
        behind("transaction")
        assert [state for state, _ in states()] == ["ok"]
    finally:
        direct.execute(change + sql.SQL("RESET ALL"))


def test_a_style_of_dates_is_set_for_each_client(behind, direct):
    name = sql.Identifier(connection.settings_dict["NAME"])
    direct.execute(sql.SQL("ALTER DATABASE {} SET DateStyle = 'SQL, DMY'").format(name))
    try:
        behind("transaction")
        for _ in range(2):
            with closing(connection.copy()) as own, own.cursor() as cursor:
                cursor.execute("SELECT now(), current_setting('DateStyle')")
                assert cursor.fetchone()[1].startswith("ISO")
    finally:
        direct.execute(sql.SQL("ALTER DATABASE {} RESET DateStyle").format(name))
