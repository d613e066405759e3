"""Each session is what the code expects, whatever the defaults are; an encoding that cannot hold it is refused."""

import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import NotSupportedError, connection
from psycopg import sql

from config.database import sessions
from reliability import checks
from reliability.setup import doctor

from ..support.workers import ROOT, database_url, environment

pytestmark = pytest.mark.django_db(transaction=True)
ODD = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "standard_conforming_strings": "off",
    "TimeZone": "Asia/Kathmandu",
    "default_transaction_isolation": "serializable",
    "bytea_output": "escape",
}


@pytest.fixture
def admin():
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}, autocommit=True) as made:
        yield made


@pytest.fixture
def odd(admin):
    """Give the database defaults that nobody expects."""
    name = sql.Identifier(connection.settings_dict["NAME"])
    for parameter, value in ODD.items():
        admin.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(parameter), value))
    connection.close()
    yield
    for parameter in ODD:
        admin.execute(sql.SQL("ALTER DATABASE {} RESET {}").format(name, sql.Identifier(parameter)))
    connection.close()


@pytest.mark.usefixtures("odd")
def test_formats_of_the_database_do_not_reach_what_is_read(api, workflow, accept):
    workflow()
    delivery = accept({"path": "C:\\new"})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT '2026-02-01T00:00:00Z'::timestamptz, '-1 day 2 hours'::interval, 'a\\d', '\\x00ff'::bytea,"
            " '2026-02-01'::date, current_setting('transaction_isolation')"
        )
        found = cursor.fetchone()
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    interval = -timedelta(days=1) + timedelta(hours=2)
    assert found == (moment, interval, "a\\d", b"\x00\xff", moment.date(), "read committed")
    assert api.get(f"/api/v1/deliveries/{delivery.pk}/").json()["payload"] == {"path": "C:\\new"}
    assert api.get("/api/v1/deliveries/").status_code == 200


@pytest.mark.usefixtures("odd")
def test_nor_what_a_worker_reads(workflow, accept, receiver, workers):
    workflow()
    accept({"n": 1})
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    assert receiver.wait_for(1, within=60)


@pytest.fixture(params=["LATIN1"])
def narrow(request, admin):
    """A database of another encoding; its address."""
    name = f"narrow_{request.param.lower()}_{os.getpid()}"
    admin.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    head, _, query = database_url().partition("?")
    yield head.rpartition("/")[0] + f"/{name}" + (f"?{query}" if query else "")
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "migrate", "-v0"],
        ["manage.py", "check", "--database", "default"],
        ["manage.py", "doctor"],
        ["manage.py", "up", "--port", "9"],
        ["manage.py", "procrastinate", "worker"],
    ],
    ids=lambda command: command[1].split()[0] + command[-1][:10],
)
def test_an_encoding_that_does_not_hold_every_text_is_refused_at_the_start(narrow, command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(DATABASE_URL=narrow),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "which cannot store every text" in said
    assert "ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0" in said
    with psycopg.connect(narrow) as made:
        assert made.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.mark.parametrize("narrow", ["SQL_ASCII"], indirect=True)
def test_so_is_an_encoding_that_is_none(narrow):
    name = urlsplit(narrow).path[1:]
    with closing(connection.copy()) as own:
        own.settings_dict = {**own.settings_dict, "NAME": name}
        with pytest.raises(NotSupportedError, match="is SQL_ASCII, which cannot store every text"):
            own.ensure_connection()


def test_the_way_out_that_it_names_is_one(admin):
    name = f"made_{os.getpid()}"
    try:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0")
    finally:
        admin.execute(f"DROP DATABASE IF EXISTS {name}")


def test_each_use_of_such_a_database_says_why(monkeypatch):
    monkeypatch.setattr(sessions, "ENCODING", "UTF9")
    with closing(connection.copy()) as own:
        for _ in range(2):
            with pytest.raises(NotSupportedError, match="is UTF8, which"):
                own.ensure_connection()
            assert own.connection is None
    connection.close()
    assert [one.id for one in checks.database(None, ["default"])] == ["backstop.E002"]
    with pytest.raises(CommandError, match="cannot store"):
        checks.must_be_usable()
    (found,) = [one for one in doctor.examine() if one.check == "database"]
    assert (found.state, "CREATE DATABASE" in found.advice) == ("failure", True)


def test_an_older_server_is_refused_at_the_start(monkeypatch):
    found = connection.pg_version // 10_000
    monkeypatch.setattr(sessions, "OLDEST_VERSION", found + 1)
    said = f"The database is PostgreSQL {found}, and Backstop needs {found + 1} or newer"
    connection.close()
    with pytest.raises(CommandError, match=said):
        checks.must_be_usable()
    with pytest.raises(SystemCheckError, match=said):
        call_command("migrate", verbosity=0, skip_checks=False)
    with pytest.raises(CommandError, match=said):
        call_command("up")
    (one,) = [one for one in doctor.examine() if one.check == "database"]
    assert (one.state, one.found) == ("failure", f"{said}.")


def test_the_oldest_version_is_the_one_that_is_documented():
    assert f"PostgreSQL {sessions.OLDEST_VERSION} or newer" in (ROOT / "docs/database.md").read_text()


def test_one_that_is_away_stops_no_start(monkeypatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "9")
    assert checks.database(None, ["default"]) == []
    checks.must_be_usable()
    call_command("check", databases=["default"], verbosity=0)
    connection.close()
