"""The operator's hand on Stripe endpoints: made, given a new secret, an old one retired."""

from datetime import datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction

from reliability.errors import InvalidInput, NotFound
from reliability.models import StripeEndpoint, StripeSecret

from . import audit
from .audit import Hand


def create(*, endpoint: StripeEndpoint, hand: Hand, now: datetime) -> StripeEndpoint:
    """Keep a new endpoint. Raises `InvalidInput`."""
    _check(endpoint)
    with transaction.atomic():
        endpoint.save(force_insert=True)
        audit.record(hand=hand, action="create_stripe_endpoint", now=now, target=endpoint)
    return endpoint


def add_secret(*, endpoint_id: UUID, secret: str, hand: Hand, now: datetime) -> StripeSecret:
    """Have an endpoint accept what is signed by one more secret, from now on. Raises `NotFound`, `InvalidInput`."""
    with transaction.atomic():
        endpoint = StripeEndpoint.objects.select_for_update().filter(pk=endpoint_id).first()
        if endpoint is None:
            raise NotFound("There is no such Stripe endpoint.")
        made = StripeSecret(endpoint=endpoint, secret=secret.strip())
        _check(made)
        if any(one.secret == made.secret for one in endpoint.secrets.filter(active=True)):
            raise InvalidInput("The endpoint has this secret already.")
        made.save(force_insert=True)
        audit.record(hand=hand, action="add_stripe_secret", now=now, target=endpoint, details={"hint": made.hint})
    return made


def retire_secret(*, secret_id: UUID, hand: Hand, now: datetime) -> None:
    """Accept nothing any more that is signed by this secret. Raises `NotFound`."""
    with transaction.atomic():
        secret = StripeSecret.objects.select_for_update().filter(pk=secret_id).first()
        if secret is None:
            raise NotFound("There is no such secret.")
        if secret.active:
            StripeSecret.objects.filter(pk=secret_id).update(active=False, retired_at=now)
            details = {"hint": secret.hint}
            audit.record(hand=hand, action="retire_stripe_secret", now=now, target=secret.endpoint, details=details)


def _check(row: StripeEndpoint | StripeSecret) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        raise InvalidInput(errors=error.message_dict) from None
