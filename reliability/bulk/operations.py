"""Bulk operations, as rows with a frozen filter and cut-off: looked at before, submitted, and held in hand.

    preview -> submit -> bulk.step, woken by the engine until it is done -> undo_purge (where it was a purge)
                            pause, go_on, set_rate, cancel

What is submitted under an id that is taken already is that operation: an answer that is given twice starts one.
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

__all__ = ["Preview", "cancel", "count", "go_on", "pause", "preview", "set_rate", "submit", "undo_purge"]

DEFAULT_RATE = 5.0
LOWEST_RATE, HIGHEST_RATE = 0.01, 1000.0
OPEN = (OperationState.RUNNING, OperationState.PAUSED)


class NotControllable(Conflict):
    """The operation is over."""

    code = "operation_over"


def count(*, selection: DeadLetterFilter, now: datetime, kind: OperationKind = OperationKind.REPLAY) -> int:
    """Return how many dead letters a bulk operation submitted now would be about."""
    return int(candidates.matching(kind=kind, frozen=selection.as_json(), cutoff=now).count())


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
    """Start a bulk operation over all that the filter matched at `cutoff`, by default now.

    Raises `InvalidInput` for a rate, or a share of failures, that makes no sense.
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
    return _start(operation_id or uuid7(), values, actor, now, action=f"bulk_{kind}")


def undo_purge(
    *, actor: Actor, now: datetime, dead_letter_id: UUID | None = None, operation_id: UUID | None = None
) -> Operation | None:
    """Bring back what was purged: one dead letter, or, by an operation of its own (returned), all that one purged.

    Raises `NotFound`; `NotReplayable` for a letter whose time to be undone is over; `Conflict` for an operation that
    still purges, or purged nothing that can be brought back.
    """
    if dead_letter_id is not None:
        purge.undo_purge(dead_letter_id=dead_letter_id, actor=actor, now=now)
        return None
    if operation_id is None:
        raise InvalidInput("Which purge? Name a dead letter or an operation.")
    with transaction.atomic():
        purged = _locked(operation_id)
        if purged.kind != OperationKind.PURGE or purged.state in OPEN:
            raise Conflict("Only a purge that is over can be undone: cancel it first.")
        frozen = {"operation": str(purged.pk)}
        restores = Operation.objects.filter(kind=OperationKind.RESTORE, state__in=OPEN)
        if restores.filter(filter__operation=frozen["operation"]).exists():
            raise Conflict("It is being undone already.")
        if tenant := purged.filter.get("tenant"):
            frozen["tenant"] = tenant
        values = {"kind": OperationKind.RESTORE, "filter": frozen, "cutoff": now}
        made = _start(uuid7(), values, actor, now, action="bulk_restore")
        if not made.matched:
            raise Conflict("It purged nothing that can still be brought back.")
    return made


def pause(*, operation_id: UUID, actor: Actor, now: datetime) -> Operation:
    """Hand over nothing more until it goes on. Raises `NotFound`, and `NotControllable` where it does not run."""

    def change(operation: Operation) -> None:
        _need(operation, OperationState.RUNNING)
        operation.state = OperationState.PAUSED

    return _control(operation_id, actor, now, "pause_operation", change)


def go_on(*, operation_id: UUID, actor: Actor, now: datetime) -> Operation:
    """Go on with one that was paused. Raises as `pause` does."""

    def change(operation: Operation) -> None:
        _need(operation, OperationState.PAUSED)
        operation.state, operation.next_at = OperationState.RUNNING, now
        queue.work_on(operation_id=operation.pk, at=now)

    return _control(operation_id, actor, now, "resume_operation", change)


def cancel(*, operation_id: UUID, actor: Actor, now: datetime) -> Operation:
    """End it: what it handed over and was not sent yet is withdrawn, and dead again. Raises as `pause` does."""

    def change(operation: Operation) -> None:
        _need(operation, *OPEN)
        operation.state, operation.finished_at, operation.next_at = OperationState.CANCELLED, now, now
        operation.note = f"Cancelled by {actor.name}."
        queue.work_on(operation_id=operation.pk, at=now)

    return _control(operation_id, actor, now, "cancel_operation", change)


def set_rate(*, operation_id: UUID, rate_per_second: float, actor: Actor, now: datetime) -> Operation:
    """Change how many a second go from now on. Raises as `pause` does, and `InvalidInput`."""
    _check(rate_per_second, None)
    soon = now + timedelta(seconds=1 / rate_per_second)

    def change(operation: Operation) -> None:
        _need(operation, *OPEN)
        operation.rate_per_second = rate_per_second
        if operation.next_at is not None and operation.next_at > soon:
            operation.next_at = soon
            queue.work_on(operation_id=operation.pk, at=soon)

    return _control(operation_id, actor, now, "set_operation_rate", change, rate_per_second=rate_per_second)


def undoable(*, operation: Operation, now: datetime) -> int:
    """Return how many of those that it purged can still be brought back."""
    rows = DeadLetter.objects.filter(purged_by=operation, status=DeadLetterStatus.PURGED, erase_at__gt=now)
    return rows.count()


def _start(pk: UUID, values: dict[str, Any], actor: Actor, now: datetime, *, action: str) -> Operation:
    found = candidates.matching(kind=values["kind"], frozen=values["filter"], cutoff=values["cutoff"])
    values |= {"actor": actor.name, "reason": actor.reason, "created_at": now, "next_at": now, "matched": found.count()}
    with transaction.atomic():
        operation, made = Operation.objects.get_or_create(pk=pk, defaults=values)
        if made:
            names = ("rate_per_second", "canary", "stop_failure_rate")
            details = {"filter": operation.filter, **{name: getattr(operation, name) for name in names}}
            audit.record(
                actor=actor, action=action, now=now, target=operation, count=operation.matched, details=details
            )
            queue.work_on(operation_id=operation.pk, at=now)
    return operation


def _control(
    operation_id: UUID, actor: Actor, now: datetime, action: str, change: Callable[[Operation], None], **details: Any
) -> Operation:
    with transaction.atomic():
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


def _need(operation: Operation, *states: OperationState) -> None:
    if operation.state not in states:
        wanted = " or ".join(states)
        raise NotControllable(f"It would have to be {wanted}; it is {operation.state}.")


def _check(rate_per_second: float, stop_failure_rate: float | None) -> None:
    if not LOWEST_RATE <= rate_per_second <= HIGHEST_RATE:  # not-a-number is in no range either
        text = f"A rate is from {LOWEST_RATE:g} to {HIGHEST_RATE:g} a second."
        raise InvalidInput(text, errors={"rate_per_second": [text]})
    if stop_failure_rate is not None and not 0 <= stop_failure_rate <= 1:
        text = "A share of failures is from 0 to 1."
        raise InvalidInput(text, errors={"stop_failure_rate": [text]})
