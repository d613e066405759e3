"""Whether the database's sessions are what the code expects: their time limits above all, which a pooler can take away.

What is looked at is read back from the server, by a connection of its own as intake has one.
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
    """Whether the server ends what takes intake too long, whatever is between it and us."""
    wanted = {name: value for name, value in roles.INTAKE.parameters.items() if value != "0"}
    with closing(connection.copy()) as own, roles.within(roles.INTAKE):
        pid, found = _read(own)
        pooled = own.connection.info.backend_pid != pid
    missing = [name for name in wanted if found[name] == "0"]
    if pooled and settings.DATABASE_SESSION_LIMITS == sessions.ALWAYS and _is_shared():
        yield failure(
            "DATABASE_SESSION_LIMITS is 'always', but a pooler in transaction mode is in between: limits of one"
            " process hold for others.",
            f"Set DATABASE_SESSION_LIMITS=auto, and {_alter(own.settings_dict['USER'], wanted)}",
        )
    elif missing:
        what = "A pooler is in between" if pooled else "DATABASE_SESSION_LIMITS keeps Backstop from setting limits"
        yield warning(
            f"{what}, and the server has no limit of its own: {', '.join(missing)}.",
            f"For the role of web processes: {_alter(own.settings_dict['USER'], wanted)}"
            " Where the pooler keeps sessions (pool_mode = session), DATABASE_SESSION_LIMITS=always does instead.",
        )
    else:
        limits = ", ".join(f"{name} {int(found[name]) / 1000:g} s" for name in wanted)
        yield ok(f"Intake's limits hold: {limits or 'none, since DATABASE_INTAKE_TIMEOUT_MS is 0'}.")
    yield from _formats(found)


def _formats(found: Mapping[str, str]) -> Iterator[Finding]:
    for name, value in sessions.FORMATS.items():
        if not found[name].startswith(value):
            database = connection.settings_dict["NAME"]
            yield failure(
                f"{name} is '{found[name]}' and does not stay as Backstop sets it.",
                f"ALTER DATABASE {database} SET {name} = '{value}', then restart the pooler.",
            )
    if found["synchronous_commit"] == "off":
        yield warning(
            "synchronous_commit is off: what was accepted may be lost with the server.",
            "Set synchronous_commit = on for this database, or for Backstop's role.",
        )


def _read(own: Any) -> tuple[int, dict[str, str]]:
    with own.cursor() as cursor:
        cursor.execute(READ, [[*NAMES, *OTHERS]])
        pid, found = cursor.fetchone()
    return pid, found


def _is_shared() -> bool:
    """Whether two connections of ours get one and the same of the server's, one after the other."""
    with closing(connection.copy()) as one, closing(connection.copy()) as other:
        first, _ = _read(one)
        second, _ = _read(other)
    return first == second


def _alter(role: str, wanted: Mapping[str, str]) -> str:
    return " ".join(f"ALTER ROLE {role or 'backstop'} SET {name} = {value};" for name, value in wanted.items())


CHECKS = (Check("time limits", time_limits),)
