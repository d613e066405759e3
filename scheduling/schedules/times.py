"""Schedules, without a clock or a database: which slot a ping is for, what was missed, and how a job stands.

A slot is a moment at which a job is expected to run, in UTC. A cron expression (`expressions`) names minutes, and
seconds within each of them. The minutes are those that `cronsim` names, which keeps to Debian's cron: a fixed hour that
daylight saving skips moves to the next moment that exists, and one that occurs twice counts once, the first time; where
minute or hour begins with `*`, the clock simply runs on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from reliability.errors import InvalidInput

from .expressions import compiled

MISSED_LIMIT = 100
# A caller's clock may be ahead of ours: so early may a ping come and still be for the slot that is coming.
EARLY = timedelta(seconds=60)
INSTANT, SECOND = timedelta(microseconds=1), timedelta(seconds=1)
# No schedule names the same moment less often than this.
LONGEST = timedelta(days=8 * 366)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is expected: by a cron expression in a time zone, every `period`, or, with neither, at any time."""

    expression: str = ""
    timezone: str = "UTC"
    period: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """What a ping is for, and the slots before it that none came for, oldest first."""

    slot: datetime | None
    missed: tuple[datetime, ...] = ()


class State(StrEnum):
    """How a job stands, from the best to the worst; `disabled` is beside the scale."""

    DISABLED = "disabled"
    NEW = "new"
    OK = "ok"
    OVERLAPPING = "overlapping"
    LATE = "late"
    FAILING = "failing"
    MISSING = "missing"


WORSE = tuple(State)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a job: since when it is expected at all, and its last runs."""

    enabled: bool
    since: datetime
    grace: timedelta
    last_slot: datetime | None = None
    has_run: bool = False
    overlapping: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """A job's state, when its next run is (or was) expected, and by how much that moment has passed."""

    state: State
    expected_at: datetime | None = None
    lateness: timedelta = timedelta()


def check(*, expression: str, timezone: str, now: datetime) -> None:
    """Raises `InvalidInput`, by field, for an unknown time zone or an expression that names no moment."""
    try:
        zone = _zone(timezone)
    except (ValueError, OSError, KeyError):
        raise InvalidInput(errors={"timezone": [f"'{timezone}' is not a time zone, such as Europe/Berlin."]}) from None
    if not expression:
        return
    minutes = compiled(expression).minutes
    try:
        next(CronSim(minutes, now.astimezone(zone)))
    except (StopIteration, CronSimError):
        raise InvalidInput(errors={"schedule": [f"'{expression}' names a moment that never comes."]}) from None


def latest(*, schedule: Schedule, at: datetime) -> datetime | None:
    """Return the expression's last slot at or before `at`."""
    minute = _latest_minute(schedule, at)
    if minute is None:
        return None
    within = [second for second in _seconds(schedule) if minute + second <= at]
    if within:
        return minute + within[-1]
    before = _latest_minute(schedule, minute - INSTANT)
    return before + _seconds(schedule)[-1] if before is not None else None


def _latest_minute(schedule: Schedule, at: datetime) -> datetime | None:
    """Return the last of the expression's minutes that began at or before `at`."""
    # A start with a fraction of a second counts as the first tick itself; a whole one would not.
    start = at if at.microsecond else at + INSTANT
    for earlier in _minutes(schedule, start, reverse=True):
        if earlier <= at:
            # In an hour that occurs twice, going backwards may step over a slot: go forward again from there.
            later = list(takewhile(lambda slot: slot <= at, _minutes(schedule, earlier)))
            return later[-1] if later else earlier
    return None


def following(*, schedule: Schedule, after: datetime) -> datetime | None:
    """Return the expression's first slot after `after`."""
    before = latest(schedule=schedule, at=after)
    slots = _from(schedule, before if before is not None else after)
    return next((slot for slot in slots if slot > after), None)


def slot_at(*, schedule: Schedule, now: datetime) -> datetime | None:
    """Return the slot that a ping at `now` is for: the last one, or the coming one if it is about to begin."""
    last, coming = latest(schedule=schedule, at=now), following(schedule=schedule, after=now)
    if last is None or coming is None:
        return last or coming
    return coming if coming - now <= tolerance(coming - last) else last


def tolerance(interval: timedelta) -> timedelta:
    """Return by how much a clock may be wrong for a schedule of that interval."""
    return min(EARLY, interval / 4)


def due(*, schedule: Schedule, last: datetime | None, since: datetime, now: datetime) -> Due:
    """Return what a ping at `now` is for.

    `last` is the slot of the last run. What lies before `since` was not expected, and so not missed.
    """
    slot = now if schedule.period else slot_at(schedule=schedule, now=now) if schedule.expression else None
    if last is None or slot is None:
        return Due(slot)
    return Due(slot, _missed(schedule, max(last, since), slot))


def standing(*, schedule: Schedule, seen: Seen, now: datetime) -> Standing:
    """Return how a job stands at `now`."""
    if not seen.enabled:
        return Standing(State.DISABLED)
    expected, interval = _expected(schedule, seen)
    lateness = max(now - expected, timedelta()) if expected is not None else timedelta()
    return Standing(_state(seen, lateness, interval), expected, lateness)


def _state(seen: Seen, lateness: timedelta, interval: timedelta) -> State:
    if lateness > max(seen.grace, tolerance(interval)):
        return State.MISSING
    if seen.failed:
        return State.FAILING
    if lateness > tolerance(interval):
        return State.LATE
    if seen.overlapping:
        return State.OVERLAPPING
    return State.OK if seen.has_run else State.NEW


def _expected(schedule: Schedule, seen: Seen) -> tuple[datetime | None, timedelta]:
    """Return when the next run is expected, and the interval at which they are."""
    since = max(seen.last_slot, seen.since) if seen.last_slot is not None else seen.since
    if schedule.period is not None:
        return since + schedule.period, schedule.period
    if not schedule.expression:
        return None, timedelta()
    first = following(schedule=schedule, after=since)
    second = following(schedule=schedule, after=first) if first is not None else None
    return first, (second - first if first is not None and second is not None else LONGEST)


def _missed(schedule: Schedule, last: datetime, slot: datetime) -> tuple[datetime, ...]:
    """Return the slots between two, oldest first: of very many the last `MISSED_LIMIT`."""
    if schedule.period is not None:
        # A ping is for the nearest of the period's moments, since what is due every hour comes at about every hour.
        count = max(0, round((slot - last) / schedule.period) - 1)
        return tuple(last + schedule.period * n for n in range(max(1, count - MISSED_LIMIT + 1), count + 1))
    found: list[datetime] = []
    one = latest(schedule=schedule, at=slot - INSTANT)
    while one is not None and one > last and len(found) < MISSED_LIMIT:
        found.append(one)
        one = latest(schedule=schedule, at=one - INSTANT)
    return tuple(reversed(found))


def _from(schedule: Schedule, start: datetime) -> Iterator[datetime]:
    """Go forward through the slots, from the start of the minute that `start` lies in."""
    begin = start.replace(second=0, microsecond=0) - SECOND
    return (minute + second for minute in _minutes(schedule, begin) for second in _seconds(schedule))


def _minutes(schedule: Schedule, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """Go through the expression's minutes, after `start` or, in reverse, before it."""
    local = start.astimezone(_zone(schedule.timezone))
    moments = CronSim(compiled(schedule.expression).minutes, local, reverse=reverse)
    return (moment.astimezone(UTC) for moment in moments)


def _seconds(schedule: Schedule) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=one) for one in compiled(schedule.expression).seconds)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
