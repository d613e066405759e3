"""Findings of checks, and running a check within a time limit."""

import enum
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import connections


class State(enum.StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding in words, with advice on how to fix it."""

    state: State
    found: str
    advice: str = ""
    check: str = ""


Work = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check. With `needs_database` it is skipped if the database is unavailable."""

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
    """Return the findings of a check within `limit` seconds. A check that hangs keeps its (daemon) thread."""
    found: list[Finding] = []

    def run() -> None:
        try:
            found.extend(work())
        except Exception as error:  # any error is a finding
            text = " ".join(str(error).split())[:300]
            found.append(failure(f"{type(error).__name__}: {text}", "The check itself failed. The message says why."))
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True, name="doctor")
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        return [
            failure(f"No answer within {limit:g} seconds.", "Check that it runs and can be reached from this machine.")
        ]
    return found
