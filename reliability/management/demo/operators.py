"""Operator actions: API keys created and revoked, a workflow paused, deliveries cancelled."""

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


def fill(builder: Builder) -> None:
    """Write the API keys, whose plain text is not stored, and the operators' other actions."""
    for name, tenant, scopes, used in KEYS:
        _key(builder, name, tenant, scopes, used)
    _pause(builder)
    cancelled: list[Any] = [one for one in builder.rows[Delivery] if one.state == DeliveryState.CANCELLED]  # type: ignore[attr-defined]  # deliveries
    for made in cancelled:
        builder.note(actor=fixtures.OPERATOR, action="cancel", at=made.finished_at, target=made, reason="ordered twice")


def _key(builder: Builder, name: str, tenant: str | None, scopes: list[str], used: int | None) -> None:
    plain, made_at = make_key(), builder.start - timedelta(days=20)
    key = builder.add(
        ApiKey(
            id=builder.rng.id(made_at),
            name=name,
            prefix=plain[:PREFIX_LENGTH],
            hash=hash_key(plain),
            tenant=tenant,
            scopes=scopes,
            last_used_at=builder.now - timedelta(minutes=used) if used is not None else builder.start,
            revoked_at=None if used is not None else builder.start + timedelta(days=1),
        )
    )
    if used is None:
        at = builder.start + timedelta(days=1)
        builder.note(actor=fixtures.LEAD, action="revoke_key", at=at, target=key, reason="the contract ended")


def _pause(builder: Builder) -> None:
    workflow = builder.workflows[fixtures.EXPORT.slug]
    workflow.paused, workflow.paused_reason = True, "The warehouse moves to a new server"
    workflow.paused_until = builder.now + timedelta(hours=3)
    Workflow.objects.filter(pk=workflow.pk).update(
        paused=True, paused_reason=workflow.paused_reason, paused_until=workflow.paused_until
    )
    at = builder.now - week.PAUSED_SINCE
    builder.note(actor=fixtures.OPERATOR, action="pause", at=at, target=workflow, reason=workflow.paused_reason)
