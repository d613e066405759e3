"""Alerts: list, show, acknowledge; quiet periods: list, begin, end."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.alerts import check as alert_check
from reliability.api.common import pagination
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, honours_key
from reliability.api.common.serializers import ProblemShape, ReasonRequest
from reliability.api.common.views import PROBLEMS, View, caller, read
from reliability.errors import Forbidden, InvalidInput, NotFound
from reliability.models import Alert, AlertSilence

from .serializers import (
    AcknowledgeRequest,
    AlertPage,
    AlertQuery,
    AlertShape,
    SilencePage,
    SilenceQuery,
    SilenceRequest,
    SilenceShape,
    alert_shape,
    silence_shape,
)

SHOWN = {200: AlertShape, 404: ProblemShape, **PROBLEMS}
ENDED = {200: SilenceShape, 404: ProblemShape, **PROBLEMS}


class Alerts(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_alerts", parameters=[AlertQuery], responses={200: AlertPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the alerts, the newest kind first; of a tenant's key, those that are the tenant's alone."""
        wanted = pagination.filters(request, AlertQuery).validated_data
        return pagination.page(request, _visible(caller(request)).filter(**wanted), alert_shape)


class OneAlert(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="get_alert", responses=SHOWN)
    def get(self, request: Request, alert_id: UUID) -> Response:
        """Show an alert."""
        return Response(alert_shape(_find(alert_id, caller(request))))


class Acknowledge(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="acknowledge_alert", request=AcknowledgeRequest, responses={**SHOWN, 409: ProblemShape})
    def post(self, request: Request, alert_id: UUID) -> Response:
        """Take an alert that fires on: no reminders until it is over, or until a moment."""
        who = caller(request)
        values = read(request, AcknowledgeRequest)
        until = values.get("until")
        if until is not None and until <= who.now:
            raise InvalidInput(errors={"until": ["It lies in the past."]})
        _find(alert_id, who)
        actor = who.actor(values.get("reason", ""))
        return Response(alert_shape(alert_check.acknowledge(alert_id=alert_id, actor=actor, now=who.now, until=until)))


class Silences(View):
    scopes = {"GET": "read", "POST": "operate"}

    @extend_schema(
        operation_id="list_alert_silences", parameters=[SilenceQuery], responses={200: SilencePage, **PROBLEMS}
    )
    def get(self, request: Request) -> Response:
        """List the quiet periods, those of the past included."""
        who = _of_all(request)
        wanted = pagination.filters(request, SilenceQuery).validated_data
        rows = AlertSilence.objects.all()
        if "active" in wanted:
            rows = rows.filter(until__gt=who.now) if wanted["active"] else rows.filter(until__lte=who.now)
        return pagination.page(request, rows, silence_shape)

    @extend_schema(
        operation_id="silence_alerts",
        request=SilenceRequest,
        parameters=[KEY_HEADER],
        responses={201: SilenceShape, 200: OpenApiResponse(SilenceShape, "A repeat."), 409: ProblemShape, **PROBLEMS},
    )
    @honours_key
    def post(self, request: Request) -> Response:
        """Tell nothing of an alert, of a workflow, of both or of all, until a moment."""
        who = _of_all(request)
        values = read(request, SilenceRequest)
        actor = who.actor(values.pop("reason"))
        return Response(silence_shape(alert_check.silence(actor=actor, now=who.now, **values)), status=201)


class EndSilence(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="end_alert_silence", request=ReasonRequest, responses=ENDED)
    def post(self, request: Request, silence_id: UUID) -> Response:
        """End a quiet period; what fires still is told with the next check."""
        who = _of_all(request)
        actor = who.actor(read(request, ReasonRequest).get("reason", ""))
        return Response(silence_shape(alert_check.end_silence(silence_id=silence_id, actor=actor, now=who.now)))


def _visible(who: Caller) -> Any:
    return Alert.objects.filter(who.own("tenant"))


def _find(alert_id: UUID, who: Caller) -> Alert:
    found: Alert | None = _visible(who).filter(pk=alert_id).first()
    if found is None:
        raise NotFound("There is no such alert.")
    return found


def _of_all(request: Request) -> Caller:
    """Return the caller. Raises `Forbidden` where its key is one tenant's."""
    who = caller(request)
    if who.key.tenant:
        raise Forbidden("A tenant's key cannot see or change what all tenants share.")
    return who
