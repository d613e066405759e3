"""The engine looks at a kept connection before it asks; one that is gone is made again."""

import select
import time
import traceback

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection
from django.test import Client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other():
    """Another connection to the same database."""
    connection.ensure_connection()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}, autocommit=True) as made:
        yield made


def pid() -> int:
    return connection.connection.info.backend_pid


def last_statement(other) -> str:
    return other.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid()]).fetchone()[0]


def begin_request() -> None:
    """What Django does at the beginning of each request."""
    connection.close_if_unusable_or_obsolete()


def test_the_settings_name_it():
    assert settings.DATABASES["default"]["ENGINE"] == "config.database"
    assert connection.vendor == "postgresql"
    assert connection.health_check_enabled


def test_a_sound_connection_is_kept_without_a_word(other):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'mine'")
    before = pid()
    connection.checked_at = time.monotonic()
    begin_request()
    assert connection.is_usable()
    connection.ensure_connection()
    assert (pid(), last_statement(other)) == (before, "SELECT 'mine'")


def test_one_that_was_ended_is_made_again_without_an_error(other):
    before = pid()
    other.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
    begin_request()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert pid() != before


def test_a_server_that_speaks_first_is_asked(other):
    with connection.cursor() as cursor:
        cursor.execute("LISTEN news")
    other.execute("NOTIFY news")
    assert select.select([connection.connection.pgconn.socket], [], [], 5)[0]
    before = pid()
    begin_request()
    assert connection.is_usable()
    assert (pid(), last_statement(other)) == (before, "SELECT 1")
    assert connection.is_usable()


def test_after_a_long_silence_it_is_asked(other, monkeypatch):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'mine'")
    assert connection.is_usable()
    monkeypatch.setattr(connection, "checked_at", connection.checked_at - 31)
    assert connection.is_usable()
    assert last_statement(other) == "SELECT 1"


def test_after_an_error_it_is_asked(other):
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 1")
        with pytest.raises(OperationalError):
            cursor.execute("SELECT pg_sleep(1)")
    begin_request()
    said = last_statement(other)
    connection.close()
    assert said == "SELECT 1"


def test_a_broken_off_transaction_is_not_usable(other):
    connection.set_autocommit(False)
    with pytest.raises(Exception, match="does not exist"), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM nothing")
    assert not connection.is_usable()
    connection.rollback()
    connection.set_autocommit(True)
    assert connection.is_usable()


def test_a_request_after_the_end_of_its_connection_is_answered(other, api):
    assert api.get("/api/v1/workflows/").status_code == 200
    other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid()])
    begin_request()
    assert api.get("/api/v1/workflows/").status_code == 200
    assert Client().get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("INSERT INTO kept (secret, n) VALUES ('s3cret', -1)", 'new row for relation "kept" violates check'),
        ("INSERT INTO kept (secret, n) VALUES ('s3cret', NULL)", 'null value in column "n"'),
        ("INSERT INTO kept (secret, n) VALUES ('s3cret', 1), ('s3cret', 1)", "duplicate key value"),
        ("SELECT 's3cret' FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT '{\"pw\": s3cret}'::json", "invalid input syntax for type json"),
        ("SELECT 's3cret'::uuid", "invalid input syntax for type uuid"),
    ],
)
def test_an_error_says_what_happened_but_quotes_nothing(other, statement, says):
    """Errors are logged with all that led to them, and a row or a statement may hold a payload."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE kept (secret text UNIQUE, n int NOT NULL CHECK (n > 0))")
        try:
            with pytest.raises(DatabaseError) as failed:
                cursor.execute(statement)
            said = "".join(traceback.format_exception(failed.value.__cause__)) + repr(failed.value)
            assert str(failed.value).startswith(says)
            assert failed.value.__cause__.sqlstate
            assert "s3cret" not in "".join(line for line in said.splitlines() if "cursor.execute" not in line)
        finally:
            cursor.execute("DROP TABLE kept")
