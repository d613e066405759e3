"""Workflows: list, show, write, pause, resume. A workflow is written as its file is: whole."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.authentication import Caller
from reliability.api.common.serializers import Page, ProblemShape, ReasonRequest, Strict, TextField
from reliability.api.common.views import PROBLEMS, View, caller, document_of, of_all_tenants, read
from reliability.delivery import control
from reliability.errors import InvalidInput
from reliability.models import Workflow
from reliability.models.policy import Completion, OnUnknownOutcome
from reliability.n8n import workflow_files
from reliability.setup import workflow_secrets


class PauseRequest(ReasonRequest):
    """Why, and until when; without an end, until it is resumed."""

    until = serializers.DateTimeField(required=False, allow_null=True)


class WorkflowShape(serializers.Serializer[Any]):
    """A workflow, and whether it is held by hand."""

    workflow = serializers.CharField()
    name = serializers.CharField()
    paused = serializers.BooleanField()
    paused_reason = serializers.CharField()
    paused_until = serializers.DateTimeField(allow_null=True)


class WorkflowPage(Page):
    results = WorkflowShape(many=True)


class RetryPolicy(serializers.Serializer[Any]):
    max_retries = serializers.IntegerField(required=False, allow_null=True)
    base_delay_ms = serializers.IntegerField(required=False, allow_null=True)
    max_delay_ms = serializers.IntegerField(required=False, allow_null=True)
    jitter_factor = serializers.FloatField(required=False, allow_null=True)


class WorkflowDocument(serializers.Serializer[Any]):
    """A workflow's file, and why it is written. `tenants` holds overrides of the policy by tenant."""

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


class WorkflowWithDocument(WorkflowShape):
    """A workflow, with its document as `export_workflows` writes it."""

    document = serializers.DictField()


class SecretsRequest(ReasonRequest):
    auth_value = TextField(required=False, allow_blank=True, max_length=10_000, write_only=True)
    signing_secret = TextField(required=False, allow_blank=True, max_length=1000, write_only=True)


class NoFilters(Strict):
    """A list without filters."""


PAUSING = "pause or resume what all tenants share"
ACTED = {200: WorkflowShape, 404: ProblemShape, **PROBLEMS}


class Workflows(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_workflows", responses={200: WorkflowPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the workflows; for a tenant's key, those that the tenant has used."""
        pagination.filters(request, NoFilters)
        own = caller(request).own("lanes__tenant")
        return pagination.page(request, Workflow.objects.filter(own), lambda one: _shape(one, caller(request)))


class OneWorkflow(View):
    scopes = {"GET": "read", "PUT": "operate"}

    @extend_schema(operation_id="get_workflow", responses={200: WorkflowWithDocument, 404: ProblemShape, **PROBLEMS})
    def get(self, request: Request, workflow: str) -> Response:
        """Show a workflow, with the document that its file would hold."""
        who = of_all_tenants(request, "see a policy that says something of all tenants")
        return Response(_with_document(workflow, who))

    @extend_schema(
        operation_id="put_workflow",
        request=WorkflowDocument,
        responses={200: WorkflowWithDocument, 201: WorkflowWithDocument, 409: ProblemShape, **PROBLEMS},
    )
    def put(self, request: Request, workflow: str) -> Response:
        """Make a workflow, or bring it in line with a document, as `import_workflows` does with its file.

        What the document leaves out goes back to the environment's value. It concerns all tenants.
        """
        who = of_all_tenants(request, "write what all tenants share")
        reason, document = document_of(request)
        done = workflow_files.put(slug=workflow, document=document, actor=who.actor(reason), now=who.now)
        return Response(_with_document(workflow, who), status=201 if done.result == "created" else 200)


class Secrets(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="set_workflow_secrets", request=SecretsRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Keep a workflow's secrets; they are never answered with. An empty one takes the kept one away."""
        who = of_all_tenants(request, "write what all tenants share")
        values = read(request, SecretsRequest)
        actor = who.actor(values.pop("reason", ""))
        found = control.workflow_id_of(slug=workflow)
        done = workflow_secrets.keep(workflow_id=found, values=values, actor=actor, now=who.now)
        return Response(_shape(done, who))


class Pause(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="pause_workflow", request=PauseRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Let a workflow's deliveries wait, until a moment or until it is resumed. It concerns all tenants."""
        who = of_all_tenants(request, PAUSING)
        values = read(request, PauseRequest)
        until = values.get("until")
        if until is not None and until <= who.now:
            raise InvalidInput(errors={"until": ["It lies in the past."]})
        actor = who.actor(values.get("reason", ""))
        done = control.pause(workflow_id=control.workflow_id_of(slug=workflow), actor=actor, now=who.now, until=until)
        return Response(_shape(done, who))


class Resume(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="resume_workflow", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Let a paused workflow's deliveries go on."""
        who = of_all_tenants(request, PAUSING)
        actor = who.actor(read(request, ReasonRequest).get("reason", ""))
        done = control.resume(workflow_id=control.workflow_id_of(slug=workflow), actor=actor, now=who.now)
        return Response(_shape(done, who))


def _with_document(slug: str, who: Caller) -> dict[str, Any]:
    found = Workflow.objects.get(pk=control.workflow_id_of(slug=slug))
    return {**_shape(found, who), "document": workflow_files.dump(workflows=[found])[0]}


def _shape(one: Workflow, who: Caller) -> dict[str, Any]:
    """Return a workflow; a pause that is over is none."""
    paused = one.is_paused(now=who.now)
    return {
        "workflow": one.slug,
        "name": one.name,
        "paused": paused,
        "paused_reason": one.paused_reason if paused else "",
        "paused_until": one.paused_until if paused else None,
    }
