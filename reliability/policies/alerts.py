"""Decides how an alert stands, and what people are owed to hear of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from .alert_rules import Rule


class State(StrEnum):
    """How an alert stands. `ok` has never fired, or is forgotten; what fired and is over is `resolved`."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Tell(StrEnum):
    """What there is to tell: it fires, it fires still, it is over."""

    FIRING = "firing"
    STILL = "still"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Reading:
    """A value of a rule, of whom it is, and its limit; in the rule's unit.

    `since` is from when on it has been wrong, where the database knows. `detail` is for the rule's sentence.
    """

    name: str
    value: float
    limit: float
    workflow: str = ""
    tenant: str = ""
    subject: str = ""
    detail: str = ""
    since: datetime | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.name, self.workflow, self.tenant, self.subject

    @property
    def who(self) -> str:
        lane = f"{self.workflow}/{self.tenant}" if self.workflow and self.tenant else self.workflow
        return lane or self.subject or "everything"


@dataclass(frozen=True, slots=True)
class Standing:
    """How an alert stands, and what was told of it.

    `told` is what people heard last. With `acknowledged`, somebody is on it: until `acknowledged_until`, or until it
    is over.
    """

    state: State = State.OK
    pending_since: datetime | None = None
    firing_since: datetime | None = None
    resolved_at: datetime | None = None
    told: Tell | None = None
    told_at: datetime | None = None
    acknowledged: bool = False
    acknowledged_until: datetime | None = None

    def is_acknowledged(self, *, now: datetime) -> bool:
        return self.acknowledged and (self.acknowledged_until is None or self.acknowledged_until > now)


@dataclass(frozen=True, slots=True)
class Silence:
    """A quiet period: of one alert or all, of one workflow or all, until a moment."""

    alert: str
    workflow: str
    until: datetime

    def covers(self, *, alert: str, workflow: str, now: datetime) -> bool:
        return self.alert in ("", alert) and self.workflow in ("", workflow) and now < self.until


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an alert stands next, and what to tell, if anything."""

    standing: Standing
    tell: Tell | None


def judge(
    *, rule: Rule, reading: Reading | None, standing: Standing, quiet: bool, repeat: timedelta, now: datetime
) -> Verdict:
    """Return how an alert stands at `now`. No reading means that nothing is wrong.

    What is told is the difference to what was told last, so that nothing is told twice, and what began and ended
    within a quiet period is never told. `repeat` is the time after which it is told again while nobody has
    acknowledged it; none where it is zero.
    """
    wrong = reading is not None and rule.is_wrong(value=reading.value, limit=reading.limit)
    held = _sane(standing, now)
    found = _wrong(rule, reading, held, now) if wrong and reading is not None else _right(held, now)
    tell = None if quiet else _owed(found, repeat, now)
    return Verdict(replace(found, told=_heard(tell), told_at=now) if tell else found, tell)


def is_quiet(*, silences: Iterable[Silence], alert: str, workflow: str, now: datetime) -> bool:
    """Whether any of the quiet periods covers an alert."""
    return any(one.covers(alert=alert, workflow=workflow, now=now) for one in silences)


def _wrong(rule: Rule, reading: Reading, held: Standing, now: datetime) -> Standing:
    since = min(one for one in (held.pending_since, reading.since, now) if one is not None)
    if held.state is State.FIRING:
        return held
    if now - since >= rule.lasts:
        return replace(held, state=State.FIRING, pending_since=since, firing_since=now, resolved_at=None)
    return replace(held, state=State.PENDING, pending_since=since)


def _right(held: Standing, now: datetime) -> Standing:
    if held.state is State.FIRING:
        over = replace(held, state=State.RESOLVED, pending_since=None, resolved_at=now)
        return replace(over, acknowledged=False, acknowledged_until=None)
    # Pending and right again: as it was before.
    before = State.RESOLVED if held.resolved_at is not None else State.OK
    return replace(held, state=before, pending_since=None)


def _owed(found: Standing, repeat: timedelta, now: datetime) -> Tell | None:
    match found.state:
        case State.RESOLVED:
            return Tell.RESOLVED if found.told is Tell.FIRING else None
        case State.FIRING if found.is_acknowledged(now=now):
            return None
        case State.FIRING if found.told is not Tell.FIRING:
            return Tell.FIRING
        case State.FIRING if repeat and found.told_at is not None and now - found.told_at >= repeat:
            return Tell.STILL
        case _:
            return None


def _heard(tell: Tell) -> Tell:
    return Tell.FIRING if tell is Tell.STILL else tell


def _sane(held: Standing, now: datetime) -> Standing:
    """Let no moment lie ahead: a clock that was set back must not silence anything until it has caught up."""
    return replace(
        held,
        pending_since=_not_after(held.pending_since, now),
        firing_since=_not_after(held.firing_since, now),
        told_at=_not_after(held.told_at, now),
    )


def _not_after(moment: datetime | None, now: datetime) -> datetime | None:
    return moment if moment is None else min(moment, now)
