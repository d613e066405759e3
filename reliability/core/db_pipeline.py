"""Statements that need not wait for each other's results, sent in one go: each answer waited for takes its time."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def pipelined() -> Iterator[None]:
    """Send what is executed within in one go; results and row counts are there at its end.

    An error is raised there, as Django's own; what came behind it was not run.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield
