"""Checks an installation, and says what is wrong and how to fix it.

Each check has a time limit and is independent: if one fails or hangs, the others still run. A check changes nothing.
Other packages add their checks with `register`.
"""

from collections.abc import Iterator
from dataclasses import replace

from . import outside, service, sessions
from .findings import Check, Finding, State, bounded, failure, ok, skipped, warning

__all__ = [
    "Check",
    "Finding",
    "State",
    "bounded",
    "examine",
    "failure",
    "ok",
    "register",
    "skipped",
    "warning",
]

# Time limit of one check, in seconds.
LIMIT = 5.0


_checks: dict[str, Check] = {}


def register(*, check: Check) -> None:
    """Add a check after the existing ones."""
    _checks[check.name] = check


def examine(*, limit: float = LIMIT) -> Iterator[Finding]:
    """Run every check in turn, and yield its findings."""
    known = (*service.CHECKS, *sessions.CHECKS, *outside.CHECKS, *_checks.values())
    blocked_by = ""
    for check in known:
        if check.needs_database and blocked_by:
            found: list[Finding] = [skipped(blocked_by)]
        else:
            found = bounded(check.work, limit=limit)
        failed = any(one.state == State.FAILURE for one in found)
        if failed and check.name in (service.DATABASE, service.MIGRATIONS):
            blocked_by = blocked_by or f"Skipped: fix '{check.name}' first."
        yield from (replace(one, check=check.name) for one in found)
