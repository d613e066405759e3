"""Requests and responses of the reports from n8n and its workflows."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from reliability.api.common.serializers import SlugField, Strict, TextField
from reliability.models import ExecutionStatus, ReportState
from reliability.n8n.callbacks import STATUSES
from reliability.policies.failure import ID_LENGTH, error_text, identifier


class ErrorSerializer(serializers.Serializer[Any]):
    """n8n's error object; Backstop stores its other members too."""

    message = serializers.CharField(required=False)
    name = serializers.CharField(required=False)


class FailedExecutionSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(required=False)
    url = serializers.CharField(required=False)
    retryOf = serializers.CharField(required=False)  # noqa: N815  # n8n's own name
    error = ErrorSerializer(required=False)
    lastNodeExecuted = serializers.CharField(required=False)  # noqa: N815  # n8n's own name
    mode = serializers.CharField(required=False)


class FailedTriggerSerializer(serializers.Serializer[Any]):
    error = ErrorSerializer(required=False)
    mode = serializers.CharField(required=False)


class N8nWorkflowSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(required=False)
    name = serializers.CharField(required=False)


class ErrorTriggerBody(serializers.Serializer[Any]):
    """The body of n8n's Error Trigger: `execution` or `trigger`, and `workflow`. Backstop stores other members too.

    `delivery_id` and `attempt` name the delivery of the execution, if the workflow knows it; `request_id` (or the
    header `X-Request-Id`) is the id of the original request.
    """

    execution = FailedExecutionSerializer(required=False)
    trigger = FailedTriggerSerializer(required=False)
    workflow = N8nWorkflowSerializer()
    delivery_id = serializers.UUIDField(required=False)
    attempt = serializers.IntegerField(required=False, min_value=1)
    tenant = SlugField(required=False)
    request_id = serializers.CharField(required=False)


@extend_schema_field({"type": ["string", "integer"]})
class ExecutionIdField(serializers.CharField):
    """The id of an execution: text or a number, depending on the version of n8n."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, bool) or not isinstance(data, str | int):
            self.fail("invalid")
        return str(data).strip()


@extend_schema_field({"type": ["string", "integer", "null"]})
class UsableIdField(serializers.Field[str, Any, str, Any]):
    """The id of an execution; an invalid one counts as missing."""

    def to_internal_value(self, data: Any) -> str:
        return identifier(data)


@extend_schema_field(OpenApiTypes.ANY)
class ErrorTextField(serializers.Field[str, Any, str, Any]):
    """The error, as text or as n8n's error object; truncated to 10,000 characters."""

    def to_internal_value(self, data: Any) -> str:
        return error_text(data)


class IdField(serializers.UUIDField):
    """A UUID as text."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class ReportAddress(serializers.Serializer[Any]):
    """The members of an Error Trigger's body that Backstop defines."""

    delivery_id = IdField(required=False, allow_null=True)
    attempt = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1_000_000)
    tenant = SlugField(required=False)
    request_id = TextField(required=False, max_length=1000)


class FailureReportSerializer(serializers.Serializer[Any]):
    """The result of a reported failure: its delivery or its dead letter."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=ReportState.choices)
    delivery = serializers.UUIDField(allow_null=True)
    dead_letter = serializers.UUIDField(allow_null=True)
    execution_id = serializers.CharField()


class ExecutionRequest(Strict):
    """An execution's figures, optionally of a `delivery`; `probe` repeats the `probe` of the permit."""

    workflow = SlugField()
    tenant = SlugField(required=False)
    execution_id = ExecutionIdField(max_length=ID_LENGTH)
    status = serializers.ChoiceField(choices=ExecutionStatus.choices)
    duration_ms = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=2**31 - 1)
    delivery = IdField(required=False, allow_null=True)
    probe = serializers.BooleanField(required=False, default=False)


class ExecutionSerializer(serializers.Serializer[Any]):
    """An execution's stored figures."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    execution_id = serializers.CharField()
    status = serializers.ChoiceField(choices=ExecutionStatus.choices)
    duration_ms = serializers.IntegerField(allow_null=True)
    delivery = serializers.UUIDField(allow_null=True)
    reported_at = serializers.DateTimeField()


class OutcomeRequest(Strict):
    """The outcome of a delivery. `attempt` is the header `X-Backstop-Attempt` of the call to the workflow."""

    status = serializers.ChoiceField(choices=STATUSES)
    execution_id = UsableIdField(required=False, allow_null=True)
    error = ErrorTextField(required=False, allow_null=True)
    attempt = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1_000_000)
