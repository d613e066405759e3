"""Rows that all tests of a module share, each of which undoes its own changes."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction
from pytest_django import DjangoDbBlocker


@contextmanager
def transaction_of_module(blocker: DjangoDbBlocker) -> Iterator[None]:
    """Make rows for a module, in a transaction that is rolled back: each test runs in a savepoint within it.

    For a fixture of that scope that depends on `django_db_setup`. No test of the module may commit.
    """
    with blocker.unblock(), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS backstop_outbox_apply IMMEDIATE")
        yield
        transaction.set_rollback(True)
