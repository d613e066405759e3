"""What checks find, and how a check is run within a time limit."""

import enum
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import connections


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
