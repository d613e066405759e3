"""Creates and revokes API keys."""

from datetime import datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.errors import Conflict, Forbidden, InvalidInput, NotFound
from reliability.models import ApiKey, KeyScope


class IssuedAlready(Conflict):
    """This key was created already, and was shown once. If you did not see it, revoke it and create another."""

    code = "issued_already"


def issue(*, key: ApiKey, actor: Actor, now: datetime, by: ApiKey | None = None) -> str:
    """Save a new key; return its plain text, which is not stored.

    Raises `InvalidInput`; `Forbidden` if it would allow more, or live longer, than the key `by` that creates it; and
    `IssuedAlready` if a key of that id exists, which means that the request is a repeat.
    """
    if key.expires_at is not None and key.expires_at <= now:
        raise InvalidInput(errors={"expires_at": ["This time is in the past."]})
    if by is not None:
        _keep_within(key, by)
    plain = key.set_secret()
    if ApiKey.objects.filter(pk=key.pk).exists():
        raise IssuedAlready
    try:
        key.full_clean()
    except ValidationError as error:
        raise InvalidInput(errors=error.message_dict) from None
    with transaction.atomic():
        _insert(key)
        details = {"prefix": key.prefix, "tenant": key.tenant, "scopes": key.scopes}
        audit.record(actor=actor, action="issue_key", now=now, target=key, details=details)
    return plain


def _insert(key: ApiKey) -> None:
    """Insert a key. Raises `IssuedAlready` if another request has inserted the same id meanwhile."""
    try:
        with transaction.atomic():
            key.save(force_insert=True)
    except IntegrityError:
        if ApiKey.objects.filter(pk=key.pk).exists():
            raise IssuedAlready from None
        raise


def _keep_within(key: ApiKey, by: ApiKey) -> None:
    """Raise `Forbidden` if a key would allow more than the key that creates it."""
    if by.tenant and key.tenant != by.tenant:
        raise Forbidden(f"This API key is limited to the tenant '{by.tenant}'.")
    missing = [scope for scope in key.scopes or KeyScope.values if not by.allows(scope)]
    if missing:
        raise Forbidden(f"A key can grant only scopes that it has. Missing: {', '.join(missing)}.")
    if by.expires_at is not None and (key.expires_at is None or key.expires_at > by.expires_at):
        raise Forbidden("The new key cannot expire later than the key that creates it.")


def revoke(*, key_id: UUID, actor: Actor, now: datetime) -> None:
    """Revoke a key; revoking it again changes nothing. Raises `NotFound`."""
    with transaction.atomic():
        key = ApiKey.objects.select_for_update(no_key=True).filter(pk=key_id).first()
        if key is None:
            raise NotFound("No such API key.")
        if key.revoked_at is None:
            key.revoked_at = now
            key.save(update_fields=["revoked_at"])
            audit.record(actor=actor, action="revoke_key", now=now, target=key)
