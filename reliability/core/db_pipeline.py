"""Statements that need not wait for each other's results, sent in one go: each answer waited for takes its time.

A process that is stopped within a pipeline leaves a session that waits for its next message: neither the limit for
statements nor the one for idle transactions ends that. So the transaction needs a limit of its own
(`SET_TRANSACTION_TIMEOUT`), which PostgreSQL knows from version 17 on. On an older server statements go one by one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

# The condition that gives a transaction its limit, within the statement that takes its first lock.
SET_TRANSACTION_TIMEOUT = "set_config('transaction_timeout', %s, true) <> ''"
# `transaction_timeout` came with PostgreSQL 17.
TRANSACTION_TIMEOUT_VERSION = 170000


def can_pipeline() -> bool:
    """Whether the server can end a transaction whose process was stopped within a pipeline."""
    connection.ensure_connection()
    return int(connection.connection.info.server_version) >= TRANSACTION_TIMEOUT_VERSION


@contextmanager
def pipelined() -> Iterator[None]:
    """Send what is executed within in one go; results and row counts are there at its end.

    The transaction has to have its time limit (`SET_TRANSACTION_TIMEOUT`). An error is raised at the end, as Django's
    own; the statements behind the one that failed have not run.
    """
    if not can_pipeline():
        yield
        return
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield
