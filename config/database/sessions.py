"""What each session has to be like, whatever the server's, the database's or the role's own defaults are.

What the server reports of a session when it begins costs nothing to look at. The time limits are set by one statement.

A pooler in transaction mode (PgBouncer) gives each transaction another of its server connections, so that a `SET` is
lost for the session that asked for it, and holds for others that did not. It also refuses start-up `options` that it
does not know. So nothing is set where a pooler is in between: the process number that it told is not the server's.
"""

from collections.abc import Iterator

from django.conf import settings
from psycopg import BaseConnection

from .roles import Role

# psycopg reads times of ISO style and intervals of PostgreSQL's, and what we write holds backslashes as they are.
# PgBouncer keeps these for each of its clients (IntervalStyle from 1.20 on).
FORMATS = {"DateStyle": "ISO", "IntervalStyle": "postgres", "standard_conforming_strings": "on"}
ENCODING = "UTF8"
# The oldest major version of PostgreSQL that Backstop is made for.
OLDEST_VERSION = 15
# Our locks and upserts are written for it.
ISOLATION = {"default_transaction_isolation": "read committed"}

AUTO, ALWAYS, NEVER = "auto", "always", "never"


def refusal(connection: "BaseConnection[object]") -> str:
    """Return why the database cannot be used: the problem, a colon and the advice; empty if it can."""
    version = connection.info.server_version // 10_000
    if version < OLDEST_VERSION:
        return (
            f"The database is PostgreSQL {version}, and Backstop needs {OLDEST_VERSION} or newer:"
            " Upgrade it, or set DATABASE_URL to a newer one."
        )
    encoding = connection.info.parameter_status("server_encoding") or ENCODING
    if encoding == ENCODING:
        return ""
    return (
        f"The encoding of the database '{connection.info.dbname}' is {encoding}, which cannot store every text:"
        f" Create a database in {ENCODING}, and set DATABASE_URL to it: CREATE DATABASE {connection.info.dbname}_utf8"
        f" ENCODING '{ENCODING}' LOCALE 'C.UTF-8' TEMPLATE template0;"
    )


def formats(connection: "BaseConnection[object]") -> dict[str, str]:
    """Return the formats that have to be set, since the server reports others."""
    return {
        name: value
        for name, value in FORMATS.items()
        if not (connection.info.parameter_status(name) or value).startswith(value)
    }


def setting(values: dict[str, str]) -> tuple[str, list[object]]:
    """Return the statement that sets parameters of the session."""
    calls = ", ".join(["set_config(%s, %s, false)"] * len(values))
    return f"SELECT {calls}", [part for pair in values.items() for part in pair]


def limiting(connection: "BaseConnection[object]", role: Role, **others: str) -> tuple[str, list[object]] | None:
    """Return the statement that sets a role's limits where the session is the server's own, and says whether it was.

    `others` are values of parameters that go before the role's own.
    """
    mode = settings.DATABASE_SESSION_LIMITS
    if mode == NEVER:
        return None
    values = role.parameters | ISOLATION | others
    calls = ", ".join(["set_config(%s, %s, false)"] * len(values))
    own = [connection.info.backend_pid, mode == ALWAYS]
    arguments = [part for pair in values.items() for part in pair]
    # A row is made only of what passes: none of the calls is evaluated behind a pooler.
    statement = f"SELECT {calls} FROM (SELECT) AS session WHERE pg_backend_pid() = %s OR %s"  # noqa: S608  # our words
    return statement, [*arguments, *own]


def options() -> Iterator[tuple[str, object]]:
    """Yield libpq's own limits: for making a connection, and for one whose other end is gone."""
    seconds = settings.DATABASE_CONNECT_TIMEOUT_SECONDS
    if seconds:
        yield "connect_timeout", seconds
    yield "keepalives", 1
    yield "keepalives_idle", 30
    yield "keepalives_interval", 10
    yield "keepalives_count", 3
    yield "tcp_user_timeout", 30_000  # milliseconds until what was sent must have been acknowledged
