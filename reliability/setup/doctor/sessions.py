"""Checks of database sessions: mainly their time limits, which a pooler can drop.

The values are read back from the server, on a new connection of the kind that intake uses.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from django.conf import settings
from django.db import connection

from config.database import roles, sessions

from .findings import Check, Finding, failure, ok, warning

NAMES = tuple(roles.INTAKE.parameters)
READ = """
SELECT pg_backend_pid(), (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name = ANY(%s))
"""
OTHERS = ("DateStyle", "IntervalStyle", "standard_conforming_strings", "synchronous_commit")


def time_limits() -> Iterator[Finding]:
    """Check that the server enforces the time limits of intake, even behind a pooler."""
    wanted = {name: value for name, value in roles.INTAKE.parameters.items() if value != "0"}
    with closing(connection.copy()) as own, roles.within(roles.INTAKE):
        pid, found = _read(own)
        pooled = own.connection.info.backend_pid != pid
    missing = [name for name in wanted if found[name] == "0"]
    if pooled and settings.DATABASE_SESSION_LIMITS == sessions.ALWAYS and _is_shared():
        yield failure(
            "DATABASE_SESSION_LIMITS is 'always', but the connection goes through a pooler in transaction mode: the"
            " limits of one process then apply to others.",
            f"Set DATABASE_SESSION_LIMITS=auto, and {_alter(own.settings_dict['USER'], wanted)}",
        )
    elif missing:
        what = (
            "The connection goes through a pooler"
            if pooled
            else "DATABASE_SESSION_LIMITS forbids Backstop to set limits"
        )
        yield warning(
            f"{what}, and the server has no limit of its own: {', '.join(missing)}.",
            f"For the role of web processes: {_alter(own.settings_dict['USER'], wanted)}"
            " With a pooler in session mode (pool_mode = session), set DATABASE_SESSION_LIMITS=always instead.",
        )
    else:
        limits = ", ".join(f"{name} {int(found[name]) / 1000:g} s" for name in wanted)
        yield ok(f"The time limits of intake apply: {limits or 'none, since DATABASE_INTAKE_TIMEOUT_MS is 0'}.")
    yield from _formats(found)


def _formats(found: Mapping[str, str]) -> Iterator[Finding]:
    for name, value in sessions.FORMATS.items():
        if not found[name].startswith(value):
            database = connection.settings_dict["NAME"]
            yield failure(
                f"{name} is '{found[name]}': the setting that Backstop makes is lost.",
                f"ALTER DATABASE {database} SET {name} = '{value}', then restart the pooler.",
            )
    if found["synchronous_commit"] == "off":
        yield warning(
            "synchronous_commit is off: accepted work can be lost in a crash of the database server.",
            "Set synchronous_commit = on for this database, or for Backstop's role.",
        )


def _read(own: Any) -> tuple[int, dict[str, str]]:
    with own.cursor() as cursor:
        cursor.execute(READ, [[*NAMES, *OTHERS]])
        pid, found = cursor.fetchone()
    return pid, found


def _is_shared() -> bool:
    """Whether two client connections use the same server connection, one after the other."""
    with closing(connection.copy()) as one, closing(connection.copy()) as other:
        first, _ = _read(one)
        second, _ = _read(other)
    return first == second


def _alter(role: str, wanted: Mapping[str, str]) -> str:
    return " ".join(f"ALTER ROLE {role or 'backstop'} SET {name} = {value};" for name, value in wanted.items())


CHECKS = (Check("time limits", time_limits),)
