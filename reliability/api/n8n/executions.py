"""What n8n reports: failed executions, figures, and how a delivery's work ended."""

import logging
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import shapes
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import HEADER, REPLAYED, claimed, knows_repeats
from reliability.api.common.parsers import LenientJSONParser
from reliability.api.common.serializers import DeliveryShape, ProblemShape
from reliability.api.common.views import PROBLEMS, View, caller, read
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
    ExecutionShape,
    FailureReportShape,
    OutcomeRequest,
    ReportAddress,
)

OURS = ("delivery_id", "attempt", "tenant", "request_id")
ADDRESS = [
    OpenApiParameter("X-Backstop-Delivery", str, OpenApiParameter.HEADER, description="As `delivery_id`."),
    OpenApiParameter("X-Backstop-Attempt", int, OpenApiParameter.HEADER, description="As `attempt`."),
]
REPORT_KEY = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="A repeat under the same key gets the first answer. Without effect where the report names an execution:"
    " that is kept once by its id.",
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
            201: FailureReportShape,
            200: OpenApiResponse(FailureReportShape, "This execution was reported before, or it repeats a key."),
            404: OpenApiResponse(ProblemShape, "It is another tenant's delivery; nothing was kept."),
            409: OpenApiResponse(ProblemShape, "The key was used with another report; nothing was kept."),
            413: ProblemShape,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Take the body of n8n's Error Trigger as it is; join it to its delivery, or keep it as a dead letter.

        Nobody sends it again: what cannot be stored is replaced, and what is unusable counts as missing.
        """
        incoming, now = _incoming(request, caller(request)), caller(request).now
        if incoming.failure.execution_id:
            report, created = failure_reports.ingest(incoming=incoming, now=now)
            return Response(_report_shape(report), status=201 if created else 200)
        return _take_keyed(request, incoming, now)


@deadlocks_retried
def _take_keyed(request: Request, incoming: IncomingFailure, now: datetime) -> Response:
    """Keep a report that names no execution: only the request's key, if it has one, tells its repeat."""
    with claimed(request, **_address(request)) as place:
        if place.first is not None:
            return Response(_report_shape(idempotency.report_of(place.first)), headers=REPLAYED)
        report, created = failure_reports.ingest(incoming=incoming, now=now)
        place.keep(row_ids=[report.pk])
    return Response(_report_shape(report), status=201 if created else 200)


class Executions(View):
    scopes = {"POST": "report"}

    @extend_schema(
        operation_id="report_execution",
        request=ExecutionRequest,
        responses={
            201: ExecutionShape,
            200: OpenApiResponse(ExecutionShape, "This execution was reported before."),
            404: ProblemShape,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Keep an execution's figures; the lane's breaker hears how it ended where no delivery is named."""
        who = caller(request)
        values = read(request, ExecutionRequest)
        found = ExecutionReport(
            workflow=values["workflow"],
            tenant=who.tenant_for(values.get("tenant")),
            execution_id=values["execution_id"],
            status=values["status"],
            duration_ms=values.get("duration_ms"),
            delivery_id=values.get("delivery"),
            probe=values["probe"],
        )
        kept, created = execution_reports.record(report=found, now=who.now)
        return Response(_execution_shape(kept), status=201 if created else 200)


class Outcome(View):
    scopes = {"POST": "report"}
    parser_classes = [LenientJSONParser]

    @extend_schema(
        operation_id="report_outcome",
        request=OutcomeRequest,
        responses={200: DeliveryShape, 404: ProblemShape, 409: ProblemShape, **PROBLEMS},
    )
    @knows_repeats
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Say how a delivery's work ended; the same report twice changes nothing."""
        who = caller(request)
        values = read(request, OutcomeRequest)
        find(delivery_id, who)
        completion = Completion(
            succeeded=values["status"] == "succeeded",
            execution_id=values.get("execution_id") or "",
            error=values.get("error") or "",
            attempt=values.get("attempt"),
        )
        done = callbacks.report(delivery_id=delivery_id, completion=completion, now=who.now)
        return Response(shapes.delivery_of(done, attempts=done.attempts.order_by("id")))


def _incoming(request: Request, who: Caller) -> IncomingFailure:
    body = _body(request)
    address = _address(request)
    found = failure.read_body(body)
    request_context.use_body_id(address.get("request_id", ""))
    return IncomingFailure(
        failure=found,
        report=failure.shorten({name: value for name, value in body.items() if name not in address and value != ""}),
        tenant=who.key.tenant or "",
        for_tenant=who.tenant_for(address.get("tenant")),
        delivery_id=address.get("delivery_id"),
        attempt=address.get("attempt"),
    )


def _body(request: Request) -> dict[str, Any]:
    """Return the body. One that cannot be read is lost, so the log says so."""
    try:
        body: dict[str, Any] = request.data
    except BackstopError as error:
        length = request.META.get("CONTENT_LENGTH", "")
        logger.warning("failure_report_unreadable", extra={"code": error.code, "length": length})
        raise
    return body


def _address(request: Request) -> dict[str, Any]:
    """Read which delivery is meant, from the body or the headers. What is empty or unusable was not given."""
    given = {name: request.data[name] for name in OURS if request.data.get(name) not in (None, "")}
    for name, header in (("delivery_id", "X-Backstop-Delivery"), ("attempt", "X-Backstop-Attempt")):
        if value := request.headers.get(header, "").strip():
            given.setdefault(name, value)
    fields = ReportAddress().fields
    found = {}
    for name, value in given.items():
        with suppress(ValidationError):
            found[name] = fields[name].run_validation(value)
    return found


def _report_shape(report: FailureReport) -> dict[str, Any]:
    return {
        "id": report.pk,
        "state": report.state,
        "delivery": report.delivery_id,
        "dead_letter": failure_reports.dead_letter_id_of(report),
        "execution_id": report.execution_id,
    }


def _execution_shape(one: Execution) -> dict[str, Any]:
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
