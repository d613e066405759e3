"""Failed sign-ins: unlocks a user who is locked out."""

from datetime import datetime

from django.db import transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.errors import NotFound
from reliability.models import FailedSignIn


def unlock(*, attempt_id: int, actor: Actor, now: datetime) -> None:
    """Delete the failures of the same name from the same address. Raises `NotFound`."""
    with transaction.atomic():
        found = FailedSignIn.objects.filter(pk=attempt_id).first()
        if found is None:
            raise NotFound("No such failed sign-in: it is unlocked already.")
        FailedSignIn.objects.filter(username=found.username, ip_address=found.ip_address).delete()
        details = {"username": found.username, "address": found.ip_address}
        audit.record(actor=actor, action="unlock", now=now, target=found, details=details)
