"""Requests that happen once per idempotency key, beside the deliveries' own keys.

    claim -> what the request asks for -> keep          in one transaction

Of two who claim the same key at once, the second waits at the unique constraint for the first one's transaction: where
that commits, the second is a repeat; where it rolls back, the second is the first. A crash leaves neither the key nor
anything made under it. The key's row is locked before any other, so that no two wait for each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from reliability.errors import IdempotencyConflict, IdempotencyExpired, Unavailable
from reliability.models import DeadLetter, Delivery, FailureReport, IdempotencyKey

TRIES = 5
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request under a key. `tenant` is the API key's, empty for a key of all tenants; so a new API key of the same
    tenant repeats what an old one asked for. `digest` is that of the whole request."""

    tenant: str
    operation: str
    key: str
    digest: bytes


def claim(*, request: KeyedRequest, now: datetime) -> tuple[IdempotencyKey, bool]:
    """Take a request's key, within the transaction that does what it asks for; return its row, and whether it is new.

    Raises `IdempotencyConflict` where the key was used with another request.
    """
    same = {"tenant": request.tenant, "operation": request.operation, "key": request.key}
    for _ in range(TRIES):
        row = IdempotencyKey(**same, digest=request.digest, created_at=now)
        IdempotencyKey.objects.bulk_create([row], ignore_conflicts=True)
        found = IdempotencyKey.objects.filter(**same).first()
        if found is None:
            continue  # clean-up has just deleted the first one
        if bytes(found.digest) != request.digest:
            raise IdempotencyConflict(f"The key '{request.key}' was used with another request.")
        return found, found.pk == row.pk
    raise Unavailable


def complete(*, row: IdempotencyKey, row_ids: Sequence[UUID] = (), status: int = 200, answer: Any = None) -> None:
    """Note what came of a claimed request: what it made, or the answer it got."""
    row.row_ids, row.status, row.answer = list(row_ids), status, answer
    row.save(update_fields=["row_ids", "status", "answer"])


def deliveries_of(row: IdempotencyKey) -> list[Delivery]:
    """Return the deliveries that a request made, in its order. Raises `IdempotencyExpired` where one is gone."""
    return _all(row, Delivery.objects.select_related("lane__workflow").in_bulk(row.row_ids))


def dead_letter_of(row: IdempotencyKey) -> DeadLetter:
    """Return the dead letter that a request made. Raises `IdempotencyExpired` where it is gone."""
    return _all(row, DeadLetter.objects.select_related("lane__workflow").in_bulk(row.row_ids))[0]


def report_of(row: IdempotencyKey) -> FailureReport:
    """Return the failure report that a request was kept as. Raises `IdempotencyExpired` where it is gone."""
    return _all(row, FailureReport.objects.select_related("delivery").in_bulk(row.row_ids))[0]


def _all(row: IdempotencyKey, found: Mapping[UUID, Row]) -> list[Row]:
    if len(found) < len(set(row.row_ids)):
        raise IdempotencyExpired
    return [found[pk] for pk in row.row_ids]
