"""A database that earlier migrations made is refused in words, and left as it is."""

import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.db import connection
from django.test import Client

from reliability.setup import older_database
from reliability.setup.doctor import service

from ..support.workers import ROOT, database_url, environment

NAME = "backstop_of_an_earlier_version"
# What `django_migrations` of such a database holds, in part. Two of the names are in use again.
RECORDED = (
    ("reliability", "0001_initial"),
    ("reliability", "0002_wake_ups"),
    ("reliability", "0031_answers"),
    ("scheduling", "0001_initial"),
    ("scheduling", "0003_groups"),
    ("scheduling", "0006_schedule_help"),
)
MADE = """
CREATE TABLE django_migrations (id bigserial PRIMARY KEY, app text, name text, applied timestamptz DEFAULT now());
CREATE TABLE reliability_delivery (id integer);
INSERT INTO reliability_delivery VALUES (7);
"""


@pytest.fixture
def older():
    """The address of a database as an earlier version left it."""
    server = urlsplit(database_url())
    with psycopg.connect(urlunsplit(server._replace(path="/postgres")), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {NAME}")
        admin.execute(f"CREATE DATABASE {NAME}")
        url = urlunsplit(server._replace(path=f"/{NAME}"))
        with psycopg.connect(url) as made:
            made.execute(MADE)
            made.cursor().executemany("INSERT INTO django_migrations (app, name) VALUES (%s, %s)", RECORDED)
        yield url
        admin.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def tables(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as session:
        return session.execute(
            "SELECT relname, (SELECT count(*) FROM django_migrations), (SELECT sum(id) FROM reliability_delivery)"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()


def run(url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "manage.py", *words]
    values = environment(DATABASE_URL=url, PORT="0", LOG_LEVEL="WARNING")
    return subprocess.run(command, env=values, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("words", [("up", "--port", "8000"), ("migrate",), ("migrate", "--check"), ("doctor",)])
def test_it_is_left_as_it_is_and_the_words_say_what_to_do(older, words):
    before = tables(older)
    done = run(older, *words)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1
    assert "Traceback" not in said
    assert "An earlier version of Backstop made this database" in said
    assert "reliability.0002_wake_ups, reliability.0031_answers and 1 more" in said
    assert "Nothing was changed." in said
    assert "create an empty database, and name it in DATABASE_URL" in said
    assert "docs/upgrade.md" in said
    assert tables(older) == before


def test_it_is_not_ready(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_migrations SET name = '0002_wake_ups' WHERE (app, name) = ('reliability', '0004_sql')"
        )
    assert "reliability.0002_wake_ups" in older_database.found()
    (finding,) = service.migrations()
    assert (finding.state, finding.advice) == ("failure", older_database.advice())
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["migrations"]) == (503, False)


def test_after_a_rollback_a_later_database_is_none_of_an_earlier_version(db):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('reliability', '9999_later', now())")
    assert older_database.found() == ""


def test_a_database_without_migrations_is_a_fresh_one(db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_migrations")
    assert older_database.found() == ""


def test_of_the_embedded_database_the_words_name_the_directory(settings):
    settings.EMBEDDED_DATABASE = True
    said = older_database.advice()
    assert "move `.data/postgresql` in Backstop's own directory away" in said
    assert str(ROOT) not in said
