"""The audit log: every operator's action, by console, API or command."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models

from reliability.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and why."""

    name: str
    reason: str = ""


def record(
    *,
    actor: Actor,
    action: str,
    now: datetime,
    target: models.Model | None = None,
    count: int = 1,
    details: dict[str, Any] | None = None,
) -> AuditEntry:
    """Write an entry, in the transaction of the action itself."""
    return AuditEntry.objects.create(
        at=now,
        actor=actor.name,
        action=action,
        target_type=(target._meta.model_name or "") if target is not None else "",
        target_id=str(target.pk) if target is not None else "",
        reason=actor.reason,
        count=count,
        details=details or {},
    )
