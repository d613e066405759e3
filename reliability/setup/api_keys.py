"""The operator's hand on API keys: made, revoked."""

from datetime import datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.errors import Conflict, Forbidden, InvalidInput, NotFound
from reliability.models import ApiKey, KeyScope


class IssuedAlready(Conflict):
    """This was asked for already: the key is made, and was shown once. If nobody saw it, revoke it and make another."""

    code = "issued_already"


def issue(*, key: ApiKey, actor: Actor, now: datetime, by: ApiKey | None = None) -> str:
    """Keep a new key; return its plain text, which nothing can show again.

    Raises `InvalidInput`; `Forbidden` where it would open more, or longer, than the key `by` which it is made; and
    `IssuedAlready` where there is a key of that id: whoever chose it asks for a second time.
    """
    if key.expires_at is not None and key.expires_at <= now:
        raise InvalidInput(errors={"expires_at": ["It lies in the past."]})
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
    """Keep a key. Raises `IssuedAlready` where another has come with the same id meanwhile."""
    try:
        with transaction.atomic():
            key.save(force_insert=True)
    except IntegrityError:
        if ApiKey.objects.filter(pk=key.pk).exists():
            raise IssuedAlready from None
        raise


def _keep_within(key: ApiKey, by: ApiKey) -> None:
    """Raise `Forbidden` where a key would be worth more than the one that makes it."""
    if by.tenant and key.tenant != by.tenant:
        raise Forbidden(f"The key is for the tenant '{by.tenant}' alone.")
    missing = [scope for scope in key.scopes or KeyScope.values if not by.allows(scope)]
    if missing:
        raise Forbidden(f"A key gives no scope that it does not have: {', '.join(missing)}.")
    if by.expires_at is not None and (key.expires_at is None or key.expires_at > by.expires_at):
        raise Forbidden("A key makes none that outlives it.")


def revoke(*, key_id: UUID, actor: Actor, now: datetime) -> None:
    """Refuse a key from now on; one that was revoked before stays so. Raises `NotFound`."""
    with transaction.atomic():
        key = ApiKey.objects.select_for_update(no_key=True).filter(pk=key_id).first()
        if key is None:
            raise NotFound("There is no such API key.")
        if key.revoked_at is None:
            key.revoked_at = now
            key.save(update_fields=["revoked_at"])
            audit.record(actor=actor, action="revoke_key", now=now, target=key)
