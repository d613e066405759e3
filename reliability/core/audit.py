"""The audit log: every operator's action, by console, API or command."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models

from reliability.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Hand:
    """Who acts, and why."""

    actor: str
    reason: str = ""


def record(
    *,
    hand: Hand,
    action: str,
    now: datetime,
    target: models.Model | None = None,
    count: int = 1,
    details: dict[str, Any] | None = None,
) -> AuditEntry:
    """Write an entry, in the transaction of the action itself."""
    return AuditEntry.objects.create(
        at=now,
        actor=hand.actor,
        action=action,
        target_type=(target._meta.model_name or "") if target is not None else "",
        target_id=str(target.pk) if target is not None else "",
        reason=hand.reason,
        count=count,
        details=details or {},
    )
