"""Workflows: list, get, put, set secrets, pause, resume. A PUT replaces the whole policy, as an import does."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.authentication import Caller
from reliability.api.common.serializers import NoFilters, Page, ProblemSerializer, ReasonRequest, TextField
from reliability.api.common.views import PROBLEMS, View, caller_of, document_of, of_all_tenants, read
from reliability.delivery import control
from reliability.errors import InvalidInput
from reliability.models import Workflow
from reliability.models.policy import Completion, OnUnknownOutcome
from reliability.n8n import workflow_files
from reliability.setup import workflow_secrets


class PauseRequest(ReasonRequest):
    """`until` ends the pause; without it, the workflow stays paused until it is resumed."""

    until = serializers.DateTimeField(required=False, allow_null=True)


class WorkflowSerializer(serializers.Serializer[Any]):
    """A workflow, and whether it is paused."""

    workflow = serializers.CharField()
    name = serializers.CharField()
    paused = serializers.BooleanField()
    paused_reason = serializers.CharField()
    paused_until = serializers.DateTimeField(allow_null=True)


class WorkflowPage(Page):
    results = WorkflowSerializer(many=True)


class RetryPolicy(serializers.Serializer[Any]):
    max_retries = serializers.IntegerField(required=False, allow_null=True)
    base_delay_ms = serializers.IntegerField(required=False, allow_null=True)
    max_delay_ms = serializers.IntegerField(required=False, allow_null=True)
    jitter_factor = serializers.FloatField(required=False, allow_null=True)


class WorkflowDocument(serializers.Serializer[Any]):
    """A workflow policy, and the reason for the change. `tenants` holds overrides by tenant."""

    reason = serializers.CharField(required=False)
    name = serializers.CharField(required=False)
    path = serializers.CharField()
    slug = serializers.CharField(required=False)
    retry_policy = RetryPolicy(required=False)
    concurrency_limit = serializers.IntegerField(required=False, allow_null=True)
    timeout_ms = serializers.IntegerField(required=False, allow_null=True)
    circuit_breaker_threshold = serializers.IntegerField(required=False, allow_null=True)
    circuit_breaker_window_ms = serializers.IntegerField(required=False, allow_null=True)
    circuit_breaker_recovery_ms = serializers.IntegerField(required=False, allow_null=True)
    minimum_failure_rate = serializers.FloatField(required=False, allow_null=True)
    rate_limit_per_minute = serializers.IntegerField(required=False, allow_null=True)
    completion = serializers.ChoiceField(choices=Completion.choices, required=False)
    callback_timeout_ms = serializers.IntegerField(required=False, allow_null=True)
    on_unknown_outcome = serializers.ChoiceField(choices=OnUnknownOutcome.choices, required=False)
    skip_unchanged = serializers.BooleanField(required=False)
    stripe_events = serializers.ListField(child=serializers.CharField(), required=False)
    auth_header = serializers.CharField(required=False)
    paused = serializers.BooleanField(required=False)
    tenants = serializers.DictField(required=False)


class WorkflowWithDocument(WorkflowSerializer):
    """A workflow, with its document as `export_workflows` writes it."""

    document = serializers.DictField()


class SecretsRequest(ReasonRequest):
    auth_value = TextField(required=False, allow_blank=True, max_length=10_000, write_only=True)
    signing_secret = TextField(required=False, allow_blank=True, max_length=1000, write_only=True)


PAUSING = "pause or resume workflows"
ACTED = {200: WorkflowSerializer, 404: ProblemSerializer, **PROBLEMS}


class Workflows(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_workflows", responses={200: WorkflowPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List workflows; with a tenant's key, those that the tenant has used."""
        pagination.filters(request, NoFilters)
        own = caller_of(request).own("lanes__tenant")
        return pagination.page(
            request, Workflow.objects.filter(own), lambda one: _representation(one, caller_of(request))
        )


class OneWorkflow(View):
    scopes = {"GET": "read", "PUT": "operate"}

    @extend_schema(
        operation_id="get_workflow", responses={200: WorkflowWithDocument, 404: ProblemSerializer, **PROBLEMS}
    )
    def get(self, request: Request, workflow: str) -> Response:
        """Get a workflow, with its document as `export_workflows` writes it."""
        caller = of_all_tenants(request, "read workflow policies")
        return Response(_with_document(workflow, caller))

    @extend_schema(
        operation_id="put_workflow",
        request=WorkflowDocument,
        responses={200: WorkflowWithDocument, 201: WorkflowWithDocument, 409: ProblemSerializer, **PROBLEMS},
    )
    def put(self, request: Request, workflow: str) -> Response:
        """Create or replace a workflow, as `import_workflows` does. Needs a key for all tenants.

        Fields that the document omits go back to the values of the environment.
        """
        caller = of_all_tenants(request, "change workflows")
        reason, document = document_of(request)
        done = workflow_files.put(slug=workflow, document=document, actor=caller.actor(reason), now=caller.now)
        return Response(_with_document(workflow, caller), status=201 if done.result == "created" else 200)


class Secrets(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="set_workflow_secrets", request=SecretsRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Set a workflow's secrets; an empty value removes one. No answer contains them."""
        caller = of_all_tenants(request, "change workflows")
        values = read(request, SecretsRequest)
        actor = caller.actor(values.pop("reason", ""))
        found = control.workflow_id_of(slug=workflow)
        done = workflow_secrets.keep(workflow_id=found, values=values, actor=actor, now=caller.now)
        return Response(_representation(done, caller))


class Pause(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="pause_workflow", request=PauseRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Pause a workflow for all tenants, until a time or until it is resumed. Its deliveries wait."""
        caller = of_all_tenants(request, PAUSING)
        values = read(request, PauseRequest)
        until = values.get("until")
        if until is not None and until <= caller.now:
            raise InvalidInput(errors={"until": ["This time is in the past."]})
        actor = caller.actor(values.get("reason", ""))
        done = control.pause(
            workflow_id=control.workflow_id_of(slug=workflow), actor=actor, now=caller.now, until=until
        )
        return Response(_representation(done, caller))


class Resume(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="resume_workflow", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Resume a paused workflow."""
        caller = of_all_tenants(request, PAUSING)
        actor = caller.actor(read(request, ReasonRequest).get("reason", ""))
        done = control.resume(workflow_id=control.workflow_id_of(slug=workflow), actor=actor, now=caller.now)
        return Response(_representation(done, caller))


def _with_document(slug: str, caller: Caller) -> dict[str, Any]:
    found = Workflow.objects.get(pk=control.workflow_id_of(slug=slug))
    return {**_representation(found, caller), "document": workflow_files.dump(workflows=[found])[0]}


def _representation(one: Workflow, caller: Caller) -> dict[str, Any]:
    """Return a workflow; a pause whose end has passed counts as none."""
    paused = one.is_paused(now=caller.now)
    return {
        "workflow": one.slug,
        "name": one.name,
        "paused": paused,
        "paused_reason": one.paused_reason if paused else "",
        "paused_until": one.paused_until if paused else None,
    }
