"""psycopg connections with a limit for every wait.

When the limit is reached, the connection is closed and the wait raises `NoAnswer`: a late answer could otherwise be
taken for the answer to the next statement. Closing does not wait for the server.

A session that takes no writes (SQLSTATE 25006: the server became a standby) stays like that, so it is closed as well:
the next connection leads to the new primary.
"""

import asyncio
import time
from contextvars import ContextVar
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen, PQGenConn

from . import names, roles, sessions

# Seconds after which psycopg checks for signals, such as Ctrl-C.
SIGNAL_CHECK_INTERVAL = 0.1
# Seconds that a cancel request may take: it opens a connection of its own.
CANCEL_SECONDS = 1.0

Value = TypeVar("Value")
_connect_by: ContextVar[float | None] = ContextVar("connect_by", default=None)


class NoAnswer(psycopg.OperationalError):
    """The database did not answer in time."""

    def __init__(self, said: str = "The database did not answer in time.", **details: Any) -> None:
        super().__init__(said, **details)


class Connection(psycopg.Connection[Any]):
    """A connection whose waits end by the deadline of this thread's current role (`roles`)."""

    # Whether the session has no limits on the server (behind a pooler), so that an abandoned statement would run on and
    # has to be cancelled.
    cancels = False

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        seconds = roles.remaining()
        if seconds is None:
            return super().connect(conninfo, **options)
        by = time.monotonic() + seconds
        token = _connect_by.set(by)
        try:
            return super().connect(conninfo, **names.resolved(options, by=by))
        finally:
            _connect_by.reset(token)

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        """Connect as psycopg does, but stop at the deadline for all addresses."""
        # psycopg tries one address after the other, each with the whole `connect_timeout`.
        by = _connect_by.get()
        if by is None:
            return (yield from super()._connect_gen(conninfo))
        steps = super()._connect_gen(conninfo)
        ready: Any = None
        while time.monotonic() < by:
            try:
                ready = yield steps.send(ready)
            except StopIteration as end:
                connected: Self = end.value
                return connected
        steps.close()
        raise NoAnswer

    def wait(self, gen: PQGen[Value], interval: float = SIGNAL_CHECK_INTERVAL, timeout: float | None = None) -> Value:
        seconds = roles.remaining()
        try:
            if seconds is None or (timeout is not None and timeout < seconds):
                return super().wait(gen, interval, timeout)
            if seconds > 0:
                return super().wait(gen, interval, seconds)
        except errors._WaitTimeout:
            if seconds is None or (timeout is not None and timeout < seconds):
                raise  # the caller's own limit, as of a wait for notifications
        except errors.ReadOnlySqlTransaction:
            self.pgconn.finish()
            raise
        if self.cancels:
            self._try_cancel(timeout=CANCEL_SECONDS)
        self.pgconn.finish()
        raise NoAnswer


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection of the worker's event loop: each wait has the limit of the process's role."""

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        try:
            return await asyncio.wait_for(super().connect(conninfo, **options), roles.remaining())
        except TimeoutError:
            raise NoAnswer from None

    async def wait(
        self, gen: PQGen[Value], interval: float = SIGNAL_CHECK_INTERVAL, timeout: float | None = None
    ) -> Value:
        # LISTEN waits without a limit until a notification comes; every other statement on that connection has one.
        listens = getattr(gen, "__name__", "") == "notifies"
        limit = roles.remaining() if timeout is None and not listens else timeout
        try:
            return await super().wait(gen, interval, limit)
        except errors._WaitTimeout:
            if timeout is not None or listens:
                raise
            self.pgconn.finish()
            raise NoAnswer from None
        except errors.ReadOnlySqlTransaction:
            self.pgconn.finish()
            raise


async def configure(connection: "psycopg.AsyncConnection[Any]", **others: str) -> None:
    """Set up a connection of the worker's pool (`sessions`); `others` as in `sessions.limits_statement`."""
    if reason := sessions.refusal(connection):
        raise psycopg.NotSupportedError(reason)
    statements = []
    if values := sessions.wrong_formats(connection):
        statements.append(sessions.set_statement(values))
    if limits := sessions.limits_statement(connection, roles.current(), **others):
        statements.append(limits)
    for statement, arguments in statements:
        await psycopg.AsyncClientCursor(connection).execute(statement, arguments)
    if not connection.autocommit:
        await connection.commit()
