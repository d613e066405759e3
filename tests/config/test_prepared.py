"""Prepared statements: parsed once in a session, planned by what the tables hold now, and never behind a pooler."""

import json

import pytest
from django.db import Error, connection, transaction
from django.test.utils import CaptureQueriesContext

from config.database import prepared
from config.database.prepared import prepared_cursor

from ..support.pgbouncer import COMMAND, PgBouncer

pytestmark = pytest.mark.django_db(transaction=True)
ROW = "SELECT payload FROM growing WHERE lane = %s"


@pytest.fixture
def growing():
    """A table of one row, which is read as a whole. No statistics are gathered of what it holds later."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE growing (lane int, payload text) WITH (autovacuum_enabled = off)")
        cursor.execute("CREATE INDEX ON growing (lane)")
        cursor.execute("INSERT INTO growing VALUES (0, 'x')")
        cursor.execute("ANALYZE growing")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE growing")


def known() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [statement for (statement,) in cursor.fetchall()]


def run(lane: int) -> list[tuple[str]]:
    with prepared_cursor() as cursor:
        cursor.execute(ROW, [lane])
        return cursor.fetchall()


@pytest.mark.usefixtures("growing")
def test_a_statement_is_prepared_once_and_keeps_no_values():
    for lane in (1, 2, 3):
        assert run(lane) == []

    assert known() == ["SELECT payload FROM growing WHERE lane = $1"]


@pytest.mark.usefixtures("growing")
def test_other_cursors_prepare_nothing():
    run(1)
    with connection.cursor() as cursor:
        for _ in range(10):
            cursor.execute("SELECT %s", ["a payload"])

    assert len(known()) == 1


@pytest.mark.usefixtures("growing")
def test_a_table_that_has_grown_is_planned_anew(monkeypatch):
    monkeypatch.setattr(prepared, "PLAN_SECONDS", 0.0)
    for _ in range(10):
        run(1)  # from the sixth time on, a plan is kept
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO growing SELECT n, repeat('x', 500) FROM generate_series(1, 20000) AS n")
    run(1)

    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements")
        (name,) = cursor.fetchone()
        cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name}(1)")
        plan = json.dumps(cursor.fetchone()[0])
    assert "Seq Scan" not in plan


@pytest.mark.usefixtures("growing")
def test_a_statement_works_again_after_a_failed_transaction():
    run(1)
    with pytest.raises(Error), transaction.atomic(), prepared_cursor() as cursor:
        cursor.execute("SELECT 1 / %s", [0])

    assert run(1) == []


@pytest.mark.usefixtures("growing")
def test_a_new_session_knows_nothing_of_what_the_last_one_prepared():
    run(1)
    connection.close()

    assert run(1) == []
    assert len(known()) == 1


@pytest.mark.usefixtures("growing")
@pytest.mark.skipif(COMMAND is None, reason="PgBouncer is not installed (Debian: apt-get install pgbouncer).")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_nothing_is_prepared_behind_a_pooler(mode, monkeypatch):
    running = PgBouncer(mode)
    try:
        with monkeypatch.context() as patch:
            connection.close()
            patch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
            patch.setitem(connection.settings_dict, "PORT", str(running.port))
            with CaptureQueriesContext(connection) as queries:
                assert run(1) == []
            assert not [query for query in queries if "DISCARD" in query["sql"]]
            assert known() == []
            connection.close()
    finally:
        running.end()
