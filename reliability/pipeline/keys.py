"""The operator's hand on API keys."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from reliability.errors import NotFound
from reliability.models import ApiKey

from . import audit
from .audit import Hand


def revoke(*, key_id: UUID, hand: Hand, now: datetime) -> None:
    """Refuse a key from now on; one that was revoked before stays so. Raises `NotFound`."""
    with transaction.atomic():
        key = ApiKey.objects.select_for_update().filter(pk=key_id).first()
        if key is None:
            raise NotFound("There is no such API key.")
        if key.revoked_at is None:
            key.revoked_at = now
            key.save(update_fields=["revoked_at"])
            audit.record(hand=hand, action="revoke_key", now=now, target=key)
