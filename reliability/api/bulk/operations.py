"""Bulk operations: list, show, pause, resume, cancel, slow down or speed up, and undo."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination, shapes
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, honours_key
from reliability.api.common.serializers import BulkShape, ProblemShape, ReasonRequest, Strict
from reliability.api.common.views import PROBLEMS, View, caller, read
from reliability.bulk import operations
from reliability.errors import NotFound
from reliability.models import Operation

from .serializers import OperationPage, OperationQuery, OperationShape, RateRequest

CONTROLLED = {200: OperationShape, 404: ProblemShape, 409: ProblemShape, **PROBLEMS}


class Operations(View):
    scopes = {"GET": "operate"}

    @extend_schema(operation_id="list_batches", parameters=[OperationQuery], responses={200: OperationPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List bulk operations, newest first."""
        wanted = pagination.filters(request, OperationQuery).validated_data
        rows = Operation.objects.filter(caller(request).own("filter__tenant"), **wanted)
        return pagination.page(request, rows, shapes.operation)


class OneOperation(View):
    scopes = {"GET": "operate"}

    @extend_schema(operation_id="get_batch", responses={200: OperationShape, 404: ProblemShape, **PROBLEMS})
    def get(self, request: Request, batch_id: UUID) -> Response:
        """Show how far a bulk operation has come."""
        return Response(shapes.operation(find(batch_id, caller(request))))


class _Controlled(View):
    """A hand on one operation: the pipeline's call `act`."""

    scopes = {"POST": "operate"}
    body: type[Strict] = ReasonRequest
    act: Any = None

    def _control(self, request: Request, batch_id: UUID) -> Any:
        who = caller(request)
        values = dict(read(request, self.body))
        find(batch_id, who)
        actor = who.actor(values.pop("reason", ""))
        return type(self).act(operation_id=batch_id, actor=actor, now=who.now, **values)


class Pause(_Controlled):
    act = staticmethod(operations.pause)

    @extend_schema(operation_id="pause_batch", request=ReasonRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Hand over nothing more until it is resumed."""
        return Response(shapes.operation(self._control(request, batch_id)))


class Resume(_Controlled):
    act = staticmethod(operations.resume)

    @extend_schema(operation_id="resume_batch", request=ReasonRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Go on with one that was paused."""
        return Response(shapes.operation(self._control(request, batch_id)))


class Cancel(_Controlled):
    act = staticmethod(operations.cancel)

    @extend_schema(operation_id="cancel_batch", request=ReasonRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """End it. What it handed over and was not sent yet is withdrawn."""
        return Response(shapes.operation(self._control(request, batch_id)))


class Rate(_Controlled):
    act = staticmethod(operations.set_rate)
    body = RateRequest

    @extend_schema(operation_id="set_batch_rate", request=RateRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Change how many a second go from now on."""
        return Response(shapes.operation(self._control(request, batch_id)))


class Undo(_Controlled):
    act = staticmethod(operations.undo_purge)

    @extend_schema(
        operation_id="undo_batch",
        request=ReasonRequest,
        parameters=[KEY_HEADER],
        responses={202: BulkShape, 404: ProblemShape, 409: ProblemShape, **PROBLEMS},
    )
    @honours_key
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Bring back what a purge took, as far as its payloads are there, by a batch of its own."""
        made = self._control(request, batch_id)
        return Response({"batch_id": made.pk, "count": made.matched}, status=202)


def find(batch_id: UUID, who: Caller) -> Operation:
    """Return an operation that the caller may see. Raises `NotFound`."""
    found = Operation.objects.filter(who.own("filter__tenant"), pk=batch_id).first()
    if found is None:
        raise NotFound("There is no such batch.")
    return found
