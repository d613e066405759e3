"""Bulk operations: rows with a stored filter and cut-off, which a worker processes in steps.

    preview -> submit -> steps.step, a job each, until it is done -> undo_purge (for a purge)
                            pause, resume, set_rate, cancel

Submitting an operation again under the same id returns the existing one, so that a repeated request starts one.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from reliability import queue
from reliability.core import audit
from reliability.core.audit import Actor
from reliability.dead_letters import purge
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.errors import Conflict, InvalidInput, NotFound
from reliability.models import DeadLetter, DeadLetterStatus, Operation, OperationKind, OperationState
from reliability.models.ids import uuid7

from . import candidates
from .preview import Preview, preview

__all__ = ["Preview", "cancel", "count", "pause", "preview", "resume", "set_rate", "submit", "undo_purge"]

DEFAULT_RATE = 5.0
LOWEST_RATE, HIGHEST_RATE = 0.01, 1000.0
OPEN = (OperationState.RUNNING, OperationState.PAUSED)


class NotControllable(Conflict):
    """The operation has finished."""

    code = "operation_over"


def count(*, selection: DeadLetterFilter, now: datetime, kind: OperationKind = OperationKind.REPLAY) -> int:
    """Return how many dead letters a bulk operation submitted now would include."""
    return int(candidates.matching(kind=kind, filter_json=selection.as_json(), cutoff=now).count())


def submit(  # noqa: PLR0913  # all that a person decides of an operation
    *,
    kind: OperationKind,
    selection: DeadLetterFilter,
    actor: Actor,
    now: datetime,
    rate_per_second: float = DEFAULT_RATE,
    canary: bool = False,
    stop_failure_rate: float | None = None,
    cutoff: datetime | None = None,
    operation_id: UUID | None = None,
) -> Operation:
    """Start a bulk operation on all dead letters that the filter matches at `cutoff`, by default now.

    `rate_per_second` is in replays per second, `stop_failure_rate` from 0 to 1. Raises `InvalidInput` for others.
    """
    _check(rate_per_second, stop_failure_rate)
    values = {
        "kind": kind,
        "filter": selection.as_json(),
        "cutoff": cutoff or now,
        "rate_per_second": rate_per_second,
        "canary": canary and kind == OperationKind.REPLAY,
        "stop_failure_rate": stop_failure_rate if kind == OperationKind.REPLAY else None,
    }
    return _create(operation_id or uuid7(), values, actor, now, action=f"bulk_{kind}")


def undo_purge(
    *, actor: Actor, now: datetime, dead_letter_id: UUID | None = None, operation_id: UUID | None = None
) -> Operation | None:
    """Undo the purge of one dead letter; or of a bulk purge, by an operation of its own, which is returned.

    Raises `NotFound`; `NotReplayable` if the dead letter was purged too long ago; `Conflict` if the bulk purge has not
    finished, is being undone, or has nothing left to undo.
    """
    if dead_letter_id is not None:
        purge.undo_purge(dead_letter_id=dead_letter_id, actor=actor, now=now)
        return None
    if operation_id is None:
        raise InvalidInput("Name the dead letter or the operation whose purge to undo.")
    with transaction.atomic():
        # With the purge locked, a second request finds the operation that the first one creates.
        purged = _locked(operation_id)
        if purged.kind != OperationKind.PURGE or purged.state in OPEN:
            raise Conflict("Only a finished purge can be undone: cancel it first.")
        filter_json = {"operation": str(purged.pk)}
        restores = Operation.objects.filter(kind=OperationKind.RESTORE, state__in=OPEN)
        if restores.filter(filter__operation=filter_json["operation"]).exists():
            raise Conflict("This purge is being undone already.")
        if tenant := purged.filter.get("tenant"):
            filter_json["tenant"] = tenant
        values = {"kind": OperationKind.RESTORE, "filter": filter_json, "cutoff": now}
        made = _create(uuid7(), values, actor, now, action="bulk_restore")
        if not made.matched:
            raise Conflict("Nothing to undo: its dead letters were restored, or their payloads are erased.")
    return made


def pause(*, operation_id: UUID, actor: Actor, now: datetime) -> Operation:
    """Replay or purge nothing more until it is resumed. Raises `NotFound`, and `NotControllable` if it does not run."""

    def change(operation: Operation) -> None:
        _require_state(operation, "pause", OperationState.RUNNING)
        operation.state = OperationState.PAUSED

    return _control(operation_id, actor, now, "pause_operation", change)


def resume(*, operation_id: UUID, actor: Actor, now: datetime) -> Operation:
    """Resume a paused operation. Raises as `pause` does."""

    def change(operation: Operation) -> None:
        _require_state(operation, "resume", OperationState.PAUSED)
        operation.state, operation.next_at = OperationState.RUNNING, now
        queue.plan_operation_step(operation_id=operation.pk, at=now)

    return _control(operation_id, actor, now, "resume_operation", change)


def cancel(*, operation_id: UUID, actor: Actor, now: datetime) -> Operation:
    """Cancel an operation. Replays that were not sent yet are withdrawn: their dead letters become dead again.

    Raises as `pause` does.
    """

    def change(operation: Operation) -> None:
        _require_state(operation, "cancel", *OPEN)
        operation.state, operation.finished_at, operation.next_at = OperationState.CANCELLED, now, now
        operation.note = f"Cancelled by {actor.name}."
        queue.plan_operation_step(operation_id=operation.pk, at=now)

    return _control(operation_id, actor, now, "cancel_operation", change)


def set_rate(*, operation_id: UUID, rate_per_second: float, actor: Actor, now: datetime) -> Operation:
    """Change the rate (replays per second) from now on. Raises as `pause` does, and `InvalidInput`."""
    _check(rate_per_second, None)
    soon = now + timedelta(seconds=1 / rate_per_second)

    def change(operation: Operation) -> None:
        _require_state(operation, "change the rate", *OPEN)
        operation.rate_per_second = rate_per_second
        if operation.next_at is not None and operation.next_at > soon:
            operation.next_at = soon
            queue.plan_operation_step(operation_id=operation.pk, at=soon)

    return _control(operation_id, actor, now, "set_operation_rate", change, rate_per_second=rate_per_second)


def undoable(*, operation: Operation, now: datetime) -> int:
    """Return how many of its purged dead letters can still be restored."""
    rows = DeadLetter.objects.filter(purged_by=operation, status=DeadLetterStatus.PURGED, erase_at__gt=now)
    return rows.count()


def _create(pk: UUID, values: dict[str, Any], actor: Actor, now: datetime, *, action: str) -> Operation:
    found = candidates.matching(kind=values["kind"], filter_json=values["filter"], cutoff=values["cutoff"])
    values |= {"actor": actor.name, "reason": actor.reason, "created_at": now, "next_at": now, "matched": found.count()}
    with transaction.atomic():
        # Under the same id, a repeated request finds the row of the first one, even if both run at once.
        operation, made = Operation.objects.get_or_create(pk=pk, defaults=values)
        if made:
            names = ("rate_per_second", "canary", "stop_failure_rate")
            details = {"filter": operation.filter, **{name: getattr(operation, name) for name in names}}
            audit.record(
                actor=actor, action=action, now=now, target=operation, count=operation.matched, details=details
            )
            queue.plan_operation_step(operation_id=operation.pk, at=now)
    return operation


def _control(
    operation_id: UUID, actor: Actor, now: datetime, action: str, change: Callable[[Operation], None], **details: Any
) -> Operation:
    with transaction.atomic():
        # The lock waits for a step that is running. Without it, saving that step would undo this change.
        operation = _locked(operation_id)
        change(operation)
        operation.save()
        audit.record(actor=actor, action=action, now=now, target=operation, details=details)
    return operation


def _locked(operation_id: UUID) -> Operation:
    operation = Operation.objects.select_for_update(no_key=True).filter(pk=operation_id).first()
    if operation is None:
        raise NotFound("There is no such operation.")
    return operation


def _require_state(operation: Operation, verb: str, *states: OperationState) -> None:
    if operation.state not in states:
        raise NotControllable(f"Can't {verb}: already {operation.state}.")


def _check(rate_per_second: float, stop_failure_rate: float | None) -> None:
    if not LOWEST_RATE <= rate_per_second <= HIGHEST_RATE:  # not-a-number is in no range either
        text = f"A rate is from {LOWEST_RATE:g} to {HIGHEST_RATE:g} a second."
        raise InvalidInput(text, errors={"rate_per_second": [text]})
    if stop_failure_rate is not None and not 0 <= stop_failure_rate <= 1:
        text = "A share of failures is from 0 to 1."
        raise InvalidInput(text, errors={"stop_failure_rate": [text]})
