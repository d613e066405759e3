"""psycopg connections with a limit for every wait.

Where the time is over, the connection is closed and the wait raises `NoAnswer`: what the server would still say to the
statement could otherwise be taken for the answer to the next one. Closing does not wait for the server.

A session that takes no writes (SQLSTATE 25006: the server became a standby, or was one while a failover went on) stays
like that for as long as it lasts, so it is closed as well: the next connection leads to the new primary.
"""

import asyncio
import time
from contextvars import ContextVar
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen, PQGenConn

from . import names, roles, sessions

# Seconds after which psycopg checks for Ctrl-C.
INTERVAL = 0.1
# Seconds that the request to cancel a statement may take.
CANCEL = 1.0

Value = TypeVar("Value")
_connect_by: ContextVar[float | None] = ContextVar("connect_by", default=None)


class NoAnswer(psycopg.OperationalError):
    """The database did not answer in time."""

    def __init__(self, message: str = "The database did not answer in time.", **details: Any) -> None:
        super().__init__(message, **details)


class Connection(psycopg.Connection[Any]):
    """A connection whose waits end by the deadline of what this thread does (`roles`)."""

    # Whether the server has no limits of its own for this session, so that a statement given up here would run on.
    cancels = False

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        seconds = roles.left()
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
        """Connect as psycopg does, to one address, until the moment by which all of them have had their turn."""
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

    def wait(self, gen: PQGen[Value], interval: float = INTERVAL, timeout: float | None = None) -> Value:
        seconds = roles.left()
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
        self._give_up()
        raise NoAnswer

    def _give_up(self) -> None:
        if self.cancels:
            self._try_cancel(timeout=CANCEL)
        self.pgconn.finish()


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection of the worker's event loop: each wait has the process's limit."""

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        try:
            return await asyncio.wait_for(super().connect(conninfo, **options), roles.left())
        except TimeoutError:
            raise NoAnswer from None

    async def wait(self, gen: PQGen[Value], interval: float = INTERVAL, timeout: float | None = None) -> Value:
        # Waiting for notifications has no limit; every statement on this connection has.
        listens = getattr(gen, "__name__", "") == "notifies"
        limit = roles.left() if timeout is None and not listens else timeout
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
    """Make a connection of the worker's pool what each session has to be (`sessions`); `others` as in `limiting`."""
    if reason := sessions.refusal(connection):
        raise psycopg.NotSupportedError(reason)
    statements = []
    if values := sessions.formats(connection):
        statements.append(sessions.setting(values))
    if limits := sessions.limiting(connection, roles.current(), **others):
        statements.append(limits)
    for statement, arguments in statements:
        await psycopg.AsyncClientCursor(connection).execute(statement, arguments)
    if not connection.autocommit:
        await connection.commit()
