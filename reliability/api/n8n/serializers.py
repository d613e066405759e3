"""What n8n and its workflows may report, and what they are answered."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from reliability.api.common.serializers import SlugField, Strict, TextField
from reliability.models import ExecutionStatus, ReportState
from reliability.n8n.callbacks import STATUSES
from reliability.policies.failure import ID_LENGTH, error_text, identifier


class ErrorShape(serializers.Serializer[Any]):
    """n8n's error; what else it holds is kept, too."""

    message = serializers.CharField(required=False)
    name = serializers.CharField(required=False)


class FailedExecutionShape(serializers.Serializer[Any]):
    id = serializers.CharField(required=False)
    url = serializers.CharField(required=False)
    retryOf = serializers.CharField(required=False)  # noqa: N815  # n8n's own name
    error = ErrorShape(required=False)
    lastNodeExecuted = serializers.CharField(required=False)  # noqa: N815  # n8n's own name
    mode = serializers.CharField(required=False)


class FailedTriggerShape(serializers.Serializer[Any]):
    error = ErrorShape(required=False)
    mode = serializers.CharField(required=False)


class N8nWorkflowShape(serializers.Serializer[Any]):
    id = serializers.CharField(required=False)
    name = serializers.CharField(required=False)


class ErrorTriggerBody(serializers.Serializer[Any]):
    """The body of n8n's Error Trigger as it is: `execution` or `trigger`, and `workflow`. Other members are kept.

    `delivery_id` and `attempt` say which delivery the execution was for, where the workflow knows it;
    `request_id` (or the header `X-Request-Id`) is the id of the request that it goes back to.
    """

    execution = FailedExecutionShape(required=False)
    trigger = FailedTriggerShape(required=False)
    workflow = N8nWorkflowShape()
    delivery_id = serializers.UUIDField(required=False)
    attempt = serializers.IntegerField(required=False, min_value=1)
    tenant = SlugField(required=False)
    request_id = serializers.CharField(required=False)


@extend_schema_field({"type": ["string", "integer"]})
class ExecutionIdField(serializers.CharField):
    """An execution's id: text, as n8n has it, or a number, as other versions do."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, bool) or not isinstance(data, str | int):
            self.fail("invalid")
        return str(data).strip()


@extend_schema_field({"type": ["string", "integer", "null"]})
class UsableIdField(serializers.Field[str, Any, str, Any]):
    """An execution's id; one that is unusable counts as missing."""

    def to_internal_value(self, data: Any) -> str:
        return identifier(data)


@extend_schema_field(OpenApiTypes.ANY)
class ErrorTextField(serializers.Field[str, Any, str, Any]):
    """What went wrong, as text or as n8n's error object; cut to 10,000 characters."""

    def to_internal_value(self, data: Any) -> str:
        return error_text(data)


class IdField(serializers.UUIDField):
    """An id as text, in its usual form."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class ReportAddress(serializers.Serializer[Any]):
    """The members that are ours in an Error Trigger's body."""

    delivery_id = IdField(required=False, allow_null=True)
    attempt = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1_000_000)
    tenant = SlugField(required=False)
    request_id = TextField(required=False, max_length=1000)


class FailureReportShape(serializers.Serializer[Any]):
    """What became of a reported failure."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=ReportState.choices)
    delivery = serializers.UUIDField(allow_null=True)
    dead_letter = serializers.UUIDField(allow_null=True)
    execution_id = serializers.CharField()


class ExecutionRequest(Strict):
    """An execution's figures. With a `delivery`, they are of that delivery's; `probe` says that a permit was one."""

    workflow = SlugField()
    tenant = SlugField(required=False)
    execution_id = ExecutionIdField(max_length=ID_LENGTH)
    status = serializers.ChoiceField(choices=ExecutionStatus.choices)
    duration_ms = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=2**31 - 1)
    delivery = IdField(required=False, allow_null=True)
    probe = serializers.BooleanField(required=False, default=False)


class ExecutionShape(serializers.Serializer[Any]):
    """An execution's figures, as they are kept."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    execution_id = serializers.CharField()
    status = serializers.ChoiceField(choices=ExecutionStatus.choices)
    duration_ms = serializers.IntegerField(allow_null=True)
    delivery = serializers.UUIDField(allow_null=True)
    reported_at = serializers.DateTimeField()


class OutcomeRequest(Strict):
    """How a delivery's work ended. `attempt` is the `X-Backstop-Attempt` that the workflow was called with."""

    status = serializers.ChoiceField(choices=STATUSES)
    execution_id = UsableIdField(required=False, allow_null=True)
    error = ErrorTextField(required=False, allow_null=True)
    attempt = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1_000_000)
