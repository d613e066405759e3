"""How long each kind of work may wait for PostgreSQL.

Two clocks limit a wait. The server's (`statement_timeout`, `lock_timeout`, `idle_in_transaction_session_timeout`) end
what takes too long while the server runs. The client's deadline ends a wait for a server that does not answer at all:
one that is stopped, or whose machine or network is gone. The server's limits are shorter, so that a running server ends
the statement itself and releases its locks.

A web request has one deadline for all its statements, counted from when the request was complete, so its wait for a
thread is included. In other processes each single wait has the limit.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of work, and its limit in seconds; 0 is no limit. The server's limits are derived from it.

    `idle` limits, in seconds, the time between two statements of a transaction, where the limit allows more.
    """

    name: str
    limit: float
    idle: float = FOREVER

    @property
    def statement_timeout(self) -> int:
        """Milliseconds after which the server ends a statement."""
        return int(self.limit * 750)

    @property
    def lock_timeout(self) -> int:
        """Milliseconds after which the server ends a wait for a lock, so that the error names the lock."""
        return int(self.limit * 500)

    @property
    def idle_in_transaction_session_timeout(self) -> int:
        """Milliseconds after which the server ends a session with an idle transaction, whose locks block others."""
        seconds = min(self.limit * 2 or FOREVER, self.idle)
        return int(seconds * 1000) if seconds != FOREVER else 0

    @property
    def parameters(self) -> dict[str, str]:
        """Return the server's limits by the name of their parameter."""
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        return {name: str(getattr(self, name)) for name in names}


INTAKE = Role("intake", settings.DATABASE_INTAKE_TIMEOUT_MS / 1000)
CONSOLE = Role("console", settings.DATABASE_CONSOLE_TIMEOUT_MS / 1000)
METRICS = Role("metrics", settings.DATABASE_METRICS_TIMEOUT_MS / 1000)
READINESS = Role("readiness", settings.DATABASE_READINESS_TIMEOUT_MS / 1000)
# A worker's statements may take long, but its transactions never wait for anything except the database. So a long idle
# time means a stopped process, which would keep a lane locked.
WORKER = Role("worker", settings.DATABASE_WORKER_TIMEOUT_MS / 1000, idle=10.0)
COMMAND = Role("command", 0)
# Paths of intake requests: their callers wait for the answer, and repeat the request if there is none.
POSTED = ("/api/v1/deliveries/", "/api/v1/executions/", "/api/v1/claims/", "/api/v1/slots/", "/api/v1/stripe-events/")
RECEIVED = ("/stripe/webhook/", "/cron/", "/in/", "/api/weekly-recap")
PERMIT = "/api/v1/breakers/permit/"
READS = ("GET", "HEAD")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# The name in a WSGI environment of the time, by `time.monotonic`, at which the request was complete.
ARRIVED = "backstop.arrived"
# The share of a limit that is left for the database however long a request waited for its thread.
LEAST_SHARE = 0.25


class _Local(threading.local):
    role: Role | None = None
    deadline = FOREVER


_local = _Local()
_process = COMMAND


def set_process_role(role: Role) -> None:
    """Set the role of this process, for work without a deadline of its own (`within`)."""
    global _process  # noqa: PLW0603  # one for the process is what is meant
    _process = role


def current() -> Role:
    """Return the current role of this thread."""
    return _local.role or _process


class within:  # noqa: N801  # it reads as a function; as a class it takes each request a fraction of the time
    """Limit all waits of a block together by a role's limit. An inner block never extends an outer deadline.

    `waited` seconds of the limit are over already; `LEAST_SHARE` of it is left all the same.
    """

    __slots__ = ("_outer", "_outer_deadline", "_role", "_waited")

    def __init__(self, role: Role, *, waited: float = 0.0) -> None:
        self._role, self._waited = role, waited

    def __enter__(self) -> None:
        role, local = self._role, _local
        limit = max(role.limit - self._waited, role.limit * LEAST_SHARE) if self._waited else role.limit
        deadline = time.monotonic() + limit if limit else FOREVER
        self._outer, self._outer_deadline = local.role, local.deadline
        local.role, local.deadline = role, min(deadline, local.deadline)

    def __exit__(self, *_: object) -> None:
        _local.role, _local.deadline = self._outer, self._outer_deadline


def remaining() -> float | None:
    """Return how many seconds a wait may take from now; 0 or less after the deadline; `None` without a limit.

    Within `within` this is the rest of the deadline; elsewhere the limit of the process's role.
    """
    if _local.role is None:
        return _process.limit or None
    seconds = _local.deadline - time.monotonic()
    return seconds if seconds != FOREVER else None


def of(*, method: str, path: str) -> Role:
    """Return the role of a web request."""
    if path.startswith(RECEIVED) or path == PERMIT or (method not in READS and path.startswith(POSTED)):
        return INTAKE
    if path == "/readyz":
        return READINESS
    return METRICS if path == "/metrics" else CONSOLE


def with_deadline(application: Application) -> Application:
    """Give each request of a WSGI application its deadline for the database."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        arrived = environ.get(ARRIVED)
        waited = time.monotonic() - arrived if arrived is not None else 0.0
        with within(of(method=environ["REQUEST_METHOD"], path=environ["PATH_INFO"]), waited=waited):
            return application(environ, start_response)

    return answer
