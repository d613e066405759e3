"""The operator actions on one dead letter: single ones, and bulk operations that included it.

A bulk operation writes one audit entry, whatever the number of dead letters. Which ones it included follows from what
it left on each: the delivery of a replay, an execution retry, or `purged_by`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from reliability.models import AuditEntry, DeadLetter, DeadLetterStatus, Operation, OperationKind

ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Action:
    """An operator action; `operation` is the bulk operation, if it was part of one."""

    at: datetime
    actor: str
    action: str
    reason: str
    operation: Operation | None = None


def operations_of(*, letter: DeadLetter, ids: Collection[UUID], alone: Sequence[AuditEntry]) -> list[Operation]:
    """Return the bulk operations that included a dead letter, newest first, in at most one query.

    `ids` are the operations of its replays and execution retries; `alone` is its own audit entries.
    """
    wanted = Q(pk__in=ids)
    if letter.purged_by_id:
        wanted |= Q(pk=letter.purged_by_id)
        # `purged_by` stays after the purge was undone. The operation that undid it goes through the dead letters in
        # the order of their ids, so it has handled this one once its cursor is at or beyond its id.
        if letter.status != DeadLetterStatus.PURGED:
            undone = Q(kind=OperationKind.RESTORE, filter__operation=str(letter.purged_by_id))
            wanted |= undone & Q(cursor__gte=letter.pk)
    elif not ids:
        return []
    found = list(Operation.objects.filter(wanted).order_by("-id")[:ROWS_SHOWN])
    return [one for one in found if not _had_no_effect(one, letter, found, alone)]


def _had_no_effect(one: Operation, letter: DeadLetter, found: Sequence[Operation], alone: Sequence[AuditEntry]) -> bool:
    """Whether an operation that undoes a purge skipped it: its own purge had been undone singly before."""
    if one.kind != OperationKind.RESTORE:
        return False
    purges = [purge.created_at for purge in found if purge.pk == letter.purged_by_id]
    restored_at = [entry.at for entry in alone if entry.action == "undo_purge"]
    return any(begun < at < one.created_at for begun in purges for at in restored_at)


def actions(*, alone: Sequence[AuditEntry], operations: Sequence[Operation]) -> list[Action]:
    """Return all actions, newest first."""
    single = [Action(one.at, one.actor, one.action, one.reason) for one in alone]
    in_bulk = [Action(one.created_at, one.actor, f"bulk_{one.kind}", one.reason, one) for one in operations]
    return sorted([*single, *in_bulk], key=lambda action: action.at, reverse=True)
