"""Statements that do not need each other's results, sent together to save a round trip for each.

A process that is stopped (SIGSTOP) within a pipeline leaves a session that waits for the next message. Neither
`statement_timeout` nor `idle_in_transaction_session_timeout` ends it, so its locks would stay. The transaction
therefore needs `transaction_timeout` (`SET_TRANSACTION_TIMEOUT`), which came with PostgreSQL 17. On an older server the
statements are sent one by one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

# A condition, not a statement of its own: it sets the limit within the statement that takes the first lock.
SET_TRANSACTION_TIMEOUT = "set_config('transaction_timeout', %s, true) <> ''"
# `transaction_timeout` came with PostgreSQL 17.
TRANSACTION_TIMEOUT_VERSION = 170000


def can_pipeline() -> bool:
    """Whether the server can end a transaction whose process was stopped within a pipeline."""
    connection.ensure_connection()
    return int(connection.connection.info.server_version) >= TRANSACTION_TIMEOUT_VERSION


@contextmanager
def pipelined() -> Iterator[None]:
    """Send the statements of the block together; their results and row counts are available when it ends.

    The transaction has to have its time limit (`SET_TRANSACTION_TIMEOUT`). An error is raised at the end, as Django's
    own; the statements behind the one that failed have not run.
    """
    if not can_pipeline():
        yield
        return
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield
