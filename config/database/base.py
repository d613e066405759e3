"""Django's PostgreSQL backend, except for the check of a kept connection and the text of errors.

Every wait for the server has a limit (`roles`, `connections`), and every session is set up as the code expects
(`sessions`).
"""

import select
import time
from types import TracebackType
from typing import Any

import psycopg
from django.db import NotSupportedError
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

from . import roles, sessions
from .connections import Connection

# Seconds for which an idle connection is trusted without asking the server: a firewall may drop it without telling
# either end.
TRUSTED_SECONDS = 30.0


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of the backend."""

    checked_at = 0.0
    # When the plans of prepared statements were last discarded (`prepared`), by the monotonic clock.
    planned_at = 0.0
    # The role whose limits the session has, and whether it takes any: behind a pooler it does not (`sessions`).
    limited_for: roles.Role | None = None
    takes_limits = False

    def get_connection_params(self) -> dict[str, Any]:
        """Return psycopg's arguments. Options in `DATABASE_URL` override our own limits."""
        return {**dict(sessions.options()), **super().get_connection_params()}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        chosen = self.settings_dict["OPTIONS"].get("isolation_level")
        self.isolation_level = psycopg.IsolationLevel(chosen or psycopg.IsolationLevel.READ_COMMITTED)
        made = Connection.connect(**conn_params)
        if chosen is not None:
            made.isolation_level = self.isolation_level
        return made

    def connect(self) -> None:
        """Connect; raises what the set-up of the session raises."""
        # A session that could not be set up is closed, or Django would use it for the next statement.
        try:
            super().connect()
        except BaseException:
            if self.connection is not None:
                self.connection.close()
                self.connection = None
            raise

    def check_database_version_supported(self) -> None:
        """Do nothing: `sessions.refusal` checks it, since Django accepts older versions."""

    def _configure_connection(self, connection: Connection) -> bool:
        """Set up a new session. Raises `NotSupportedError` for a database that cannot be used."""
        self.limited_for, self.takes_limits, connection.cancels = None, True, True
        if self.alias != NO_DB_ALIAS and (reason := sessions.refusal(connection)):
            raise NotSupportedError(reason)
        if values := sessions.wrong_formats(connection):
            connection.execute(*sessions.set_statement(values))
        super()._configure_connection(connection)  # type: ignore[misc]  # its types do not know it
        self._limit(connection)
        return True

    def _limit(self, connection: Connection) -> None:
        """Set the server's time limits to those of this thread's current role."""
        role = roles.current()
        if role is self.limited_for or not connection.autocommit:
            return  # within a transaction, a rollback would undo the setting
        statement = sessions.limits_statement(connection, role) if self.takes_limits else None
        self.takes_limits = statement is not None and connection.execute(*statement).fetchone() is not None
        self.limited_for, connection.cancels = role, not self.takes_limits

    def create_cursor(self, name: str | None = None) -> Any:
        if self.limited_for is not roles.current():
            self._limit(self.connection)
        return super().create_cursor(name)

    def _set_autocommit(self, autocommit: bool) -> None:
        """Begin or end a transaction; sets the role's limits before it begins."""
        if not autocommit and self.limited_for is not roles.current():
            with self.wrap_database_errors:
                self._limit(self.connection)
        super()._set_autocommit(autocommit)  # type: ignore[misc]  # as above

    @cached_property
    def wrap_database_errors(self) -> "TerseErrors":
        return TerseErrors(self)

    def is_usable(self) -> bool:
        """Return whether the connection works. Asks the server only if there is a reason to."""
        # Django sends `SELECT 1` before each request's first statement. A server that has gone, or has ended the
        # connection, leaves something to read on the socket: its last message, or the end of the stream. So looking at
        # the socket is enough, unless a statement failed before, or nobody has looked for `TRUSTED_SECONDS`.
        now = time.monotonic()
        is_in_use, self.checked_at = now - self.checked_at < TRUSTED_SECONDS, now
        if is_in_use and self.connection is not None and not self.errors_occurred:
            return _is_silent(self.connection.pgconn) or super().is_usable()
        return super().is_usable()


class TerseErrors(DatabaseErrorWrapper):
    """Converts psycopg's errors into Django's, both with their first line only."""

    # The server's details quote the row or the statement (`DETAIL: Failing row contains …`), and with it a payload or a
    # secret, and errors go to logs. `diag` still has everything.

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, psycopg.Error) and error.diag.message_primary:
            said = error.diag.message_primary
            # Class 22 (data exception): the first line ends with the value that is not of its type.
            error.args = (said.partition(": ")[0] if (error.sqlstate or "").startswith("22") else said,)
        try:
            super().__exit__(kind, error, traceback)
        finally:
            self._drop_closed()

    def _drop_closed(self) -> None:
        """Close a connection that has ended, so that the next statement connects again."""
        # Django does so only around requests, which the worker's threads do not have.
        wrapper: DatabaseWrapper = self.wrapper  # type: ignore[attr-defined]  # as above
        if wrapper.connection is not None and wrapper.connection.closed and not wrapper.in_atomic_block:
            wrapper.close()


def _is_silent(pgconn: PGconn) -> bool:
    """Return whether a connection is idle and has nothing to read."""
    if pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    return not poll.poll(0)
