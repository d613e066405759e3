"""Decides the next state of an alert, and which change to notify about."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from .alert_rules import Rule


class State(StrEnum):
    """The state of an alert. `ok` means that it never fired, or that its row is deleted."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class ChangeKind(StrEnum):
    """The change that a notice is about: the alert is firing, is still firing (a reminder), or is resolved."""

    FIRING = "firing"
    STILL = "still"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Reading:
    """A value of a rule for one target, with its limit, in the rule's unit.

    `since` is when it went beyond the limit, if the database has that. `detail` is for the rule's text.
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
    def target(self) -> str:
        lane = f"{self.workflow}/{self.tenant}" if self.workflow and self.tenant else self.workflow
        return lane or self.subject or "everything"


@dataclass(frozen=True, slots=True)
class AlertStatus:
    """The status of an alert, and its last notification.

    `told` is the change of the last notification. `acknowledged` ends at `acknowledged_until`, or when the alert
    resolves.
    """

    state: State = State.OK
    pending_since: datetime | None = None
    firing_since: datetime | None = None
    resolved_at: datetime | None = None
    told: ChangeKind | None = None
    told_at: datetime | None = None
    acknowledged: bool = False
    acknowledged_until: datetime | None = None

    def is_acknowledged(self, *, now: datetime) -> bool:
        return self.acknowledged and (self.acknowledged_until is None or self.acknowledged_until > now)


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence: of one alert or all, of one workflow or all, until a time."""

    alert: str
    workflow: str
    until: datetime

    def covers(self, *, alert: str, workflow: str, now: datetime) -> bool:
        return self.alert in ("", alert) and self.workflow in ("", workflow) and now < self.until


@dataclass(frozen=True, slots=True)
class Verdict:
    """The next status of an alert, and the change to notify about, if any."""

    status: AlertStatus
    change: ChangeKind | None


def evaluate(
    *, rule: Rule, reading: Reading | None, status: AlertStatus, silenced: bool, repeat: timedelta, now: datetime
) -> Verdict:
    """Return the status of an alert at `now`. No reading means that the value is within its limit.

    A notification is about the difference from the last one. So nothing is notified twice, and an alert that began and
    ended during a silence is never notified. `repeat` is the interval of reminders for an unacknowledged alert; zero
    for no reminders.
    """
    is_beyond = reading is not None and rule.is_beyond_limit(value=reading.value, limit=reading.limit)
    status = _without_future(status, now)
    found = (
        _beyond_limit(rule, reading, status, now) if is_beyond and reading is not None else _within_limit(status, now)
    )
    change = None if silenced else _due_change(found, repeat, now)
    return Verdict(replace(found, told=_recorded(change), told_at=now) if change else found, change)


def is_silenced(*, silences: Iterable[Silence], alert: str, workflow: str, now: datetime) -> bool:
    """Whether any of the silences covers an alert."""
    return any(one.covers(alert=alert, workflow=workflow, now=now) for one in silences)


def _beyond_limit(rule: Rule, reading: Reading, status: AlertStatus, now: datetime) -> AlertStatus:
    since = min(one for one in (status.pending_since, reading.since, now) if one is not None)
    if status.state is State.FIRING:
        return status
    if now - since >= rule.duration:
        return replace(status, state=State.FIRING, pending_since=since, firing_since=now, resolved_at=None)
    return replace(status, state=State.PENDING, pending_since=since)


def _within_limit(status: AlertStatus, now: datetime) -> AlertStatus:
    if status.state is State.FIRING:
        over = replace(status, state=State.RESOLVED, pending_since=None, resolved_at=now)
        return replace(over, acknowledged=False, acknowledged_until=None)
    # Pending, and within the limit again: back to the state before.
    before = State.RESOLVED if status.resolved_at is not None else State.OK
    return replace(status, state=before, pending_since=None)


def _due_change(found: AlertStatus, repeat: timedelta, now: datetime) -> ChangeKind | None:
    match found.state:
        case State.RESOLVED:
            return ChangeKind.RESOLVED if found.told is ChangeKind.FIRING else None
        case State.FIRING if found.is_acknowledged(now=now):
            return None
        case State.FIRING if found.told is not ChangeKind.FIRING:
            return ChangeKind.FIRING
        case State.FIRING if repeat and found.told_at is not None and now - found.told_at >= repeat:
            return ChangeKind.STILL
        case _:
            return None


def _recorded(change: ChangeKind) -> ChangeKind:
    return ChangeKind.FIRING if change is ChangeKind.STILL else change


def _without_future(status: AlertStatus, now: datetime) -> AlertStatus:
    """Move times in the future to `now`: after a clock was set back, they would suppress notifications."""
    return replace(
        status,
        pending_since=_not_after(status.pending_since, now),
        firing_since=_not_after(status.firing_since, now),
        told_at=_not_after(status.told_at, now),
    )


def _not_after(moment: datetime | None, now: datetime) -> datetime | None:
    return moment if moment is None else min(moment, now)
