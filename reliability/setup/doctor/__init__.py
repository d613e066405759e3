"""Looks at everything that Backstop stands on, and says what is wrong and what to do about it.

Each check is bounded in time and on its own: one that fails, or never answers, keeps no other from its turn. A check
changes nothing. Other rooms add theirs by `register`.
"""

import enum
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from django.db import connections

# Seconds that a check may take.
LIMIT = 5.0


class State(enum.StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in words, and what to do about it."""

    state: State
    found: str
    advice: str = ""
    check: str = ""


Work = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing. Those that need the database are skipped where it is not there."""

    name: str
    work: Work
    needs_database: bool = True


def ok(found: str) -> Finding:
    return Finding(State.OK, found)


def warning(found: str, advice: str) -> Finding:
    return Finding(State.WARNING, found, advice)


def failure(found: str, advice: str) -> Finding:
    return Finding(State.FAILURE, found, advice)


def skipped(found: str) -> Finding:
    return Finding(State.SKIPPED, found)


_checks: dict[str, Check] = {}


def register(*, check: Check) -> None:
    """Add a check, after those that are there."""
    _checks[check.name] = check


def examine(*, limit: float = LIMIT) -> Iterator[Finding]:
    """Do every check in turn, and yield what each found."""
    from . import outside, service, sessions

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


def bounded(work: Work, *, limit: float) -> list[Finding]:
    """Return what a check finds within `limit` seconds, in a thread that nobody waits for any longer."""
    found: list[Finding] = []

    def run() -> None:
        try:
            found.extend(work())
        except Exception as error:  # whatever it is, it is a finding
            text = " ".join(str(error).split())[:300]
            found.append(failure(f"{type(error).__name__}: {text}", "Look at what it says; the check itself failed."))
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True, name="doctor")
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        return [failure(f"There was no answer within {limit:g} seconds.", "See whether it is up, and can be reached.")]
    return found
