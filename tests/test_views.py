"""Whether the process is ready."""

import pytest
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.test import Client

from reliability import views

pytestmark = pytest.mark.django_db


def test_the_migrations_are_those_that_django_would_load():
    assert views.migrations() == set(MigrationLoader(connection).disk_migrations)


def test_it_is_ready_once_every_migration_is_made():
    assert Client().get("/readyz").json() == {"ok": True, "database": True, "migrations": True, "writes": True}
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'reliability' AND name LIKE '0003%'")
    answer = Client().get("/readyz")
    expected = {"ok": False, "database": True, "migrations": False, "writes": True}
    assert (answer.status_code, answer.json()) == (503, expected)


def test_an_empty_database_is_there_but_not_ready():
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_migrations")
    expected = {"ok": False, "database": True, "migrations": False, "writes": False}
    assert Client().get("/readyz").json() == expected


def test_one_that_does_not_answer_is_not_there(monkeypatch):
    def fail():
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", fail)
    monkeypatch.setattr(connection, "close", lambda: None)
    expected = {"ok": False, "database": False, "migrations": False, "writes": False}
    assert Client().get("/readyz").json() == expected
