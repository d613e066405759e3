"""Requests and responses of what guards work that others start: claims, permits, slots; and of the status."""

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
    """How long the lease runs, in seconds; five minutes where nothing is said."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, default=300, min_value=1, max_value=LEASE_LIMIT, **options)


class SlotRequest(LaneQuery):
    lease_seconds = LeaseField()


class SlotShape(serializers.Serializer[Any]):
    """A place within a lane's concurrency limit, until it is given back or its lease ends."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    expires_at = serializers.DateTimeField()


class PermitShape(serializers.Serializer[Any]):
    """Leave to go. Of a probe's execution, report how it ended: with `probe` set, it decides for the lane."""

    permitted = serializers.BooleanField()
    probe = serializers.BooleanField()


class ClaimRequest(Strict):
    """A Stripe event whose effect a workflow wants to have."""

    event_id = TextField(max_length=255, validators=[idempotency_key])
    workflow = SlugField(required=False)
    tenant = SlugField(required=False)
    account = TextField(required=False, allow_blank=True, max_length=255)
    livemode = serializers.BooleanField(required=False, default=True)
    lease_seconds = LeaseField()


class ResultField(serializers.JSONField):
    """Any JSON value, to be told to whoever claims the event later."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if len(str(value)) > RESULT_LIMIT:
            raise InvalidInput(errors={"result": [f"It is longer than {RESULT_LIMIT} characters."]})
        return value


class TokenRequest(Strict):
    """The fencing token that the claim was answered with."""

    fencing_token = serializers.IntegerField(min_value=1, max_value=2**62)


class CompleteRequest(TokenRequest):
    result = ResultField(required=False, allow_null=True, default=None)


class FailRequest(TokenRequest):
    error = TextField(required=False, allow_blank=True, max_length=10_000, default="")


class ClaimShape(serializers.Serializer[Any]):
    """A claim: processing under its lease, or processed, with the result that was stored."""

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


class FlagShape(serializers.Serializer[Any]):
    """A part of the service that can be switched off and on."""

    name = serializers.CharField()
    enabled = serializers.BooleanField()
    reason = serializers.CharField()
    changed_at = serializers.DateTimeField(allow_null=True)
    changed_by = serializers.CharField()


class DeadCountShape(serializers.Serializer[Any]):
    workflow = serializers.CharField()
    count = serializers.IntegerField()
    oldest_at = serializers.DateTimeField()


class DeadShape(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    oldest_at = serializers.DateTimeField(allow_null=True)
    by_workflow = DeadCountShape(many=True)


class BacklogShape(serializers.Serializer[Any]):
    waiting = serializers.IntegerField()
    in_flight = serializers.IntegerField()
    oldest_seconds = serializers.FloatField(allow_null=True)


class LaneShape(serializers.Serializer[Any]):
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    in_flight = serializers.IntegerField()
    limit = serializers.IntegerField()
    waiting = serializers.IntegerField()


class StripeShape(serializers.Serializer[Any]):
    last_event_at = serializers.DateTimeField(allow_null=True)
    refused_last_hour = serializers.IntegerField()


class StatusShape(serializers.Serializer[Any]):
    """One look at everything; for a tenant's key, at what is that tenant's."""

    at = serializers.DateTimeField()
    breakers = serializers.DictField(child=serializers.IntegerField())
    dead_letters = DeadShape()
    backlog = BacklogShape()
    lanes_at_limit = LaneShape(many=True)
    workers_alive = serializers.IntegerField()
    flags = FlagShape(many=True)
    stripe = StripeShape()
    cron_jobs = serializers.DictField()
