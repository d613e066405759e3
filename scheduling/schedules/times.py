"""Computes slots, missed slots and the status of a job, without a clock or a database.

A slot is a time at which a job is expected to run, in UTC. A cron expression (`expressions`) has minutes, and seconds
within each of them. `cronsim` computes the minutes as Debian's cron does: a fixed hour that daylight saving skips moves
to the next existing time, and an hour that occurs twice counts only the first time; if the minute or the hour begins
with `*`, every occurrence counts.
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
# A caller's clock may be ahead: a ping up to this early is for the coming slot.
EARLY = timedelta(seconds=60)
INSTANT, SECOND = timedelta(microseconds=1), timedelta(seconds=1)
# The longest interval of any expression: from one 29 February to the next across 1900 or 2100.
LONGEST = timedelta(days=8 * 366)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is expected: by a cron expression in a time zone, every `period`, or at any time without either."""

    expression: str = ""
    timezone: str = "UTC"
    period: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """The slot of a ping, and the missed slots before it, oldest first."""

    slot: datetime | None
    missed: tuple[datetime, ...] = ()


class State(StrEnum):
    """The state of a job, from best to worst; `disabled` is outside of this order."""

    DISABLED = "disabled"
    NEW = "new"
    OK = "ok"
    OVERLAPPING = "overlapping"
    LATE = "late"
    FAILING = "failing"
    MISSING = "missing"


WORSE = tuple(State)


@dataclass(frozen=True, slots=True)
class JobHistory:
    """The known facts of a job: since when it is expected, and its last runs."""

    enabled: bool
    since: datetime
    grace: timedelta
    last_slot: datetime | None = None
    has_run: bool = False
    overlapping: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The state of a job, the time at which its next run is (or was) expected, and how late it is."""

    state: State
    expected_at: datetime | None = None
    lateness: timedelta = timedelta()


def check(*, expression: str, timezone: str, now: datetime) -> None:
    """Raises `InvalidInput`, by field, for an unknown time zone or an expression that never matches."""
    try:
        zone = _zone(timezone)
    except (ValueError, OSError, KeyError):
        raise InvalidInput(
            errors={"timezone": [f"'{timezone}' is not a known time zone. Use a name such as Europe/Berlin."]}
        ) from None
    if not expression:
        return
    minutes = compiled(expression).minutes
    try:
        next(CronSim(minutes, now.astimezone(zone)))
    except (StopIteration, CronSimError):
        raise InvalidInput(errors={"schedule": [f"'{expression}' never matches any date."]}) from None


def latest(*, schedule: Schedule, at: datetime) -> datetime | None:
    """Return the last slot of the expression at or before `at`."""
    minute = _latest_minute(schedule, at)
    if minute is None:
        return None
    within = [second for second in _seconds(schedule) if minute + second <= at]
    if within:
        return minute + within[-1]
    before = _latest_minute(schedule, minute - INSTANT)
    return before + _seconds(schedule)[-1] if before is not None else None


def _latest_minute(schedule: Schedule, at: datetime) -> datetime | None:
    """Return the last minute of the expression that began at or before `at`."""
    # `cronsim` includes a start with a fraction of a second, and excludes a whole one.
    start = at if at.microsecond else at + INSTANT
    for earlier in _minutes(schedule, start, reverse=True):
        if earlier <= at:
            # In an hour that occurs twice, going backwards may skip a slot: go forward again from there.
            later = list(takewhile(lambda slot: slot <= at, _minutes(schedule, earlier)))
            return later[-1] if later else earlier
    return None


def following(*, schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first slot of the expression after `after`."""
    before = latest(schedule=schedule, at=after)
    slots = _from(schedule, before if before is not None else after)
    return next((slot for slot in slots if slot > after), None)


def slot_at(*, schedule: Schedule, now: datetime) -> datetime | None:
    """Return the slot of a ping at `now`: the last one, or the coming one if it is about to begin."""
    last, coming = latest(schedule=schedule, at=now), following(schedule=schedule, after=now)
    if last is None or coming is None:
        return last or coming
    return coming if coming - now <= tolerance(coming - last) else last


def tolerance(interval: timedelta) -> timedelta:
    """Return the tolerated clock difference for a schedule with that interval."""
    return min(EARLY, interval / 4)


def due(*, schedule: Schedule, last: datetime | None, since: datetime, now: datetime) -> Due:
    """Return the slot of a ping at `now`, with the missed slots before it.

    `last` is the slot of the last run. Slots before `since` were not expected, so they are not missed.
    """
    slot = now if schedule.period else slot_at(schedule=schedule, now=now) if schedule.expression else None
    if last is None or slot is None:
        return Due(slot)
    return Due(slot, _missed(schedule, max(last, since), slot))


def status_of(*, schedule: Schedule, seen: JobHistory, now: datetime) -> JobStatus:
    """Return the status of a job at `now`."""
    if not seen.enabled:
        return JobStatus(State.DISABLED)
    expected, interval = _expected(schedule, seen)
    lateness = max(now - expected, timedelta()) if expected is not None else timedelta()
    return JobStatus(_state(seen, lateness, interval), expected, lateness)


def _state(seen: JobHistory, lateness: timedelta, interval: timedelta) -> State:
    if lateness > max(seen.grace, tolerance(interval)):
        return State.MISSING
    if seen.failed:
        return State.FAILING
    if lateness > tolerance(interval):
        return State.LATE
    if seen.overlapping:
        return State.OVERLAPPING
    return State.OK if seen.has_run else State.NEW


def _expected(schedule: Schedule, seen: JobHistory) -> tuple[datetime | None, timedelta]:
    """Return when the next run is expected, and the interval of the schedule."""
    since = max(seen.last_slot, seen.since) if seen.last_slot is not None else seen.since
    if schedule.period is not None:
        return since + schedule.period, schedule.period
    if not schedule.expression:
        return None, timedelta()
    first = following(schedule=schedule, after=since)
    second = following(schedule=schedule, after=first) if first is not None else None
    return first, (second - first if first is not None and second is not None else LONGEST)


def _missed(schedule: Schedule, last: datetime, slot: datetime) -> tuple[datetime, ...]:
    """Return the slots between two slots, oldest first: at most the last `MISSED_LIMIT`."""
    if schedule.period is not None:
        # A ping counts for the nearest multiple of the period: a job with a period of an hour runs about every hour.
        count = max(0, round((slot - last) / schedule.period) - 1)
        return tuple(last + schedule.period * n for n in range(max(1, count - MISSED_LIMIT + 1), count + 1))
    found: list[datetime] = []
    one = latest(schedule=schedule, at=slot - INSTANT)
    while one is not None and one > last and len(found) < MISSED_LIMIT:
        found.append(one)
        one = latest(schedule=schedule, at=one - INSTANT)
    return tuple(reversed(found))


def _from(schedule: Schedule, start: datetime) -> Iterator[datetime]:
    """Iterate over the slots, from the start of the minute of `start`."""
    begin = start.replace(second=0, microsecond=0) - SECOND
    return (minute + second for minute in _minutes(schedule, begin) for second in _seconds(schedule))


def _minutes(schedule: Schedule, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """Iterate over the minutes of the expression, after `start` or, with `reverse`, before it."""
    local = start.astimezone(_zone(schedule.timezone))
    moments = CronSim(compiled(schedule.expression).minutes, local, reverse=reverse)
    return (moment.astimezone(UTC) for moment in moments)


def _seconds(schedule: Schedule) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=one) for one in compiled(schedule.expression).seconds)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
