"""Django's PostgreSQL engine, but for the check that a kept connection still works, and for what errors say.

Django asks the server (`SELECT 1`) before each request's first statement. A server that has gone, or has ended the
connection, leaves something to read on the socket: its last message, or the end of the stream. So one look at the
socket tells, and the server is asked only where there is something to read, where a statement failed before, or where
nobody has looked for a while: a firewall may have dropped the connection without a word to either end.

The server's account of an error quotes the row or the statement (`DETAIL: Failing row contains …`), and with it a
payload. Errors go to logs, so that ours say only what happened, and to which constraint; `diag` has the rest.
"""

import select
import time
from types import TracebackType

import psycopg
from django.db.backends.postgresql import base
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

# Seconds for which a silent connection is believed.
BELIEVED = 30.0


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of the main engine."""

    looked_at = 0.0

    @cached_property
    def wrap_database_errors(self) -> "Terse":
        return Terse(self)

    def is_usable(self) -> bool:
        """Say whether the connection works, without a word to the server as long as it is in use and silent itself."""
        now = time.monotonic()
        is_in_use, self.looked_at = now - self.looked_at < BELIEVED, now
        if is_in_use and self.connection is not None and not self.errors_occurred:
            return _is_silent(self.connection.pgconn) or super().is_usable()
        return super().is_usable()


class Terse(DatabaseErrorWrapper):
    """Turns psycopg's errors into Django's, and leaves in both the first line alone: the one without values."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, psycopg.Error) and error.diag.message_primary:
            said = error.diag.message_primary
            # Of a value that is none of its type, the line ends in it.
            error.args = (said.partition(": ")[0] if (error.sqlstate or "").startswith("22") else said,)
        super().__exit__(kind, error, traceback)


def _is_silent(pgconn: PGconn) -> bool:
    """Say whether a connection is idle, and its server has said nothing since its last answer."""
    if pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    return not poll.poll(0)
