"""Operator actions on Stripe endpoints: creating and changing them, adding and retiring secrets."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.errors import InvalidInput, NotFound
from reliability.models import StripeEndpoint, StripeSecret

CHANGEABLE = ("tenant", "mode", "account", "api_key", "enabled")


def create(*, endpoint: StripeEndpoint, actor: Actor, now: datetime) -> StripeEndpoint:
    """Create an endpoint. Raises `InvalidInput`."""
    _check(endpoint)
    try:
        with transaction.atomic():
            endpoint.save(force_insert=True)
            audit.record(actor=actor, action="create_stripe_endpoint", now=now, target=endpoint)
    except IntegrityError:
        raise InvalidInput(errors={"slug": ["Another request has just created an endpoint with this slug."]}) from None
    return endpoint


def change(*, endpoint_id: UUID, values: Mapping[str, Any], actor: Actor, now: datetime) -> StripeEndpoint:
    """Change fields of an endpoint (`CHANGEABLE`). Raises `NotFound`, `InvalidInput`.

    The audit entry names the fields, and no values: one of them is the API key.
    """
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        for name, value in values.items():
            setattr(endpoint, name, value)
        _check(endpoint)
        endpoint.save(update_fields=list(values))
        details = {"fields": sorted(values)}
        audit.record(actor=actor, action="change_stripe_endpoint", now=now, target=endpoint, details=details)
    return endpoint


def add_secret(*, endpoint_id: UUID, secret: str, actor: Actor, now: datetime) -> StripeSecret:
    """Accept requests signed with one more secret. Raises `NotFound`, `InvalidInput`."""
    with transaction.atomic():
        # With the endpoint locked, the same secret cannot be added twice at once: encrypted, no constraint sees it.
        endpoint = _locked(endpoint_id)
        made = StripeSecret(endpoint=endpoint, secret=secret.strip())
        _check(made)
        if any(one.secret == made.secret for one in endpoint.secrets.filter(active=True)):
            raise InvalidInput("The endpoint has this secret already.")
        made.save(force_insert=True)
        audit.record(actor=actor, action="add_stripe_secret", now=now, target=endpoint, details={"hint": made.hint})
    return made


def retire_secret(*, secret_id: UUID, actor: Actor, now: datetime) -> None:
    """Refuse requests signed with this secret from now on. Raises `NotFound`."""
    with transaction.atomic():
        secret = StripeSecret.objects.select_for_update(no_key=True).filter(pk=secret_id).first()
        if secret is None:
            raise NotFound("There is no such secret.")
        if secret.active:
            StripeSecret.objects.filter(pk=secret_id).update(active=False, retired_at=now)
            details = {"hint": secret.hint}
            audit.record(actor=actor, action="retire_stripe_secret", now=now, target=secret.endpoint, details=details)


def _locked(endpoint_id: UUID) -> StripeEndpoint:
    endpoint = StripeEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint_id).first()
    if endpoint is None:
        raise NotFound("There is no such Stripe endpoint.")
    return endpoint


def _check(row: StripeEndpoint | StripeSecret) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        raise InvalidInput(errors=error.message_dict) from None
