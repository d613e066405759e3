"""Django's PostgreSQL engine, with a cheaper check of kept connections, and with redacted error messages.

Django sends `SELECT 1` before the first statement of each request. If the server has ended the connection, the socket
is readable: it has the last message, or the end of the stream. So a poll of the socket is enough. The server is asked
only if the socket is readable, if a statement failed before, or if the connection was idle for a while: a firewall may
have dropped it silently.

PostgreSQL's error messages quote the row or the statement (`DETAIL: Failing row contains …`), which contains a payload.
Since errors are logged, only their first line is kept, with the name of the constraint; `diag` has the rest.

Every wait for the server has a limit (`roles`, `connections`); every session has the expected settings (`sessions`).
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

# Seconds after its last check during which an unreadable socket counts as a working connection.
TRUSTED_SECONDS = 30.0


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of the main engine."""

    checked_at = 0.0
    # When the plans of prepared statements were last discarded (`prepared`).
    planned_at = 0.0
    # The role whose limits the session has, and whether the session accepts limits: behind a pooler it does not.
    limited_for: roles.Role | None = None
    takes_limits = False

    def get_connection_params(self) -> dict[str, Any]:
        """Return psycopg's arguments; options in `DATABASE_URL` have priority over our limits."""
        return {**dict(sessions.options()), **super().get_connection_params()}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        chosen = self.settings_dict["OPTIONS"].get("isolation_level")
        self.isolation_level = psycopg.IsolationLevel(chosen or psycopg.IsolationLevel.READ_COMMITTED)
        made = Connection.connect(**conn_params)
        if chosen is not None:
            made.isolation_level = self.isolation_level
        return made

    def connect(self) -> None:
        """Connect; close the connection if its session could not be configured."""
        try:
            super().connect()
        except BaseException:
            if self.connection is not None:
                self.connection.close()
                self.connection = None
            raise

    def check_database_version_supported(self) -> None:
        """Do nothing: `sessions.refusal` checks the version, since Django accepts older ones."""

    def _configure_connection(self, connection: Connection) -> bool:
        """Configure a new session. Raises `NotSupportedError` for a database that cannot be used."""
        self.limited_for, self.takes_limits, connection.cancels = None, True, True
        if self.alias != NO_DB_ALIAS and (reason := sessions.refusal(connection)):
            raise NotSupportedError(reason)
        if values := sessions.formats(connection):
            connection.execute(*sessions.setting(values))
        super()._configure_connection(connection)  # type: ignore[misc]  # missing in its types
        self._limit(connection)
        return True

    def _limit(self, connection: Connection) -> None:
        """Set the server's time limits to those of this thread's role."""
        role = roles.current()
        if role is self.limited_for or not connection.autocommit:
            return  # a rollback would undo settings made within a transaction
        statement = sessions.limiting(connection, role) if self.takes_limits else None
        self.takes_limits = statement is not None and connection.execute(*statement).fetchone() is not None
        self.limited_for, connection.cancels = role, not self.takes_limits

    def create_cursor(self, name: str | None = None) -> Any:
        if self.limited_for is not roles.current():
            self._limit(self.connection)
        return super().create_cursor(name)

    def _set_autocommit(self, autocommit: bool) -> None:
        """Begin or end a transaction; set the role's limits before it begins."""
        if not autocommit and self.limited_for is not roles.current():
            with self.wrap_database_errors:
                self._limit(self.connection)
        super()._set_autocommit(autocommit)  # type: ignore[misc]  # as above

    @cached_property
    def wrap_database_errors(self) -> "RedactingErrorWrapper":
        return RedactingErrorWrapper(self)

    def is_usable(self) -> bool:
        """Whether the connection works; does not ask the server if it was used lately and its socket is silent."""
        now = time.monotonic()
        is_in_use, self.checked_at = now - self.checked_at < TRUSTED_SECONDS, now
        if is_in_use and self.connection is not None and not self.errors_occurred:
            return _is_silent(self.connection.pgconn) or super().is_usable()
        return super().is_usable()


class RedactingErrorWrapper(DatabaseErrorWrapper):
    """Converts psycopg's errors to Django's, and keeps only the first line of their message: it contains no values."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, psycopg.Error) and error.diag.message_primary:
            text = error.diag.message_primary
            # In class 22 (data exception), the line ends with the invalid value.
            error.args = (text.partition(": ")[0] if (error.sqlstate or "").startswith("22") else text,)
        try:
            super().__exit__(kind, error, traceback)
        finally:
            self._drop_closed()

    def _drop_closed(self) -> None:
        """Let the next statement reconnect after the connection ended: some threads never call `is_usable`."""
        wrapper: DatabaseWrapper = self.wrapper  # type: ignore[attr-defined]  # as above
        if wrapper.connection is not None and wrapper.connection.closed and not wrapper.in_atomic_block:
            wrapper.close()


def _is_silent(pgconn: PGconn) -> bool:
    """Whether a connection is idle, and its server has sent nothing since its last answer."""
    if pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    return not poll.poll(0)
