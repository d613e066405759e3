"""Serializers of requests, and of responses for the OpenAPI document."""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from reliability.bulk.replay_one import Via
from reliability.errors import InvalidInput
from reliability.formats.storable import storable
from reliability.models import (
    DeadLetterSource,
    DeadLetterStatus,
    DeliveryState,
    Scope,
    Source,
)
from reliability.models.breaker import BreakerState
from reliability.models.delivery import AttemptResult
from reliability.models.fields import validate_slug
from reliability.policies.error_codes import Reason
from reliability.policies.failure import MESSAGE_LENGTH

KEY_LENGTH = 255
BATCH_LIMIT = 1000


class Strict(serializers.Serializer[Any]):
    """Rejects unknown fields."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            raise serializers.ValidationError({name: ["Unknown field."] for name in sorted(unknown)})
        return super().to_internal_value(data)


class SlugField(serializers.CharField):
    """A workflow's or a tenant's slug."""

    def __init__(self, **options: Any) -> None:
        super().__init__(validators=[validate_slug], trim_whitespace=False, **options)


class TextField(serializers.CharField):
    """Text: other types are rejected, not converted, and white space is kept."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class PayloadField(serializers.JSONField):
    """The payload for n8n: a JSON object or array, since n8n accepts no other values."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict | list):
            raise serializers.ValidationError("The payload must be a JSON object or array.")
        return data


def idempotency_key(value: str) -> str:
    """Return the key if it is a valid header value: 1 to 255 printable ASCII characters, no space at an end."""
    if not (0 < len(value) <= KEY_LENGTH and value.isascii() and value.isprintable() and value == value.strip()):
        raise serializers.ValidationError(
            f"Must be 1 to {KEY_LENGTH} printable ASCII characters, without a leading or trailing space."
        )
    return value


def key_of(in_body: str | None, in_header: str | None) -> str | None:
    """Return the idempotency key of a request: from its body, its header, or both."""
    if in_header is None:
        return in_body
    if in_body is not None and in_body != in_header:
        text = "The header Idempotency-Key and the field idempotency_key differ. Send only one of them."
        raise InvalidInput(text, errors={"idempotency_key": [text]})
    return idempotency_key(in_header)


class DeliveryRequest(Strict):
    """A payload for a workflow. Backstop sends it from `deliver_at` on, and not after `expires_at`."""

    workflow = SlugField()
    tenant = SlugField(required=False)
    payload = PayloadField()
    idempotency_key = TextField(required=False, validators=[idempotency_key])
    deliver_at = serializers.DateTimeField(required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


def check_expiry(values: dict[str, Any], *, now: datetime) -> None:
    """Raise `ValidationError` for an expiry before the delivery could be sent."""
    expires, due = values.get("expires_at"), values.get("deliver_at") or now
    if expires is not None and expires <= max(due, now):
        raise serializers.ValidationError({"expires_at": ["Must be later than now and later than deliver_at."]})


class BatchRequest(Strict):
    """Up to 1,000 deliveries; Backstop accepts all or none."""

    deliveries = serializers.ListField(child=DeliveryRequest(), min_length=1, max_length=BATCH_LIMIT)


class AttemptSerializer(serializers.Serializer[Any]):
    """One HTTP request of a delivery, with its response."""

    number = serializers.IntegerField()
    result = serializers.ChoiceField(choices=AttemptResult.choices)
    code = serializers.CharField()
    error = serializers.CharField()
    status_code = serializers.IntegerField(allow_null=True)
    started_at = serializers.DateTimeField()
    duration_ms = serializers.IntegerField()
    response_body = serializers.CharField()
    probe = serializers.BooleanField()
    worker = serializers.CharField()


class DeliveryInList(serializers.Serializer[Any]):
    """A delivery, without its attempts."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    idempotency_key = serializers.CharField()
    state = serializers.ChoiceField(choices=DeliveryState.choices)
    payload = serializers.JSONField()
    attempt_count = serializers.IntegerField()
    due_at = serializers.DateTimeField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    replay_of = serializers.UUIDField(allow_null=True)
    source = serializers.ChoiceField(choices=Source.choices)  # type: ignore[assignment]  # a field called so
    request_id = serializers.CharField()
    last_error = serializers.CharField()


class DeliverySerializer(DeliveryInList):
    """A delivery, with its attempts."""

    attempts = AttemptSerializer(many=True)


class Page(serializers.Serializer[Any]):
    """One page of a list; `next` and `previous` are the URLs of the neighbouring pages."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class DeliveryPage(Page):
    results = DeliveryInList(many=True)


class BatchSerializer(serializers.Serializer[Any]):
    """The deliveries, in the order of the request."""

    deliveries = DeliverySerializer(many=True)


class NoFilters(Strict):
    """No filters."""


class DeliveryQuery(Strict):
    """Filters of the list of deliveries."""

    workflow = SlugField(required=False)
    tenant = SlugField(required=False)
    state = serializers.ChoiceField(choices=DeliveryState.choices, required=False)
    request_id = TextField(required=False, max_length=128)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)


class DeadLetterQuery(Strict):
    """Filters of dead letters, for their list and for bulk operations."""

    workflow = SlugField(required=False)
    tenant = SlugField(required=False)
    status = serializers.ChoiceField(choices=DeadLetterStatus.choices, required=False)
    error_code = TextField(required=False, max_length=200)
    reason = serializers.ChoiceField(choices=[(str(one), one.label) for one in Reason], required=False)
    fingerprint = TextField(required=False, max_length=64)
    source = serializers.ChoiceField(choices=DeadLetterSource.choices, required=False)  # type: ignore[assignment]  # a field called so
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    search = TextField(required=False, max_length=200)


class MessageField(TextField):
    """An error message: truncated if too long; characters that PostgreSQL cannot store are replaced."""

    def to_internal_value(self, data: Any) -> str:
        return storable(super().to_internal_value(data)[:MESSAGE_LENGTH])


class DeadLetterRequest(Strict):
    """Work that failed for good in another system."""

    workflow = SlugField()
    tenant = SlugField(required=False)
    payload = PayloadField()
    error_message = MessageField()
    error_code = MessageField(required=False, allow_blank=True, max_length=200)


class DeadLetterSerializer(serializers.Serializer[Any]):
    """A dead letter, with its full payload."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    source = serializers.ChoiceField(choices=DeadLetterSource.choices)  # type: ignore[assignment]  # a field called so
    payload = serializers.JSONField()
    error_code = serializers.CharField()
    error_message = serializers.CharField()
    reason = serializers.CharField()
    fingerprint = serializers.CharField()
    retry_count = serializers.IntegerField()
    status = serializers.ChoiceField(choices=DeadLetterStatus.choices)
    delivery = serializers.UUIDField(allow_null=True)
    execution_id = serializers.CharField()
    execution_url = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class DeadLetterPage(Page):
    results = DeadLetterSerializer(many=True)
    search_cut = serializers.BooleanField(
        required=False, help_text="With `search`: whether older dead letters exist that were not searched."
    )


class ReplayRequest(Strict):
    """A replay. With `payload`, Backstop sends that instead, with a new idempotency key.

    `via` is `execution` for n8n's own retry from the failed node (the default for failures that n8n reported), or
    `webhook` for a new delivery (the default otherwise). With `load_workflow`, n8n retries with the current version of
    the workflow.
    """

    payload = PayloadField(required=False)
    via = serializers.ChoiceField(choices=Via.choices, required=False)
    load_workflow = serializers.BooleanField(required=False, default=True)
    reason = TextField(required=False, allow_blank=True, max_length=1000)


class StartedOperationSerializer(serializers.Serializer[Any]):
    """A started bulk operation with its count. A single replay has its `delivery`, unless n8n retries the execution."""

    batch_id = serializers.UUIDField()
    count = serializers.IntegerField()
    delivery = serializers.UUIDField(required=False)


class ReasonRequest(Strict):
    """The reason for an action, recorded in the audit log."""

    reason = TextField(required=False, allow_blank=True, max_length=1000)


class ForceOpenRequest(ReasonRequest):
    until = serializers.DateTimeField(required=False, allow_null=True)


class BreakerSerializer(serializers.Serializer[Any]):
    """A circuit breaker of a lane, or of the n8n instance. `waiting` counts the deliveries that wait behind it."""

    id = serializers.UUIDField()
    workflow = serializers.CharField(allow_null=True)
    tenant = serializers.CharField(allow_null=True)
    scope = serializers.ChoiceField(choices=Scope.choices)
    state = serializers.ChoiceField(choices=BreakerState.choices)
    reason = serializers.CharField()
    failures = serializers.IntegerField()
    threshold = serializers.IntegerField()
    opened_at = serializers.DateTimeField(allow_null=True)
    next_probe_at = serializers.DateTimeField(allow_null=True)
    waiting = serializers.IntegerField()


class BreakerQuery(Strict):
    """Filters of the list of breakers. `workflow` and `tenant` select breakers of lanes."""

    workflow = SlugField(required=False)
    tenant = SlugField(required=False)
    state = serializers.ChoiceField(choices=BreakerState.choices, required=False)
    scope = serializers.ChoiceField(choices=Scope.choices, required=False)


class BreakerPage(Page):
    results = BreakerSerializer(many=True)


class ProblemSerializer(serializers.Serializer[Any]):
    """An error (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    request_id = serializers.CharField(required=False)
    errors = serializers.DictField(required=False)  # type: ignore[assignment]  # a field called so
