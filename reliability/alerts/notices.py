"""Notices: written in the transaction of the change that they are about, and sent afterwards.

    write (in the check's transaction, a wake-up each) -> claim by conditional UPDATE -> send, no transaction open
    -> record

If a channel fails, its notice is kept with the error and retried after a growing delay: by the notice's own wake-up, by
every check, and by `manage.py check_alerts`. After a crash between sending and recording, it is sent again when the
lease has ended: at least once, with the same `Idempotency-Key` and `Message-ID`.
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
from reliability.policies.alerts import ChangeKind

from . import channels

# Longer than a mail server that uses its whole timeout for each of its answers.
LEASE = timedelta(minutes=5)
# A wake-up may come this much before its time by the database's clock.
EARLY = timedelta(seconds=2)
# The largest expected difference between the clocks of two machines.
SKEW = timedelta(minutes=1)
FIRST_DELAY_MS, LONGEST_DELAY_MS = 60_000, 3_600_000
ERROR_LIMIT = 300
# Written out: `reverse` would load every page of the console into the worker.
PAGE = "/admin/reliability/alert/{}/change/"
# A time further ahead than any delay or lease was written before a clock was set back: the notice is due.
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
"""  # noqa: S608  # our own text
OVERDUE = f"SELECT id FROM reliability_alertnotice WHERE {DUE} ORDER BY next_at LIMIT 100"  # noqa: S608  # likewise

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of one try; with an error, the notice is retried later."""

    channel: str
    error: str


def write(*, told: Sequence[tuple[Alert, ChangeKind]], now: datetime) -> list[UUID]:
    """Write a notice per channel about all changes, with its wake-up, in the transaction of the check."""
    changes = [_change(alert, kind) for alert, kind in told]
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
    """Send every due notice, one after the other; return the results.

    A channel that fails is skipped for the rest of the call, so that a hanging one costs its timeout only once.
    """
    results: list[Sent] = []
    while (result := _send_next(None, now, failing=[one.channel for one in results if one.error])) is not None:
        results.append(result)
    return results


def wake_overdue(*, now: datetime) -> None:
    """Wake every overdue notice: its own wake-up is lost, or lies far ahead since a clock was set back."""
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE, _moments(now - SKEW))  # one that just became due has its own wake-up
        due = [row[0] for row in cursor.fetchall()]
    for notice_id in due:
        queue.notify(notice_id=notice_id, is_overdue=True)


def send(*, notice_id: UUID) -> Sent | None:
    """Send one notice, if it is due and no other worker holds its lease."""
    return _send_next(notice_id, clock.now() + EARLY)


def channel_of(*, notice_id: UUID) -> str | None:
    """Return the channel of a waiting notice; `None` if it is not waiting."""
    waiting = AlertNotice.objects.filter(pk=notice_id, state=NoticeState.WAITING)
    return waiting.values_list("channel", flat=True).first()


def _change(alert: Alert, kind: ChangeKind) -> Change:
    began = alert.resolved_at if kind is ChangeKind.RESOLVED else alert.firing_since
    return Change(
        id=str(alert.pk),
        alert=alert.name,
        change=str(kind),
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


def _notice(
    channel: str, told: Sequence[tuple[Alert, ChangeKind]], changes: Sequence[Change], now: datetime
) -> AlertNotice:
    return AlertNotice(
        id=uuid7(),
        channel=channel,
        changes=[one.document for one in changes],
        alert_ids=[alert.pk for alert, _ in told],
        created_at=now,
        next_at=now,
    )


def _supersede(notice: AlertNotice) -> None:
    """Drop unsent reminders that this notice repeats: when a mail server recovers, it should not send them all."""
    older = AlertNotice.objects.filter(channel=notice.channel, state=NoticeState.WAITING, lease_until__isnull=True)
    for one in older.filter(alert_ids__contained_by=notice.alert_ids):
        if all(change["change"] == ChangeKind.STILL for change in one.changes):
            older.filter(pk=one.pk).update(state=NoticeState.SUPERSEDED)


def _send_next(notice_id: UUID | None, now: datetime, *, failing: Sequence[str] = ()) -> Sent | None:
    notice = _claim(notice_id, now, failing)
    if notice is None:
        return None
    if notice.channel not in channels.configured():
        _record(notice, state=NoticeState.DROPPED, error="The channel is no longer configured.", lease_until=None)
        return Sent(notice.channel, "")
    try:
        delivery = channels.send(notice=notice)
    except channels.NotSent as failure:
        return _retry_later(notice, str(failure)[:ERROR_LIMIT], now)
    won = _record(notice, state=NoticeState.SENT, error="", sent_at=clock.now(), lease_until=None, delivery_id=delivery)
    logger.info("alert_told", extra={"channel": notice.channel, "notice": str(notice.pk), "recorded": won})
    return Sent(notice.channel, "")


def _claim(notice_id: UUID | None, now: datetime, failing: Sequence[str] = ()) -> AlertNotice | None:
    """Claim the next notice under a lease; when the lease ends, another worker can claim it.

    `send_due` uses one `now` for many notices, which may be long ago for the last: a lease starts at the present time.
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


def _retry_later(notice: AlertNotice, error: str, now: datetime) -> Sent:
    wait = backoff.delay(
        k=notice.attempts - 1,
        base_delay_ms=FIRST_DELAY_MS,
        max_delay_ms=LONGEST_DELAY_MS,
        jitter_factor=0.0,
        jitter=0.0,
    )
    next_at = max(now, clock.now()) + wait  # the try itself may have taken long
    with transaction.atomic():
        if _record(notice, error=error, next_at=next_at, lease_until=None):
            queue.notify(notice_id=notice.pk, at=next_at)
    values = {"channel": notice.channel, "notice": str(notice.pk), "error": error, "attempt": notice.attempts}
    logger.error("alert_not_told", extra=values)
    return Sent(notice.channel, error)


def _record(notice: AlertNotice, **values: object) -> bool:
    """Save the result, unless another worker holds the lease now (fencing)."""
    own = AlertNotice.objects.filter(pk=notice.pk, lease_token=notice.lease_token, state=NoticeState.WAITING)
    return own.update(**values) == 1


def _log(one: Change) -> None:
    level = logging.INFO if one.change == ChangeKind.RESOLVED else logging.WARNING
    values = {"alert": one.alert, "change": one.change, "severity": one.severity, "workflow": one.workflow}
    logger.log(level, "alert", extra={**values, "tenant": one.tenant, "subject": one.subject, "value": one.value})
