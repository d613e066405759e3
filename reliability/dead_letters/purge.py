"""Purges dead letters, and undoes a purge as long as its payload is kept. `bulk` does both with many.

A purge marks the dead letter; clean-up erases the payload `PURGE_UNDO_DAYS` later (`retention.rules`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Greatest

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import NotFound, NotReplayable
from reliability.models import DeadLetter, DeadLetterStatus

from .locking import locked


@deadlocks_retried
def purge(*, dead_letter_id: UUID, actor: Actor, now: datetime) -> None:
    """Remove a dead letter from the queue. Raises `NotFound`, and `NotReplayable` if it is not dead."""
    with transaction.atomic():
        if not purge_each(dead_letter_ids=[dead_letter_id], now=now):
            letter = DeadLetter.objects.filter(pk=dead_letter_id).first()
            if letter is None:
                raise NotFound("There is no such dead letter.")
            raise NotReplayable(f"Can't purge: the dead letter is {letter.status}.")
        audit.record(actor=actor, action="purge", now=now, target=DeadLetter(pk=dead_letter_id))


def purge_each(*, dead_letter_ids: Sequence[UUID], now: datetime, operation_id: UUID | None = None) -> int:
    """Mark those that are still dead as purged; return how many. Payloads are kept for `PURGE_UNDO_DAYS`."""
    letters = locked(DeadLetter.objects.dead().filter(pk__in=dead_letter_ids))
    return letters.update(
        status=DeadLetterStatus.PURGED,
        closed_at=now,
        erase_at=now + timedelta(days=settings.PURGE_UNDO_DAYS),
        purged_by=operation_id,
    )


@deadlocks_retried
def undo_purge(*, dead_letter_id: UUID, actor: Actor, now: datetime) -> None:
    """Undo a purge. Raises `NotFound`, and `NotReplayable` if it is not purged, or was purged too long ago."""
    with transaction.atomic():
        if not undo_purge_each(dead_letter_ids=[dead_letter_id], now=now):
            letter = DeadLetter.objects.filter(pk=dead_letter_id).first()
            if letter is None:
                raise NotFound("There is no such dead letter.")
            if letter.status == DeadLetterStatus.PURGED:
                raise NotReplayable("Can't undo: it was purged too long ago, and its payload is erased.")
            raise NotReplayable(f"Can't undo: the dead letter is {letter.status}.")
        audit.record(actor=actor, action="undo_purge", now=now, target=DeadLetter(pk=dead_letter_id))


def undo_purge_each(*, dead_letter_ids: Sequence[UUID], now: datetime) -> int:
    """Set purged dead letters back to dead, with at least another TTL, if they can be; return how many.

    `purged_by` stays: the history needs it (`history.operations_of`).
    """
    undoable = locked(
        DeadLetter.objects.filter(pk__in=dead_letter_ids, status=DeadLetterStatus.PURGED, erase_at__gt=now)
    )
    later = now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS)
    return undoable.update(
        status=DeadLetterStatus.DEAD,
        closed_at=None,
        erase_at=None,
        expires_at=Greatest("expires_at", Value(later)),
    )
