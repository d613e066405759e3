"""What people are told: notices, written with the change that they are about, and sent afterwards.

    write (in the check's transaction, a wake-up each) -> claim by conditional UPDATE -> send, no transaction open
    -> record

A channel that fails keeps its notice, with the error, and tries again after a growing delay: by the notice's own
wake-up, with every check, and by `manage.py check_alerts`. A crash between sending and recording sends again once the
lease is over: at least once, under the same `Idempotency-Key` and `Message-ID`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction

from reliability import queue
from reliability.core import clock
from reliability.models import Alert, AlertNotice, NoticeState
from reliability.models.ids import uuid7
from reliability.policies import backoff
from reliability.policies.alert_text import Change
from reliability.policies.alerts import Tell

from . import channels

# Longer than a mail server that takes its whole timeout for each of its answers.
LEASE = timedelta(minutes=5)
# A wake-up may come so much before its moment by the database's clock.
EARLY = timedelta(seconds=2)
# Clocks of machines differ by no more.
SKEW = timedelta(minutes=1)
FIRST_DELAY_MS, LONGEST_DELAY_MS = 60_000, 3_600_000
ERROR_LIMIT = 300
# Written out: a worker that had to look it up would load every page of the console.
PAGE = "/admin/reliability/alert/{}/change/"
# What lies further ahead than any delay or lease was written before a clock was set back: it is due.
DUE = """
state = 'waiting' AND (next_at <= %(now)s OR next_at > %(present)s + %(delay)s)
    AND (lease_until IS NULL OR lease_until <= %(now)s OR lease_until > %(present)s + %(lease)s)
"""
CLAIM = f"""
UPDATE reliability_alertnotice SET lease_token = %(token)s, lease_until = %(until)s, attempts = attempts + 1
WHERE id = (
    SELECT id FROM reliability_alertnotice
    WHERE {DUE} AND (%(id)s::uuid IS NULL OR id = %(id)s::uuid) AND channel <> ALL(%(failing)s)
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id
"""  # noqa: S608  # our own words
OVERDUE = f"SELECT id FROM reliability_alertnotice WHERE {DUE} ORDER BY next_at LIMIT 100"  # noqa: S608  # likewise

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one try: with an error, it comes again later."""

    channel: str
    error: str


def write(*, told: Sequence[tuple[Alert, Tell]], now: datetime) -> list[UUID]:
    """Write a notice per channel of all that is to be told, with its wake-up, in the check's transaction."""
    changes = [_change(alert, tell) for alert, tell in told]
    for one in changes:
        _log(one)
    if not changes:
        return []
    made = [_notice(channel, told, changes, now) for channel in channels.configured()]
    for notice in made:
        _supersede(notice)
    AlertNotice.objects.bulk_create(made)
    for notice in made:
        queue.notify(notice_id=notice.pk)
    return [notice.pk for notice in made]


def send_due(*, now: datetime) -> list[Sent]:
    """Send every notice that is due, one after the other; return how each went.

    A channel that has failed is left alone for this time: where it hangs, its timeout is waited for once.
    """
    results: list[Sent] = []
    while (result := _send_next(None, now, failing=[one.channel for one in results if one.error])) is not None:
        results.append(result)
    return results


def look_after(*, now: datetime) -> None:
    """Have each notice sent that is overdue: its own wake-up is lost, or lies far ahead since a clock was set back."""
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE, _moments(now - SKEW))  # what is only just due, its own is about to send
        due = [row[0] for row in cursor.fetchall()]
    for notice_id in due:
        queue.notify(notice_id=notice_id, is_overdue=True)


def send(*, notice_id: UUID) -> Sent | None:
    """Send one notice, where it is due and nobody else is at it."""
    return _send_next(notice_id, clock.now() + EARLY)


def channel_of(*, notice_id: UUID) -> str | None:
    """Return the channel that a notice waits for; `None` where it waits no more."""
    waiting = AlertNotice.objects.filter(pk=notice_id, state=NoticeState.WAITING)
    return waiting.values_list("channel", flat=True).first()


def _change(alert: Alert, tell: Tell) -> Change:
    began = alert.resolved_at if tell is Tell.RESOLVED else alert.firing_since
    return Change(
        id=str(alert.pk),
        alert=alert.name,
        change=str(tell),
        severity=alert.severity,
        workflow=alert.workflow,
        tenant=alert.tenant,
        subject=alert.subject,
        value=alert.value,
        limit=alert.limit,
        since=began.astimezone(UTC).isoformat(timespec="seconds") if began else None,
        summary=alert.summary,
        runbook=f"{settings.ALERT_RUNBOOK_URL}#{alert.runbook}",
        console=f"{settings.PUBLIC_URL}{PAGE.format(alert.pk)}" if settings.PUBLIC_URL else "",
    )


def _notice(channel: str, told: Sequence[tuple[Alert, Tell]], changes: Sequence[Change], now: datetime) -> AlertNotice:
    return AlertNotice(
        id=uuid7(),
        channel=channel,
        changes=[one.document for one in changes],
        alert_ids=[alert.pk for alert, _ in told],
        created_at=now,
        next_at=now,
    )


def _supersede(notice: AlertNotice) -> None:
    """Take back unsent reminders that this one repeats, so that a mail server's return is no flood."""
    older = AlertNotice.objects.filter(channel=notice.channel, state=NoticeState.WAITING, lease_until__isnull=True)
    for one in older.filter(alert_ids__contained_by=notice.alert_ids):
        if all(change["change"] == Tell.STILL for change in one.changes):
            older.filter(pk=one.pk).update(state=NoticeState.SUPERSEDED)


def _send_next(notice_id: UUID | None, now: datetime, *, failing: Sequence[str] = ()) -> Sent | None:
    notice = _claim(notice_id, now, failing)
    if notice is None:
        return None
    if notice.channel not in channels.configured():
        _record(notice, state=NoticeState.DROPPED, error="Its channel is no longer set up.", lease_until=None)
        return Sent(notice.channel, "")
    try:
        delivery = channels.send(notice=notice)
    except channels.NotSent as failure:
        return _keep_for_later(notice, str(failure)[:ERROR_LIMIT], now)
    won = _record(notice, state=NoticeState.SENT, error="", sent_at=clock.now(), lease_until=None, delivery_id=delivery)
    logger.info("alert_told", extra={"channel": notice.channel, "notice": str(notice.pk), "recorded": won})
    return Sent(notice.channel, "")


def _claim(notice_id: UUID | None, now: datetime, failing: Sequence[str] = ()) -> AlertNotice | None:
    """Take the next notice under a lease, at whose end another looks after it.

    Who sends many goes by one `now`, which may be long ago when the last one's turn comes: its lease is from then on.
    """
    moments = _moments(now)
    until = moments["present"] + LEASE
    values = {**moments, "id": notice_id, "token": uuid4(), "until": until, "failing": list(failing)}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(CLAIM, values)
        row = cursor.fetchone()
        if row is None:
            return None
        queue.notify(notice_id=row[0], at=until, is_fallback=True)
        return AlertNotice.objects.get(pk=row[0])


def _moments(now: datetime) -> dict[str, Any]:
    present = max(now, clock.now())
    delay = timedelta(milliseconds=LONGEST_DELAY_MS)
    return {"now": now, "present": present, "delay": delay + SKEW, "lease": LEASE + SKEW}


def _keep_for_later(notice: AlertNotice, error: str, now: datetime) -> Sent:
    wait = backoff.delay(
        k=notice.attempts - 1,
        base_delay_ms=FIRST_DELAY_MS,
        max_delay_ms=LONGEST_DELAY_MS,
        jitter_factor=0.0,
        jitter=0.0,
    )
    next_at = max(now, clock.now()) + wait  # a try may take long
    with transaction.atomic():
        if _record(notice, error=error, next_at=next_at, lease_until=None):
            queue.notify(notice_id=notice.pk, at=next_at)
    values = {"channel": notice.channel, "notice": str(notice.pk), "error": error, "attempt": notice.attempts}
    logger.error("alert_not_told", extra=values)
    return Sent(notice.channel, error)


def _record(notice: AlertNotice, **values: object) -> bool:
    """Write down how it went, unless the lease has passed on to another."""
    own = AlertNotice.objects.filter(pk=notice.pk, lease_token=notice.lease_token, state=NoticeState.WAITING)
    return own.update(**values) == 1


def _log(one: Change) -> None:
    level = logging.INFO if one.change == Tell.RESOLVED else logging.WARNING
    values = {"alert": one.alert, "change": one.change, "severity": one.severity, "workflow": one.workflow}
    logger.log(level, "alert", extra={**values, "tenant": one.tenant, "subject": one.subject, "value": one.value})
