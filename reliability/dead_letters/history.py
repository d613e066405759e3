"""Who had a hand in one dead letter: what was done to it alone, and the bulk operations that took it along.

An operation writes one entry in the audit log, however many it takes along; which letters they were is told by what
it made of each: the delivery of a replay, n8n's retry, the mark of a purge.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from reliability.models import AuditEntry, DeadLetter, DeadLetterStatus, Operation, OperationKind

ROWS = 20


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that somebody did; `operation` is the one that did it with others, if one did."""

    at: datetime
    actor: str
    action: str
    reason: str
    operation: Operation | None = None


def operations_of(*, letter: DeadLetter, ids: Collection[UUID], alone: Sequence[AuditEntry]) -> list[Operation]:
    """Return the operations that took a dead letter along, the newest first: at most one query.

    `ids` are those that its replays and retries name; `alone` is what was done to it alone.
    """
    wanted = Q(pk__in=ids)
    if letter.purged_by_id:
        wanted |= Q(pk=letter.purged_by_id)
        # A purge that was undone: the undoing has come past this letter, and it is purged no more.
        if letter.status != DeadLetterStatus.PURGED:
            undone = Q(kind=OperationKind.RESTORE, filter__operation=str(letter.purged_by_id))
            wanted |= undone & Q(cursor__gte=letter.pk)
    elif not ids:
        return []
    found = list(Operation.objects.filter(wanted).order_by("-id")[:ROWS])
    return [one for one in found if not _came_too_late(one, letter, found, alone)]


def _came_too_late(one: Operation, letter: DeadLetter, found: Sequence[Operation], alone: Sequence[AuditEntry]) -> bool:
    """Whether an undoing met a letter that somebody had brought back by hand after the purge."""
    if one.kind != OperationKind.RESTORE:
        return False
    purges = [purge.created_at for purge in found if purge.pk == letter.purged_by_id]
    hands = [entry.at for entry in alone if entry.action == "undo_purge"]
    return any(begun < at < one.created_at for begun in purges for at in hands)


def deeds(*, alone: Sequence[AuditEntry], operations: Sequence[Operation]) -> list[Deed]:
    """Return everything that was done, the newest first."""
    by_hand = [Deed(one.at, one.actor, one.action, one.reason) for one in alone]
    in_bulk = [Deed(one.created_at, one.actor, f"bulk_{one.kind}", one.reason, one) for one in operations]
    return sorted([*by_hand, *in_bulk], key=lambda deed: deed.at, reverse=True)
