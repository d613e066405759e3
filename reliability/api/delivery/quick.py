"""The usual way of `POST /api/v1/deliveries/`: one statement, and nothing of the framework's around it.

It takes what is small, sound and new, by a key that is good. Whatever else comes, it leaves as it came: the view
then goes through it step by step, and finds the words for what is wrong.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.views import APIView

from reliability.api.common import json_response, problems, shapes
from reliability.api.common.authentication import may_be_key, shown
from reliability.api.common.parsers import document_of
from reliability.api.common.serializers import DeliveryRequest, key_of
from reliability.api.common.views import values_of
from reliability.delivery import intake
from reliability.delivery.intake import Trigger
from reliability.errors import InvalidInput
from reliability.models import Delivery, digest_of
from reliability.models.access import PREFIX_LENGTH, hash_key

# A larger body is read only for a caller whose key has been looked at.
BODY_LIMIT = 64 * 1024


def answer(request: HttpRequest, view: APIView) -> HttpResponse | None:
    """Answer 201 where the request's delivery is kept; `None` where nothing is done yet."""
    plain = shown(request.META)
    if not may_be_key(plain) or not _is_small(request.META.get("CONTENT_LENGTH")):
        return None
    if "HTTP_CONTENT_ENCODING" in request.META:
        return None
    try:
        found = _accept(request, plain)
    except (InvalidInput, ValidationError):
        return None
    except Exception as error:
        return problems.handle(error, {"request": request, "view": view})
    if found is None:
        return None
    return json_response.one(found, status=201)


def _is_small(length: Any) -> bool:
    text = str(length or "")
    return text.isascii() and text.isdigit() and 0 < int(text) <= min(BODY_LIMIT, settings.MAX_BODY_BYTES)


def _accept(request: HttpRequest, plain: str) -> shapes.Shape | None:
    document = document_of(request.body)
    values = values_of(document, DeliveryRequest)
    if values.get("expires_at") is not None:
        return None  # it is held against the clock before anything is kept
    payload = values["payload"]
    trigger = Trigger(
        workflow=values["workflow"],
        payload=document.members["payload"],
        digest=digest_of(payload),
        idempotency_key=key_of(values.get("idempotency_key"), request.META.get("HTTP_IDEMPOTENCY_KEY")),
        deliver_at=values.get("deliver_at"),
    )
    tenant, key_hash = values.get("tenant"), hash_key(plain)
    kept = intake.accept_by_key(prefix=plain[:PREFIX_LENGTH], key_hash=key_hash, trigger=trigger, tenant=tenant)
    return _shape(*kept, payload) if kept is not None else None


def _shape(delivery: Delivery, trigger: Trigger, payload: Any) -> shapes.Shape:
    return shapes.delivery(delivery, workflow=trigger.workflow, tenant=trigger.tenant, attempts=(), document=payload)
