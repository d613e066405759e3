"""Requests and responses of claims, permits, slots, switches and the status."""

from typing import Any

from rest_framework import serializers

from reliability.api.common.serializers import ReasonRequest, SlugField, Strict, TextField, idempotency_key
from reliability.errors import InvalidInput
from reliability.models import ClaimStatus

LEASE_LIMIT = 24 * 3600
RESULT_LIMIT = 64 * 1024


class LaneQuery(Strict):
    """A lane, by its workflow and tenant."""

    workflow = SlugField()
    tenant = SlugField(required=False)


class LeaseField(serializers.IntegerField):
    """The length of a lease in seconds; 300 by default."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, default=300, min_value=1, max_value=LEASE_LIMIT, **options)


class SlotRequest(LaneQuery):
    lease_seconds = LeaseField()


class SlotSerializer(serializers.Serializer[Any]):
    """A slot of a lane's concurrency limit, held until it is released or its lease ends."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    expires_at = serializers.DateTimeField()


class PermitSerializer(serializers.Serializer[Any]):
    """A permit. If `probe` is true, report the execution's result with `probe` set; it decides for the breaker."""

    permitted = serializers.BooleanField()
    probe = serializers.BooleanField()


class ClaimRequest(Strict):
    """A Stripe event that a workflow is about to process."""

    event_id = TextField(max_length=255, validators=[idempotency_key])
    workflow = SlugField(required=False)
    tenant = SlugField(required=False)
    account = TextField(required=False, allow_blank=True, max_length=255)
    livemode = serializers.BooleanField(required=False, default=True)
    lease_seconds = LeaseField()


class ResultField(serializers.JSONField):
    """Any JSON value; later claims of the same event return it."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if len(str(value)) > RESULT_LIMIT:
            raise InvalidInput(errors={"result": [f"Must be at most {RESULT_LIMIT:,} characters."]})
        return value


class TokenRequest(Strict):
    """The fencing token from the answer to the claim."""

    fencing_token = serializers.IntegerField(min_value=1, max_value=2**62)


class CompleteRequest(TokenRequest):
    result = ResultField(required=False, allow_null=True, default=None)


class FailRequest(TokenRequest):
    error = TextField(required=False, allow_blank=True, max_length=10_000, default="")


class ClaimSerializer(serializers.Serializer[Any]):
    """A claim: processing, with a lease; or processed, with the stored result."""

    id = serializers.UUIDField()
    event_id = serializers.CharField()
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    status = serializers.ChoiceField(choices=ClaimStatus.choices)
    fencing_token = serializers.IntegerField()
    lease_until = serializers.DateTimeField()
    result = serializers.JSONField(allow_null=True)


class FlagRequest(ReasonRequest):
    enabled = serializers.BooleanField()


class FlagSerializer(serializers.Serializer[Any]):
    """A switch, which turns a part of the service off and on."""

    name = serializers.CharField()
    enabled = serializers.BooleanField()
    reason = serializers.CharField()
    changed_at = serializers.DateTimeField(allow_null=True)
    changed_by = serializers.CharField()


class DeadLetterCountSerializer(serializers.Serializer[Any]):
    workflow = serializers.CharField()
    count = serializers.IntegerField()
    oldest_at = serializers.DateTimeField()


class DeadLetterTotalsSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    oldest_at = serializers.DateTimeField(allow_null=True)
    by_workflow = DeadLetterCountSerializer(many=True)


class BacklogSerializer(serializers.Serializer[Any]):
    waiting = serializers.IntegerField()
    in_flight = serializers.IntegerField()
    oldest_seconds = serializers.FloatField(allow_null=True)


class LaneLoadSerializer(serializers.Serializer[Any]):
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    in_flight = serializers.IntegerField()
    limit = serializers.IntegerField()
    waiting = serializers.IntegerField()


class StripeSerializer(serializers.Serializer[Any]):
    last_event_at = serializers.DateTimeField(allow_null=True)
    refused_last_hour = serializers.IntegerField()


class StatusSerializer(serializers.Serializer[Any]):
    """The status of the service; with a tenant's key, of that tenant."""

    at = serializers.DateTimeField()
    breakers = serializers.DictField(child=serializers.IntegerField())
    dead_letters = DeadLetterTotalsSerializer()
    backlog = BacklogSerializer()
    lanes_at_limit = LaneLoadSerializer(many=True)
    workers_alive = serializers.IntegerField()
    flags = FlagSerializer(many=True)
    stripe = StripeSerializer()
    cron_jobs = serializers.DictField()
