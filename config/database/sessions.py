"""How each session is set up, independent of the defaults of the server, the database and the role.

A pooler in transaction mode (PgBouncer) gives each transaction another of its server connections: a `SET` is lost for
the session that made it, and applies to others. It also refuses start-up `options` that it does not know. So nothing is
set behind a pooler, which is recognised by its process number: it differs from the server's.
"""

from collections.abc import Iterator

from django.conf import settings
from psycopg import BaseConnection

from .roles import Role

# psycopg parses times in ISO style and intervals in PostgreSQL's, and our literals rely on plain backslashes. PgBouncer
# keeps these parameters per client (IntervalStyle from 1.20 on), so they may be set behind it. The server reports them
# when a session begins, so the check costs nothing.
FORMATS = {"DateStyle": "ISO", "IntervalStyle": "postgres", "standard_conforming_strings": "on"}
ENCODING = "UTF8"
# The oldest supported major version of PostgreSQL.
OLDEST_VERSION = 15
# Locks and upserts are written for it: at higher levels they would raise serialization failures.
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


def wrong_formats(connection: "BaseConnection[object]") -> dict[str, str]:
    """Return the parameters of `FORMATS` that the server reports with another value."""
    return {
        name: value
        for name, value in FORMATS.items()
        if not (connection.info.parameter_status(name) or value).startswith(value)
    }


def set_statement(values: dict[str, str]) -> tuple[str, list[object]]:
    """Return the statement that sets parameters of the session."""
    calls = ", ".join(["set_config(%s, %s, false)"] * len(values))
    return f"SELECT {calls}", [part for pair in values.items() for part in pair]


def limits_statement(
    connection: "BaseConnection[object]", role: Role, **others: str
) -> tuple[str, list[object]] | None:
    """Return the statement that sets a role's limits, or `None` if none are to be set.

    It returns a row only if the session is the server's own. `others` override the role's own parameters.
    """
    mode = settings.DATABASE_SESSION_LIMITS
    if mode == NEVER:
        return None
    values = role.parameters | ISOLATION | others
    calls = ", ".join(["set_config(%s, %s, false)"] * len(values))
    own = [connection.info.backend_pid, mode == ALWAYS]
    arguments = [part for pair in values.items() for part in pair]
    # The WHERE clause is evaluated before the select list: behind a pooler no row passes, and no `set_config` is
    # called.
    statement = f"SELECT {calls} FROM (SELECT) AS session WHERE pg_backend_pid() = %s OR %s"  # noqa: S608  # our words
    return statement, [*arguments, *own]


def options() -> Iterator[tuple[str, object]]:
    """Yield libpq's options for connecting in time and for detecting a dead peer."""
    seconds = settings.DATABASE_CONNECT_TIMEOUT_SECONDS
    if seconds:
        yield "connect_timeout", seconds
    yield "keepalives", 1
    yield "keepalives_idle", 30
    yield "keepalives_interval", 10
    yield "keepalives_count", 3
    yield "tcp_user_timeout", 30_000  # milliseconds until what was sent must have been acknowledged
