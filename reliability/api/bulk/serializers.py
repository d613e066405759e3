"""Requests and responses of bulk operations."""

from typing import Any

from rest_framework import serializers

from reliability.api.common.serializers import DeadLetterQuery, Page, ReasonRequest, Strict, TextField
from reliability.bulk.operations import HIGHEST_RATE, LOWEST_RATE
from reliability.models import OperationKind, OperationState


class BulkRequest(Strict):
    """A filter of dead letters. An empty filter matches every dead letter with the status `dead`."""

    filter = DeadLetterQuery()
    dry_run = serializers.BooleanField(required=False, default=False)
    reason = TextField(required=False, allow_blank=True, max_length=1000)


class BulkReplayRequest(BulkRequest):
    """A bulk replay. With `canary`, one dead letter is replayed first, and the others when it has recovered. The replay
    stops when the failure rate of the finished replays is above `stop_failure_rate` (0 to 1)."""

    rate_per_second = serializers.FloatField(required=False, min_value=LOWEST_RATE, max_value=HIGHEST_RATE)
    canary = serializers.BooleanField(required=False, default=False)
    stop_failure_rate = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1)


class DryRunSerializer(serializers.Serializer[Any]):
    """A preview: `count` dead letters match, `will` of them would be processed, and the others skipped."""

    dry_run = serializers.BooleanField()
    count = serializers.IntegerField()
    will = serializers.IntegerField()
    skipped_by = serializers.DictField(child=serializers.IntegerField())
    by_workflow = serializers.DictField(child=serializers.IntegerField())
    by_reason = serializers.DictField(child=serializers.IntegerField())
    samples = serializers.ListField(child=serializers.UUIDField())
    seconds = serializers.FloatField()


class OperationSerializer(serializers.Serializer[Any]):
    """A bulk operation with its progress.

    Of `count` matches, `done` are processed and `skipped` are skipped. Of the replays, `recovered` and `failed` have
    finished, `withdrawn` were cancelled before they were sent, and `under_way` have not finished.
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
    results = OperationSerializer(many=True)


class OperationQuery(Strict):
    """Filters of the list of bulk operations."""

    kind = serializers.ChoiceField(choices=OperationKind.choices, required=False)
    state = serializers.ChoiceField(choices=OperationState.choices, required=False)


class RateRequest(ReasonRequest):
    rate_per_second = serializers.FloatField(min_value=LOWEST_RATE, max_value=HIGHEST_RATE)
