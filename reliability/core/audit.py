"""The audit log: one entry for each action of an operator, from the console, the API or a command."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models

from reliability.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Actor:
    """The person or API key that acts, and the reason given."""

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
    """Write an entry and return it. Call it in the transaction of the action itself.

    `count` is how many rows the action changed, `details` is JSON without payloads and secrets.
    """
    # One transaction, so that no action can commit without its entry, and no entry without its action.
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
