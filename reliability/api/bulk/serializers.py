"""What bulk operations take and show."""

from typing import Any

from rest_framework import serializers

from reliability.api.common.serializers import DeadLetterQuery, Page, ReasonRequest, Strict, TextField
from reliability.bulk.operations import HIGHEST_RATE, LOWEST_RATE
from reliability.models import OperationKind, OperationState


class BulkRequest(Strict):
    """All dead letters that the filter matches. An empty filter matches every one that is dead."""

    filter = DeadLetterQuery()
    dry_run = serializers.BooleanField(required=False, default=False)
    reason = TextField(required=False, allow_blank=True, max_length=1000)


class BulkReplayRequest(BulkRequest):
    """At a rate. With `canary` one goes first, and the others once it has recovered; above `stop_failure_rate` (0 to
    1) of those that ended, failures stop it."""

    rate_per_second = serializers.FloatField(required=False, min_value=LOWEST_RATE, max_value=HIGHEST_RATE)
    canary = serializers.BooleanField(required=False, default=False)
    stop_failure_rate = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1)


class DryRunShape(serializers.Serializer[Any]):
    """What the operation would be about: `count` match, `will` of them are acted on, the others passed over."""

    dry_run = serializers.BooleanField()
    count = serializers.IntegerField()
    will = serializers.IntegerField()
    skipped_by = serializers.DictField(child=serializers.IntegerField())
    by_workflow = serializers.DictField(child=serializers.IntegerField())
    by_reason = serializers.DictField(child=serializers.IntegerField())
    samples = serializers.ListField(child=serializers.UUIDField())
    seconds = serializers.FloatField()


class OperationShape(serializers.Serializer[Any]):
    """How far a bulk operation has come.

    Of `count`, `done` were acted on and `skipped` passed over. Of the replays, `recovered` and `failed` have ended,
    `withdrawn` were called off before they were sent, and `under_way` have not ended yet.
    """

    batch_id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=OperationKind.choices)
    state = serializers.ChoiceField(choices=OperationState.choices)
    filter = serializers.DictField()
    cutoff = serializers.DateTimeField()
    count = serializers.IntegerField()
    done = serializers.IntegerField()
    skipped = serializers.IntegerField()
    skipped_by = serializers.DictField(child=serializers.IntegerField())
    recovered = serializers.IntegerField()
    failed = serializers.IntegerField()
    withdrawn = serializers.IntegerField()
    under_way = serializers.IntegerField()
    rate_per_second = serializers.FloatField()
    canary = serializers.BooleanField()
    stop_failure_rate = serializers.FloatField(allow_null=True)
    note = serializers.CharField()
    actor = serializers.CharField()
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class OperationPage(Page):
    results = OperationShape(many=True)


class OperationQuery(Strict):
    """The filters of a list of bulk operations."""

    kind = serializers.ChoiceField(choices=OperationKind.choices, required=False)
    state = serializers.ChoiceField(choices=OperationState.choices, required=False)


class RateRequest(ReasonRequest):
    rate_per_second = serializers.FloatField(min_value=LOWEST_RATE, max_value=HIGHEST_RATE)
