"""Reports of n8n: failed executions, execution figures, and outcomes of deliveries."""

import logging
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import representations
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import HEADER, REPLAYED, claimed, knows_repeats
from reliability.api.common.parsers import LenientJSONParser
from reliability.api.common.serializers import DeliverySerializer, ProblemSerializer
from reliability.api.common.views import PROBLEMS, View, caller_of, read
from reliability.api.delivery.deliveries import find
from reliability.core import request_context
from reliability.core.lock_waits import deadlocks_retried
from reliability.delivery import idempotency
from reliability.errors import BackstopError
from reliability.models import Execution, FailureReport
from reliability.n8n import callbacks, execution_reports, failure_reports
from reliability.n8n.callbacks import Completion
from reliability.n8n.execution_reports import ExecutionReport
from reliability.n8n.failure_reports import IncomingFailure
from reliability.policies import failure

from .serializers import (
    ErrorTriggerBody,
    ExecutionRequest,
    ExecutionSerializer,
    FailureReportSerializer,
    OutcomeRequest,
    ReportAddress,
)

OWN_MEMBERS = ("delivery_id", "attempt", "tenant", "request_id")
ADDRESS = [
    OpenApiParameter("X-Backstop-Delivery", str, OpenApiParameter.HEADER, description="As `delivery_id`."),
    OpenApiParameter("X-Backstop-Attempt", int, OpenApiParameter.HEADER, description="As `attempt`."),
]
REPORT_KEY = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="A repeat with the same key returns the first answer. Not used if the report names an execution:"
    " Backstop stores each execution once, by its id.",
)

logger = logging.getLogger(__name__)


class FailedExecutions(View):
    scopes = {"POST": "report"}
    parser_classes = [LenientJSONParser]

    @extend_schema(
        operation_id="report_failed_execution",
        request=ErrorTriggerBody,
        parameters=[*ADDRESS, REPORT_KEY],
        responses={
            201: FailureReportSerializer,
            200: OpenApiResponse(
                FailureReportSerializer, "This execution was reported before, or the key is a repeat."
            ),
            404: OpenApiResponse(ProblemSerializer, "The delivery belongs to another tenant; nothing was stored."),
            409: OpenApiResponse(ProblemSerializer, "The key was used with another report; nothing was stored."),
            413: ProblemSerializer,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Report a failed execution, with the body of n8n's Error Trigger as it is.

        Backstop adds it to its delivery, or creates a dead letter. Nobody sends a report again: characters that cannot
        be stored are replaced, and invalid fields count as missing.
        """
        incoming, now = _incoming(request, caller_of(request)), caller_of(request).now
        if incoming.failure.execution_id:
            report, created = failure_reports.ingest(incoming=incoming, now=now)
            return Response(_report_representation(report), status=201 if created else 200)
        return _ingest_with_key(request, incoming, now)


@deadlocks_retried
def _ingest_with_key(request: Request, incoming: IncomingFailure, now: datetime) -> Response:
    """Store a report that names no execution: only the request's idempotency key can identify a repeat."""
    with claimed(request, **_address(request)) as place:
        if place.first is not None:
            return Response(_report_representation(idempotency.report_of(place.first)), headers=REPLAYED)
        report, created = failure_reports.ingest(incoming=incoming, now=now)
        place.keep(row_ids=[report.pk])
    return Response(_report_representation(report), status=201 if created else 200)


class Executions(View):
    scopes = {"POST": "report"}

    @extend_schema(
        operation_id="report_execution",
        request=ExecutionRequest,
        responses={
            201: ExecutionSerializer,
            200: OpenApiResponse(ExecutionSerializer, "This execution was reported before."),
            404: ProblemSerializer,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Report an execution's figures. Without a `delivery`, its result also counts for the breaker of the lane."""
        caller = caller_of(request)
        values = read(request, ExecutionRequest)
        found = ExecutionReport(
            workflow=values["workflow"],
            tenant=caller.tenant_for(values.get("tenant")),
            execution_id=values["execution_id"],
            status=values["status"],
            duration_ms=values.get("duration_ms"),
            delivery_id=values.get("delivery"),
            probe=values["probe"],
        )
        kept, created = execution_reports.record(report=found, now=caller.now)
        return Response(_execution_representation(kept), status=201 if created else 200)


class Outcome(View):
    scopes = {"POST": "report"}
    parser_classes = [LenientJSONParser]

    @extend_schema(
        operation_id="report_outcome",
        request=OutcomeRequest,
        responses={200: DeliverySerializer, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    @knows_repeats
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Report the outcome of a delivery; repeating the same report changes nothing."""
        caller = caller_of(request)
        values = read(request, OutcomeRequest)
        find(delivery_id, caller)
        completion = Completion(
            succeeded=values["status"] == "succeeded",
            execution_id=values.get("execution_id") or "",
            error=values.get("error") or "",
            attempt=values.get("attempt"),
        )
        done = callbacks.report(delivery_id=delivery_id, completion=completion, now=caller.now)
        return Response(representations.delivery_of(done, attempts=done.attempts.order_by("id")))


def _incoming(request: Request, caller: Caller) -> IncomingFailure:
    body = _body(request)
    address = _address(request)
    found = failure.read_body(body)
    request_context.use_body_id(address.get("request_id", ""))
    return IncomingFailure(
        failure=found,
        report=failure.shorten({name: value for name, value in body.items() if name not in address and value != ""}),
        tenant=caller.key.tenant or "",
        for_tenant=caller.tenant_for(address.get("tenant")),
        delivery_id=address.get("delivery_id"),
        attempt=address.get("attempt"),
    )


def _body(request: Request) -> dict[str, Any]:
    """Return the body. An unreadable report is lost, so it is logged."""
    try:
        body: dict[str, Any] = request.data
    except BackstopError as error:
        length = request.META.get("CONTENT_LENGTH", "")
        logger.warning("failure_report_unreadable", extra={"code": error.code, "length": length})
        raise
    return body


def _address(request: Request) -> dict[str, Any]:
    """Return the members that identify the delivery, from body or headers; empty and invalid ones are ignored."""
    given = {name: request.data[name] for name in OWN_MEMBERS if request.data.get(name) not in (None, "")}
    for name, header in (("delivery_id", "X-Backstop-Delivery"), ("attempt", "X-Backstop-Attempt")):
        if value := request.headers.get(header, "").strip():
            given.setdefault(name, value)
    fields = ReportAddress().fields
    found = {}
    for name, value in given.items():
        with suppress(ValidationError):
            found[name] = fields[name].run_validation(value)
    return found


def _report_representation(report: FailureReport) -> dict[str, Any]:
    return {
        "id": report.pk,
        "state": report.state,
        "delivery": report.delivery_id,
        "dead_letter": failure_reports.dead_letter_id_of(report),
        "execution_id": report.execution_id,
    }


def _execution_representation(one: Execution) -> dict[str, Any]:
    return {
        "id": one.pk,
        "workflow": one.lane.workflow.slug,
        "tenant": one.lane.tenant,
        "execution_id": one.execution_id,
        "status": one.status,
        "duration_ms": one.duration_ms,
        "delivery": one.delivery_id,
        "reported_at": one.reported_at,
    }
