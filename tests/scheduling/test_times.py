"""Which slot a ping is for, what was missed, how a job stands: tables of cases, and what must hold for every one."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from reliability.errors import InvalidInput
from scheduling.schedules import times
from scheduling.schedules.times import JobHistory, Schedule, State

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HOURLY, DAILY = Schedule("0 * * * *"), Schedule("0 9 * * *")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "now", "slot"),
    [
        # The last moment at or before now …
        ("0 9 * * *", "2026-06-15T09:00:00", "2026-06-15T09:00:00"),
        ("0 9 * * *", "2026-06-15T09:00:00.000001", "2026-06-15T09:00:00"),
        ("0 9 * * *", "2026-06-15T21:00:00", "2026-06-15T09:00:00"),
        # … but a ping up to a minute early is for the slot that is coming …
        ("0 9 * * *", "2026-06-15T08:59:58", "2026-06-15T09:00:00"),
        ("0 9 * * *", "2026-06-15T08:59:00", "2026-06-15T09:00:00"),
        ("0 9 * * *", "2026-06-15T08:58:59.999999", "2026-06-14T09:00:00"),
        # … up to a quarter of the interval, where that is less: 15 s of a minute.
        ("* * * * *", "2026-06-15T08:59:45", "2026-06-15T09:00:00"),
        ("* * * * *", "2026-06-15T08:59:44", "2026-06-15T08:59:00"),
        # Seconds, as n8n writes them: a quarter of 10 s.
        ("*/10 * * * * *", "2026-06-15T08:59:57", "2026-06-15T08:59:50"),
        ("*/10 * * * * *", "2026-06-15T08:59:58", "2026-06-15T09:00:00"),
        # Leap days, and the years without.
        ("0 0 29 2 *", "2026-06-15T00:00:00", "2024-02-29T00:00:00"),
        ("0 0 29 2 *", "2028-02-28T23:59:30", "2028-02-29T00:00:00"),
        ("0 0 29 2 *", "2100-03-01T00:00:00", "2096-02-29T00:00:00"),
        # The last day of a month; names of days.
        ("0 0 L * *", "2027-03-01T12:00:00", "2027-02-28T00:00:00"),
        ("0 9 * * MON", "2026-06-17T00:00:00", "2026-06-15T09:00:00"),
    ],
)
def test_the_slot_of_a_ping(expression, now, slot):
    assert times.slot_at(schedule=Schedule(expression), now=utc(now)) == utc(slot)


@pytest.mark.parametrize(
    ("zone", "expression", "now", "slot"),
    [
        # Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC. What lies in the gap moves to its end.
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T00:50:00", "2026-03-28T01:30:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T01:00:00", "2026-03-29T01:00:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T20:00:00", "2026-03-29T01:00:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-30T00:30:00", "2026-03-30T00:30:00"),
        ("Europe/Berlin", "30 * * * *", "2026-03-29T01:20:00", "2026-03-29T00:30:00"),
        # Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC. A fixed hour runs once, the first time …
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T00:30:00", "2026-10-25T00:30:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T01:10:00", "2026-10-25T00:30:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T01:30:00", "2026-10-25T00:30:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-26T01:30:00", "2026-10-26T01:30:00"),
        # … and where the hour is a star, both times.
        ("Europe/Berlin", "30 * * * *", "2026-10-25T00:40:00", "2026-10-25T00:30:00"),
        ("Europe/Berlin", "30 * * * *", "2026-10-25T01:40:00", "2026-10-25T01:30:00"),
        # New York, 8 March 2026: 02:00 becomes 03:00 at 07:00 UTC; 1 November: 02:00 becomes 01:00 at 06:00 UTC.
        ("America/New_York", "0 2 * * *", "2026-03-08T06:50:00", "2026-03-07T07:00:00"),
        ("America/New_York", "0 2 * * *", "2026-03-08T07:00:00", "2026-03-08T07:00:00"),
        ("America/New_York", "0 9 * * *", "2026-03-08T13:00:00", "2026-03-08T13:00:00"),
        ("America/New_York", "0 1 * * *", "2026-11-01T05:00:00", "2026-11-01T05:00:00"),
        ("America/New_York", "0 1 * * *", "2026-11-01T06:10:00", "2026-11-01T05:00:00"),
        ("America/New_York", "0 9 * * *", "2026-11-01T14:00:00", "2026-11-01T14:00:00"),
    ],
)
def test_daylight_saving(zone, expression, now, slot):
    assert times.slot_at(schedule=Schedule(expression, zone), now=utc(now)) == utc(slot)


@pytest.mark.parametrize(
    ("schedule", "last", "slot", "missed"),
    [
        (HOURLY, "2026-06-15T08:00:00", "2026-06-15T09:00:00", []),
        (HOURLY, "2026-06-15T09:00:00", "2026-06-15T09:00:00", []),
        (HOURLY, "2026-06-15T06:00:00", "2026-06-15T09:00:00", ["2026-06-15T07:00:00", "2026-06-15T08:00:00"]),
        # The last run lies on an earlier schedule.
        (HOURLY, "2026-06-15T06:17:00", "2026-06-15T08:00:00", ["2026-06-15T07:00:00"]),
        # The night that has 02:30 twice missed it once.
        (
            Schedule("30 2 * * *", "Europe/Berlin"),
            "2026-10-24T00:30:00",
            "2026-10-26T01:30:00",
            ["2026-10-25T00:30:00"],
        ),
        # Every hour, at 11:05 after 08:00: 3.08 periods are three, of which two were missed.
        (Schedule(period=HOUR), "2026-06-15T08:00:00", "2026-06-15T11:05:00", ["2026-06-15T09:00", "2026-06-15T10:00"]),
        (Schedule(period=HOUR), "2026-06-15T08:00:00", "2026-06-15T09:29:00", []),
        (Schedule(period=HOUR), "2026-06-15T08:00:00", "2026-06-15T09:31:00", ["2026-06-15T09:00"]),
    ],
)
def test_missed_slots(schedule, last, slot, missed):
    found = times.due(schedule=schedule, last=utc(last), since=utc("2020-01-01"), now=utc(slot))
    assert (found.slot, found.missed) == (utc(slot), tuple(utc(one) for one in missed))


def test_of_very_many_missed_slots_the_newest_count():
    now = utc("2026-06-15T09:00:00")
    for schedule in (Schedule("* * * * *"), Schedule(period=MINUTE)):
        found = times.due(schedule=schedule, last=now - 30 * DAY, since=now - 60 * DAY, now=now)
        assert len(found.missed) == times.MISSED_LIMIT
        assert found.missed[-1] == now - MINUTE
        assert found.missed[0] == now - times.MISSED_LIMIT * MINUTE


def test_nothing_is_missed_before_the_first_run_or_while_it_was_not_expected():
    now = utc("2026-06-15T09:00:00")
    assert times.due(schedule=HOURLY, last=None, since=now - DAY, now=now).missed == ()
    enabled_again = times.due(schedule=HOURLY, last=now - DAY, since=now - 90 * MINUTE, now=now)
    assert enabled_again.missed == (now - HOUR,)
    assert times.due(schedule=Schedule(), last=None, since=now, now=now) == times.Due(None)


NINE = utc("2026-06-15T09:00:00")


def seen(**values) -> JobHistory:
    return JobHistory(**{"enabled": True, "since": NINE - 10 * DAY, "grace": timedelta(minutes=5), **values})


@pytest.mark.parametrize(
    ("known", "now", "state", "lateness"),
    [
        (seen(enabled=False), NINE, State.DISABLED, 0),
        (seen(since=NINE - HOUR), NINE - MINUTE, State.NEW, 0),
        (seen(since=NINE - HOUR), NINE + 10 * MINUTE, State.MISSING, 600),
        (seen(last_slot=NINE - DAY, has_run=True), NINE - MINUTE, State.OK, 0),
        # A minute is the clocks' own; then it is late, and past its grace it is missing.
        (seen(last_slot=NINE - DAY, has_run=True), NINE + MINUTE, State.OK, 60),
        (seen(last_slot=NINE - DAY, has_run=True), NINE + 2 * MINUTE, State.LATE, 120),
        (seen(last_slot=NINE - DAY, has_run=True), NINE + 5 * MINUTE, State.LATE, 300),
        (seen(last_slot=NINE - DAY, has_run=True), NINE + 6 * MINUTE, State.MISSING, 360),
        (seen(last_slot=NINE, has_run=True), NINE + 6 * MINUTE, State.OK, 0),
        (seen(last_slot=NINE, has_run=True, overlapping=True), NINE + 6 * MINUTE, State.OVERLAPPING, 0),
        (seen(last_slot=NINE, has_run=True, failed=True), NINE + 6 * MINUTE, State.FAILING, 0),
        (seen(last_slot=NINE - DAY, has_run=True, failed=True), NINE + 6 * MINUTE, State.MISSING, 360),
        # Enabled again at 08:30: yesterday's slot is not held against it.
        (seen(since=NINE - HOUR / 2, last_slot=NINE - 5 * DAY, has_run=True), NINE - MINUTE, State.OK, 0),
    ],
)
def test_how_a_job_stands(known, now, state, lateness):
    found = times.status_of(schedule=DAILY, seen=known, now=now)
    assert (found.state, found.lateness.total_seconds()) == (state, lateness)


def test_what_has_no_schedule_is_never_late():
    found = times.status_of(schedule=Schedule(), seen=seen(has_run=True), now=NINE + 1000 * DAY)
    assert (found.state, found.expected_at) == (State.OK, None)
    every_hour = times.status_of(schedule=Schedule(period=HOUR), seen=seen(last_slot=NINE, has_run=True), now=NINE)
    assert every_hour.expected_at == NINE + HOUR


@pytest.mark.parametrize(
    ("expression", "zone", "field", "says"),
    [
        ("every day", "UTC", "schedule", "has 2 fields; it needs 5"),
        ("0 25 * * *", "UTC", "schedule", "'25' is not an hour"),
        ("0 0 31 2 *", "UTC", "schedule", "never matches"),
        ("0 0 */30 4 MON#5", "UTC", "schedule", "never matches"),
        ("*/0 * * * *", "UTC", "schedule", "'*/0' is not a minute"),
        ("0 9 * * *", "Europe/Berln", "timezone", "is not a known time zone"),
        ("", "../../etc/passwd", "timezone", "is not a known time zone"),
        ("", "", "timezone", "is not a known time zone"),
    ],
)
def test_what_makes_no_sense_is_refused(expression, zone, field, says):
    with pytest.raises(InvalidInput) as refusal:
        times.check(expression=expression, timezone=zone, now=NINE)
    assert says in refusal.value.errors[field][0]


@given(st.text(max_size=30) | st.from_regex(r"\A([0-9*/,L#-]{1,5} ){4,5}[0-9*/,L#A-Z-]{1,6}\Z"))
def test_any_text_is_refused_or_has_slots(text):
    try:
        times.check(expression=text, timezone="Europe/Berlin", now=NINE)
    except InvalidInput:
        return
    if text:
        assert times.slot_at(schedule=Schedule(text, "Europe/Berlin"), now=NINE) is not None


def part(low: int, high: int):
    numbers = st.lists(st.integers(low, high), min_size=1, max_size=3, unique=True)
    return st.just("*") | st.sampled_from(["*/2", "*/7", "*/15"]) | numbers.map(lambda n: ",".join(map(str, sorted(n))))


SCHEDULES = st.builds(
    lambda minute, hour, day, weekday, zone: Schedule(f"{minute} {hour} {day} * {weekday}", zone),
    part(0, 59),
    part(0, 23),
    st.sampled_from(["*", "1,15", "*/3"]),
    st.sampled_from(["*", "MON-FRI", "0"]),
    # Not Lord Howe, whose clocks shift by half an hour: there cronsim, going by hours, loses slots on that one day.
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata"]),
)
# Around the changes of daylight saving, and anywhere else.
MOMENTS = st.datetimes(datetime(2026, 3, 7), datetime(2026, 4, 6)) | st.datetimes(
    datetime(2026, 10, 3), datetime(2026, 11, 3)
)


def on_schedule(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """The slots within [start, end), by going forward from well before."""
    zone = UTC if schedule.timezone == "UTC" else ZoneInfo(schedule.timezone)
    found = []
    for one in CronSim(schedule.expression, start.astimezone(zone) - 2 * DAY):
        moment = one.astimezone(UTC)
        if moment >= end:
            return found
        if moment >= start:
            found.append(moment)
    return found


@effort(max_examples=300, deadline=None)
@given(SCHEDULES, MOMENTS)
def test_each_slot_lies_on_the_schedule_and_is_the_last(schedule, moment):
    now = moment.replace(tzinfo=UTC)
    last, coming = times.latest(schedule=schedule, at=now), times.following(schedule=schedule, after=now)
    assert last <= now < coming
    expected = on_schedule(schedule, last, coming + MINUTE)
    assert expected[0] == last
    assert expected[-1] == coming
    assert len(expected) == 2
    assert times.slot_at(schedule=schedule, now=now) in expected


@effort(max_examples=200, deadline=None)
@given(SCHEDULES, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_slots_never_go_back(schedule, moment, later):
    first = times.slot_at(schedule=schedule, now=moment.replace(tzinfo=UTC))
    second = times.slot_at(schedule=schedule, now=moment.replace(tzinfo=UTC) + later)
    assert first <= second


@effort(max_examples=100, deadline=None)
@given(SCHEDULES, MOMENTS, st.integers(1, 20))
def test_missed_are_exactly_the_slots_in_between(schedule, moment, hours):
    now = moment.replace(tzinfo=UTC)
    slot = times.slot_at(schedule=schedule, now=now)
    last = times.latest(schedule=schedule, at=slot - hours * HOUR)
    between = [one for one in on_schedule(schedule, last, slot) if last < one < slot]
    found = times.due(schedule=schedule, last=last, since=last, now=now).missed
    assert list(found) == between[-times.MISSED_LIMIT :]


def forward(expression: str, start: str, count: int, zone: str = "UTC") -> list[str]:
    """Return the first slots after a moment, by `following`, and see that `latest` finds each again."""
    schedule, moment, found = Schedule(expression, zone), utc(start), []
    for _ in range(count):
        moment = times.following(schedule=schedule, after=moment)
        assert times.latest(schedule=schedule, at=moment) == moment
        assert times.latest(schedule=schedule, at=moment + times.INSTANT) == moment
        found.append(f"{moment:%d %H:%M:%S}")
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@hourly", ["15 10:00:00", "15 11:00:00"]),
        ("@daily", ["16 00:00:00", "17 00:00:00"]),
        ("@Midnight", ["16 00:00:00", "17 00:00:00"]),
        (" @weekly ", ["21 00:00:00", "28 00:00:00"]),
        ("@monthly", ["01 00:00:00", "01 00:00:00"]),
        ("@yearly", ["01 00:00:00", "01 00:00:00"]),
        ("@annually", ["01 00:00:00", "01 00:00:00"]),
        ("@weekdays", ["16 00:00:00", "17 00:00:00"]),
        ("@weekends", ["20 00:00:00", "21 00:00:00"]),
        ("@secondly", ["15 09:00:01", "15 09:00:02"]),
        # Seconds.
        ("30 * * * * *", ["15 09:00:30", "15 09:01:30"]),
        ("*/20 * * * * *", ["15 09:00:20", "15 09:00:40", "15 09:01:00"]),
        ("5,50 0 9 * * *", ["15 09:00:05", "15 09:00:50", "16 09:00:05"]),
        ("0 0 9 * * *", ["16 09:00:00", "17 09:00:00"]),
        ("59 59 23 * * *", ["15 23:59:59", "16 23:59:59"]),
        # `?`, names in any case.
        ("0 0 9 ? * mon", ["22 09:00:00", "29 09:00:00"]),
        ("0 0 9 1 jul ?", ["01 09:00:00"]),
        ("0 9 ? * Fri", ["19 09:00:00", "26 09:00:00"]),
        # The last days.
        ("0 0 9 L * ?", ["30 09:00:00", "31 09:00:00"]),
        ("0 0 9 LW * ?", ["30 09:00:00", "31 09:00:00"]),
        ("0 0 9 ? * 1L", ["29 09:00:00", "27 09:00:00"]),
        ("0 0 9 ? * MONL", ["29 09:00:00", "27 09:00:00"]),
        ("0 0 9 ? * MON#3", ["20 09:00:00", "17 09:00:00"]),
        # Both days restricted: either will do, in both dialects …
        ("0 9 20 * MON", ["20 09:00:00", "22 09:00:00"]),
        ("0 0 9 20 * MON", ["20 09:00:00", "22 09:00:00"]),
        # … which differ in what restricts: in Debian's cron, what does not begin with a star …
        ("0 9 */10 * MON", ["31 09:00:00", "21 09:00:00", "21 09:00:00"]),
        # … in n8n's, what does not name every value.
        ("0 0 9 */10 * MON", ["21 09:00:00", "22 09:00:00", "29 09:00:00"]),
        ("0 0 9 1-31 * MON", ["22 09:00:00", "29 09:00:00"]),
        ("0 0 9 20 * 0-6", ["20 09:00:00", "20 09:00:00"]),
        ("0 0 9 20 * 1-7", ["20 09:00:00", "20 09:00:00"]),
    ],
)
def test_dialects(expression, expected):
    times.check(expression=expression, timezone="UTC", now=NINE)
    assert forward(expression, "2026-06-15T09:00:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("@reboot", "@reboot is not supported"),
        ("@every 5m", "known names are @yearly"),
        ("@fortnightly", "known names are @yearly"),
        ("0 0 9 15W * ?", "'15W' (day of month): the nearest weekday"),
        ("0 0 9 L-3 * ?", "'L-3' (day of month): days before the last"),
        ("0 0 9 ? * MON 2030", "7 fields; a year"),
        ("0 0 9 1? * *", "'1?' (day of month): '?' must be alone"),
        ("H 9 * * *", "'H' (minute)"),
        ("60 0 9 * * *", "'60' is not a second"),
        ("L 0 9 * * *", "'L' is not a second"),
        ("0 0 9 * * FRI-MON", "'FRI-MON' is not a day of week"),
        ("0 9 * FOO *", "'FOO' is not a month"),
        ("0 0 0 31 2 ?", "never matches"),
        ("* * * *", "has 4 fields"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_part(expression, says):
    with pytest.raises(InvalidInput) as refusal:
        times.check(expression=expression, timezone="UTC", now=NINE)
    (message,) = refusal.value.errors["schedule"]
    assert message.startswith(f"'{expression}' ")
    assert says in message


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        # Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
        ("15 30 2 * * *", "2026-03-28T12:00:00", ["29 01:00:15", "30 00:30:15"]),
        ("0,30 30 2 * * *", "2026-03-28T12:00:00", ["29 01:00:00", "29 01:00:30", "30 00:30:00"]),
        # 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC. A fixed hour runs once, the first time …
        ("15 30 2 * * *", "2026-10-24T12:00:00", ["25 00:30:15", "26 01:30:15"]),
        # … and where the hour is a star, both times.
        ("15 30 * * * *", "2026-10-25T00:00:00", ["25 00:30:15", "25 01:30:15"]),
    ],
)
def test_daylight_saving_with_seconds(expression, start, expected):
    assert forward(expression, start, len(expected), "Europe/Berlin") == expected


def test_between_the_seconds_of_a_minute_the_last_slot_is_the_one_before():
    schedule = Schedule("45 0 9 * * *")
    assert times.latest(schedule=schedule, at=utc("2026-06-15T09:00:44")) == utc("2026-06-14T09:00:45")
    assert times.latest(schedule=schedule, at=utc("2026-06-15T09:00:45")) == utc("2026-06-15T09:00:45")
    assert times.slot_at(schedule=schedule, now=utc("2026-06-15T09:00:00")) == utc("2026-06-15T09:00:45")


def test_of_seconds_a_quarter_of_the_interval_is_tolerated_and_missed_ones_are_found():
    schedule, known = Schedule("*/10 * * * * *"), {"has_run": True, "grace": timedelta(seconds=20), "since": NINE - DAY}
    for seconds, state in ((12, State.OK), (13, State.LATE), (31, State.MISSING)):
        found = times.status_of(
            schedule=schedule, seen=seen(last_slot=NINE, **known), now=NINE + seconds * times.SECOND
        )
        assert found.state == state
    missed = times.due(schedule=schedule, last=NINE, since=NINE, now=NINE + 45 * times.SECOND).missed
    assert missed == tuple(NINE + n * times.SECOND for n in (10, 20, 30))
