"""Requests that take effect once per idempotency key, besides the deliveries' own keys.

    claim -> what the request asks for -> complete          in one transaction

Of two requests that claim the same key at once, the second waits at the unique constraint for the first one's
transaction. If that commits, the second is a repeat; if it rolls back, the second is the first. A crash leaves neither
the key nor anything made under it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from reliability.errors import IdempotencyConflict, IdempotencyExpired, Unavailable
from reliability.models import DeadLetter, Delivery, FailureReport, IdempotencyKey

# Clean-up may delete the key between the two statements of `claim`; more than once in a row is next to impossible.
TRIES = 5
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request under a key. `tenant` is the API key's, empty for all tenants. `digest` is of the whole request.

    By tenant, not by API key: after a rotation, the new key still repeats what the old one asked for.
    """

    tenant: str
    operation: str
    key: str
    digest: bytes


def claim(*, request: KeyedRequest, now: datetime) -> tuple[IdempotencyKey, bool]:
    """Claim a request's key; return its row, and whether it is new. Call it first in the request's transaction.

    Raises `IdempotencyConflict` where the key was used with another request.
    """
    # The key's row is locked before any other (`core.lock_order`), so that no two requests wait for each other.
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
    """Record the result of a claimed request: the rows it made, or its answer."""
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
