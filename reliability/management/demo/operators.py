"""What people did: keys issued and revoked, a workflow paused, deliveries cancelled."""

from datetime import timedelta
from typing import Any

from reliability.models import ApiKey, Delivery, DeliveryState, KeyScope, Workflow
from reliability.models.access import PREFIX_LENGTH, hash_key, make_key

from . import fixtures, week
from .builder import Builder

KEYS: tuple[tuple[str, str | None, list[str], int | None], ...] = (
    ("demo-shop", fixtures.ACME, [KeyScope.DELIVER], 1),
    ("demo-n8n", None, [KeyScope.READ, KeyScope.REPORT], 3),
    ("demo-dashboard", None, [KeyScope.READ], 55),
    ("demo-former-vendor", fixtures.GLOBEX, [KeyScope.DELIVER], None),
)


def fill(book: Builder) -> None:
    """Write the keys, whose plain text nobody has, and what operators did beside the dead letters."""
    for name, tenant, scopes, used in KEYS:
        _key(book, name, tenant, scopes, used)
    _pause(book)
    cancelled: list[Any] = [one for one in book.rows[Delivery] if one.state == DeliveryState.CANCELLED]  # type: ignore[attr-defined]  # deliveries
    for made in cancelled:
        book.note(actor=fixtures.OPERATOR, action="cancel", at=made.finished_at, target=made, reason="ordered twice")


def _key(book: Builder, name: str, tenant: str | None, scopes: list[str], used: int | None) -> None:
    plain, made_at = make_key(), book.start - timedelta(days=20)
    key = book.add(
        ApiKey(
            id=book.dice.id(made_at),
            name=name,
            prefix=plain[:PREFIX_LENGTH],
            hash=hash_key(plain),
            tenant=tenant,
            scopes=scopes,
            last_used_at=book.now - timedelta(minutes=used) if used is not None else book.start,
            revoked_at=None if used is not None else book.start + timedelta(days=1),
        )
    )
    if used is None:
        at = book.start + timedelta(days=1)
        book.note(actor=fixtures.LEAD, action="revoke_key", at=at, target=key, reason="the contract ended")


def _pause(book: Builder) -> None:
    workflow = book.workflows[fixtures.EXPORT.slug]
    workflow.paused, workflow.paused_reason = True, "The warehouse moves to its new server"
    workflow.paused_until = book.now + timedelta(hours=3)
    Workflow.objects.filter(pk=workflow.pk).update(
        paused=True, paused_reason=workflow.paused_reason, paused_until=workflow.paused_until
    )
    at = book.now - week.PAUSED_SINCE
    book.note(actor=fixtures.OPERATOR, action="pause", at=at, target=workflow, reason=workflow.paused_reason)
