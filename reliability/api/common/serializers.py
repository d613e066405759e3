"""What requests may hold, and what responses look like to whoever reads the OpenAPI document."""

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
RATE_LIMIT = 1000


class Strict(serializers.Serializer[Any]):
    """Refuses fields that it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            raise serializers.ValidationError({name: ["Unknown field."] for name in sorted(unknown)})
        return super().to_internal_value(data)


class SlugField(serializers.CharField):
    """A workflow's or a tenant's slug."""

    def __init__(self, **options: Any) -> None:
        super().__init__(validators=[validate_slug], trim_whitespace=False, **options)


class TextField(serializers.CharField):
    """Text that is not converted from anything else, nor trimmed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class PayloadField(serializers.JSONField):
    """What n8n gets: a JSON object or array, for n8n takes no bare values."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict | list):
            raise serializers.ValidationError("The payload has to be a JSON object or array.")
        return data


def idempotency_key(value: str) -> str:
    """Return the key if it can travel as a header: 1 to 255 printable ASCII characters, no space at an end."""
    if not (0 < len(value) <= KEY_LENGTH and value.isascii() and value.isprintable() and value == value.strip()):
        raise serializers.ValidationError(
            f"An idempotency key is 1 to {KEY_LENGTH} printable ASCII characters, without a space at its ends."
        )
    return value


def key_of(in_body: str | None, in_header: str | None) -> str | None:
    """Return the idempotency key that a request brings, in its body, its header, or both."""
    if in_header is None:
        return in_body
    if in_body is not None and in_body != in_header:
        text = "The header Idempotency-Key and the field idempotency_key differ."
        raise InvalidInput(text, errors={"idempotency_key": [text]})
    return idempotency_key(in_header)


class DeliveryRequest(Strict):
    """A payload to hand to a workflow."""

    workflow = SlugField()
    tenant = SlugField(required=False)
    payload = PayloadField()
    idempotency_key = TextField(required=False, validators=[idempotency_key])
    deliver_at = serializers.DateTimeField(required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


def check_expiry(values: dict[str, Any], *, now: datetime) -> None:
    """Refuse an expiry before which nothing could be delivered."""
    expires, due = values.get("expires_at"), values.get("deliver_at") or now
    if expires is not None and expires <= max(due, now):
        raise serializers.ValidationError({"expires_at": ["It lies before the delivery could be sent."]})


class BatchRequest(Strict):
    """Up to 1,000 deliveries, all or nothing."""

    deliveries = serializers.ListField(child=DeliveryRequest(), min_length=1, max_length=BATCH_LIMIT)


class AttemptShape(serializers.Serializer[Any]):
    """One HTTP request of a delivery, with what came back."""

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


class DeliveryShape(DeliveryInList):
    """A delivery."""

    attempts = AttemptShape(many=True)


class Page(serializers.Serializer[Any]):
    """One page of a list; `next` and `previous` are the addresses of those beside it."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class DeliveryPage(Page):
    results = DeliveryInList(many=True)


class BatchShape(serializers.Serializer[Any]):
    """Deliveries in the order of the request."""

    deliveries = DeliveryShape(many=True)


class DeliveryQuery(Strict):
    """The filters of a list of deliveries."""

    workflow = SlugField(required=False)
    tenant = SlugField(required=False)
    state = serializers.ChoiceField(choices=DeliveryState.choices, required=False)
    request_id = TextField(required=False, max_length=128)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)


class DeadLetterQuery(Strict):
    """The filters of a list of dead letters, and of bulk operations on them."""

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
    """An error's words: cut where they are too long, and what cannot be stored in them replaced."""

    def to_internal_value(self, data: Any) -> str:
        return storable(super().to_internal_value(data)[:MESSAGE_LENGTH])


class DeadLetterRequest(Strict):
    """What failed for good elsewhere."""

    workflow = SlugField()
    tenant = SlugField(required=False)
    payload = PayloadField()
    error_message = MessageField()
    error_code = MessageField(required=False, allow_blank=True, max_length=200)


class DeadLetterShape(serializers.Serializer[Any]):
    """What failed for good, with its full payload."""

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
    results = DeadLetterShape(many=True)
    search_cut = serializers.BooleanField(
        required=False, help_text="Of a search: whether there are older ones whose errors were not read."
    )


class ReplayRequest(Strict):
    """With a payload, the dead letter goes out edited, under a new idempotency key.

    `via` is `execution` for n8n's own retry, which goes on from the failed node (the way for what n8n reported), and
    `webhook` for a new delivery (the way for everything else); `load_workflow` takes the workflow as it is now.
    """

    payload = PayloadField(required=False)
    via = serializers.ChoiceField(choices=Via.choices, required=False)
    load_workflow = serializers.BooleanField(required=False, default=True)
    reason = TextField(required=False, allow_blank=True, max_length=1000)


class BulkShape(serializers.Serializer[Any]):
    """A bulk operation that was started, and how many it is about. A single replay names its delivery, if it is one."""

    batch_id = serializers.UUIDField()
    count = serializers.IntegerField()
    delivery = serializers.UUIDField(required=False)


class ReasonRequest(Strict):
    """Why an operator acts."""

    reason = TextField(required=False, allow_blank=True, max_length=1000)


class ForceOpenRequest(ReasonRequest):
    until = serializers.DateTimeField(required=False, allow_null=True)


class BreakerShape(serializers.Serializer[Any]):
    """A circuit breaker: of a lane, or of the n8n instance."""

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
    """The filters of a list of breakers. A workflow or a tenant has those of its lanes."""

    workflow = SlugField(required=False)
    tenant = SlugField(required=False)
    state = serializers.ChoiceField(choices=BreakerState.choices, required=False)
    scope = serializers.ChoiceField(choices=Scope.choices, required=False)


class BreakerPage(Page):
    results = BreakerShape(many=True)


class ProblemShape(serializers.Serializer[Any]):
    """An error (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    request_id = serializers.CharField(required=False)
    errors = serializers.DictField(required=False)  # type: ignore[assignment]  # a field called so
