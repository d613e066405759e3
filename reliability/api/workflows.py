"""Workflows: list, pause, resume. What they are is written by the console and by `import_workflows`."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.errors import Forbidden, InvalidInput
from reliability.models import Workflow
from reliability.pipeline import control

from . import pages
from .authentication import Caller
from .serializers import ProblemShape, ReasonRequest, Strict
from .views import PROBLEMS, View, caller, read


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


class WorkflowPage(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = WorkflowShape(many=True)


class NoFilters(Strict):
    """A list without filters."""


ACTED = {200: WorkflowShape, 404: ProblemShape, **PROBLEMS}


class Workflows(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_workflows", responses={200: WorkflowPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the workflows; for a tenant's key, those that the tenant has used."""
        pages.filters(request, NoFilters)
        own = caller(request).own("lanes__tenant")
        return pages.page(request, Workflow.objects.filter(own), lambda one: _shape(one, caller(request)))


class Pause(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="pause_workflow", request=PauseRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Let a workflow's deliveries wait, until a moment or until it is resumed. It concerns all tenants."""
        who = _of_all_tenants(request)
        values = read(request, PauseRequest)
        until = values.get("until")
        if until is not None and until <= who.now:
            raise InvalidInput(errors={"until": ["It lies in the past."]})
        hand = who.hand(values.get("reason", ""))
        done = control.pause(workflow_id=control.named(slug=workflow), hand=hand, now=who.now, until=until)
        return Response(_shape(done, who))


class Resume(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="resume_workflow", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, workflow: str) -> Response:
        """Let a paused workflow's deliveries go on."""
        who = _of_all_tenants(request)
        hand = who.hand(read(request, ReasonRequest).get("reason", ""))
        done = control.resume(workflow_id=control.named(slug=workflow), hand=hand, now=who.now)
        return Response(_shape(done, who))


def _of_all_tenants(request: Request) -> Caller:
    who = caller(request)
    if who.key.tenant:
        raise Forbidden("A tenant's key cannot pause or resume what all tenants share.")
    return who


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
