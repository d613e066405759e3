"""Accepts deliveries: the one implementation of `POST /api/v1/deliveries/`, and what a batch shares with it.

`at_once` takes the common request in one statement: it checks the API key, and inserts the delivery with its wake-up.
It declines, without side effects, whatever that statement does not decide: a bad key, a repeat, an invalid field, an
expiry, a large body, a lane's first delivery. The view then calls `checked`, after Django REST framework has
authenticated the request, which returns the exact error or answer. Both build the trigger and the answer here.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from reliability.api.common import json_response, problems, representations
from reliability.api.common.authentication import Caller, may_be_key, shown
from reliability.api.common.idempotency import REPLAYED
from reliability.api.common.parsers import document_of
from reliability.api.common.serializers import DeliveryRequest, check_expiry, key_of
from reliability.api.common.views import caller_of, read, text_of, values_of
from reliability.delivery import intake
from reliability.delivery.intake import Accepted, Trigger
from reliability.errors import InvalidInput
from reliability.models import DEFAULT_TENANT, Delivery, digest_of
from reliability.models.access import PREFIX_LENGTH, hash_key

# A larger body is read only after authentication.
BODY_LIMIT = 64 * 1024


def at_once(request: HttpRequest, view: APIView) -> HttpResponse | None:
    """Return 201 if the request's delivery is stored; `None` if nothing is done yet."""
    plain = shown(request.META)
    if not may_be_key(plain) or not _is_small(request.META.get("CONTENT_LENGTH")):
        return None
    if "HTTP_CONTENT_ENCODING" in request.META:
        return None
    try:
        found = _accept_by_key(request, plain)
    except (InvalidInput, ValidationError):
        return None  # `checked` reports the error, after authentication
    except Exception as error:
        return problems.handle(error, {"request": request, "view": view})
    return None if found is None else json_response.one(found, status=201)


def checked(request: Request) -> Response:
    """Accept the delivery of an authenticated request: 201, or 200 for a repeat. Raises every error of the call."""
    caller = caller_of(request)
    values = read(request, DeliveryRequest)
    tenant, header = caller.tenant_for(values.get("tenant")), request.headers.get("Idempotency-Key")
    trigger = trigger_of(values, text_of(request, "payload"), tenant=tenant, header=header)
    refuse_expired(values, trigger, caller)
    accepted = intake.accept(triggers=[trigger], now=caller.now)[0]
    representation = representation_of(accepted, trigger, values["payload"])
    return Response(representation, status=201) if accepted.created else Response(representation, headers=REPLAYED)


def trigger_of(values: dict[str, Any], text: str, *, tenant: str, header: str | None = None) -> Trigger:
    """Return the trigger of a delivery's fields; `text` is the original text of its payload."""
    return Trigger(
        workflow=values["workflow"],
        tenant=tenant,
        payload=text,
        digest=digest_of(values["payload"]),
        idempotency_key=key_of(values.get("idempotency_key"), header),
        deliver_at=values.get("deliver_at"),
        expires_at=values.get("expires_at"),
    )


def representation_of(accepted: Accepted, trigger: Trigger, document: Any) -> representations.Representation:
    """Return the JSON of an accepted delivery. `document` is the request's payload; a repeat shows the stored one."""
    one = accepted.delivery
    return representations.delivery(
        one,
        workflow=trigger.workflow,
        tenant=trigger.tenant,
        attempts=() if one.attempt_count == 0 else one.attempts.order_by("id"),
        document=document if accepted.created else None,
    )


def refuse_expired(values: dict[str, Any], trigger: Trigger, caller: Caller) -> None:
    """Raise `ValidationError` if a delivery would expire before it could be sent, unless it repeats a stored one."""
    try:
        check_expiry(values, now=caller.now)
    except ValidationError:
        lane = {"lane__workflow__slug": trigger.workflow, "lane__tenant": trigger.tenant}
        key = trigger.idempotency_key
        if not key or not Delivery.objects.filter(**lane, idempotency_key=key).exists():
            raise


def _is_small(length: Any) -> bool:
    text = str(length or "")
    return text.isascii() and text.isdigit() and 0 < int(text) <= min(BODY_LIMIT, settings.MAX_BODY_BYTES)


def _accept_by_key(request: HttpRequest, plain: str) -> representations.Representation | None:
    document = document_of(request.body)
    values = values_of(document, DeliveryRequest)
    if values.get("expires_at") is not None:
        return None  # it has to be compared with the clock before anything is stored
    header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    # The statement replaces the tenant by that of the request or of the key.
    trigger = trigger_of(values, document.members["payload"], tenant=DEFAULT_TENANT, header=header)
    tenant, key_hash = values.get("tenant"), hash_key(plain)
    stored = intake.accept_by_key(prefix=plain[:PREFIX_LENGTH], key_hash=key_hash, trigger=trigger, tenant=tenant)
    if stored is None:
        return None
    delivery, trigger = stored
    return representation_of(Accepted(delivery, created=True), trigger, values["payload"])
