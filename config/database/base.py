"""Django's PostgreSQL engine, but for the check that a kept connection still works.

Django asks the server (`SELECT 1`) before each request's first statement. A server that has gone, or has ended the
connection, leaves something to read on the socket: its last message, or the end of the stream. So one look at the
socket tells, and the server is asked only where there is something to read, or where a statement failed before.
"""

import select

from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of the main engine."""

    def is_usable(self) -> bool:
        """Say whether the connection works, without a word to the server as long as it is silent itself."""
        if self.connection is None or self.errors_occurred or not _is_silent(self.connection.pgconn):
            return super().is_usable()
        return True


def _is_silent(pgconn: PGconn) -> bool:
    """Say whether a connection is idle, and its server has said nothing since its last answer."""
    if pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    return not poll.poll(0)
