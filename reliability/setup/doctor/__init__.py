"""Looks at everything that Backstop stands on, and says what is wrong and what to do about it.

Each check is bounded in time and on its own: one that fails, or never answers, keeps no other from its turn. A check
changes nothing. Other rooms add theirs by `register`.
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

# Seconds that a check may take.
LIMIT = 5.0


_checks: dict[str, Check] = {}


def register(*, check: Check) -> None:
    """Add a check, after those that are there."""
    _checks[check.name] = check


def examine(*, limit: float = LIMIT) -> Iterator[Finding]:
    """Do every check in turn, and yield what each found."""
    known = (*service.CHECKS, *sessions.CHECKS, *outside.CHECKS, *_checks.values())
    hindrance = ""
    for check in known:
        if check.needs_database and hindrance:
            found: list[Finding] = [skipped(hindrance)]
        else:
            found = bounded(check.work, limit=limit)
        failed = any(one.state == State.FAILURE for one in found)
        if failed and check.name in (service.DATABASE, service.MIGRATIONS):
            hindrance = hindrance or f"First see to: {check.name}."
        yield from (replace(one, check=check.name) for one in found)
