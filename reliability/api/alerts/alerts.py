"""Alerts: list, show, acknowledge. Silences: list, create, end."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.alerts import check as alert_check
from reliability.api.common import pagination
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, honours_key
from reliability.api.common.serializers import ProblemSerializer, ReasonRequest
from reliability.api.common.views import PROBLEMS, View, caller_of, read
from reliability.errors import Forbidden, InvalidInput, NotFound
from reliability.models import Alert, AlertSilence

from .serializers import (
    AcknowledgeRequest,
    AlertPage,
    AlertQuery,
    AlertSerializer,
    SilencePage,
    SilenceQuery,
    SilenceRequest,
    SilenceSerializer,
    alert_representation,
    silence_representation,
)

SHOWN = {200: AlertSerializer, 404: ProblemSerializer, **PROBLEMS}
ENDED = {200: SilenceSerializer, 404: ProblemSerializer, **PROBLEMS}


class Alerts(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_alerts", parameters=[AlertQuery], responses={200: AlertPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List alerts, newest first. A tenant's key sees the alerts of that tenant."""
        wanted = pagination.filters(request, AlertQuery).validated_data
        return pagination.page(request, _visible(caller_of(request)).filter(**wanted), alert_representation)


class OneAlert(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="get_alert", responses=SHOWN)
    def get(self, request: Request, alert_id: UUID) -> Response:
        """Get an alert."""
        return Response(alert_representation(_find(alert_id, caller_of(request))))


class Acknowledge(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="acknowledge_alert", request=AcknowledgeRequest, responses={**SHOWN, 409: ProblemSerializer}
    )
    def post(self, request: Request, alert_id: UUID) -> Response:
        """Acknowledge a firing alert: Backstop sends no reminders until it resolves, or until a time."""
        caller = caller_of(request)
        values = read(request, AcknowledgeRequest)
        until = values.get("until")
        if until is not None and until <= caller.now:
            raise InvalidInput(errors={"until": ["This time is in the past."]})
        _find(alert_id, caller)
        actor = caller.actor(values.get("reason", ""))
        return Response(
            alert_representation(alert_check.acknowledge(alert_id=alert_id, actor=actor, now=caller.now, until=until))
        )


class Silences(View):
    scopes = {"GET": "read", "POST": "operate"}

    @extend_schema(
        operation_id="list_alert_silences", parameters=[SilenceQuery], responses={200: SilencePage, **PROBLEMS}
    )
    def get(self, request: Request) -> Response:
        """List silences, past ones included."""
        caller = _of_all(request)
        wanted = pagination.filters(request, SilenceQuery).validated_data
        rows = AlertSilence.objects.all()
        if "active" in wanted:
            rows = rows.filter(until__gt=caller.now) if wanted["active"] else rows.filter(until__lte=caller.now)
        return pagination.page(request, rows, silence_representation)

    @extend_schema(
        operation_id="silence_alerts",
        request=SilenceRequest,
        parameters=[KEY_HEADER],
        responses={
            201: SilenceSerializer,
            200: OpenApiResponse(SilenceSerializer, "A repeat."),
            409: ProblemSerializer,
            **PROBLEMS,
        },
    )
    @honours_key
    def post(self, request: Request) -> Response:
        """Silence an alert, a workflow, both or everything, until a time."""
        caller = _of_all(request)
        values = read(request, SilenceRequest)
        actor = caller.actor(values.pop("reason"))
        return Response(silence_representation(alert_check.silence(actor=actor, now=caller.now, **values)), status=201)


class EndSilence(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="end_alert_silence", request=ReasonRequest, responses=ENDED)
    def post(self, request: Request, silence_id: UUID) -> Response:
        """End a silence. The next check notifies about alerts that are still firing."""
        caller = _of_all(request)
        actor = caller.actor(read(request, ReasonRequest).get("reason", ""))
        return Response(
            silence_representation(alert_check.end_silence(silence_id=silence_id, actor=actor, now=caller.now))
        )


def _visible(caller: Caller) -> Any:
    return Alert.objects.filter(caller.own("tenant"))


def _find(alert_id: UUID, caller: Caller) -> Alert:
    found: Alert | None = _visible(caller).filter(pk=alert_id).first()
    if found is None:
        raise NotFound("There is no such alert.")
    return found


def _of_all(request: Request) -> Caller:
    """Return the caller. Raises `Forbidden` for a key that is limited to a tenant."""
    caller = caller_of(request)
    if caller.key.tenant:
        raise Forbidden("This API key is limited to one tenant. Silences need a key for all tenants.")
    return caller
