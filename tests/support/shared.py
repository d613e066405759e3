"""Rows that all tests of a module share, each of which undoes its own changes."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction
from pytest_django import DjangoDbBlocker

from reliability.management.demo.builder import APPLY_COUNTS


def count_with_each_statement() -> None:
    """Have failure groups and totals counted at once in this transaction, which never commits."""
    with connection.cursor() as cursor:
        cursor.execute(APPLY_COUNTS)


@contextmanager
def transaction_of_module(blocker: DjangoDbBlocker) -> Iterator[None]:
    """Make rows for a module, in a transaction that is rolled back: each test runs in a savepoint within it.

    For a fixture of that scope that depends on `django_db_setup`. No test of the module may commit.
    """
    with blocker.unblock(), transaction.atomic():
        count_with_each_statement()
        yield
        transaction.set_rollback(True)
