"""Bulk operations: list, get, pause, resume, cancel, change the rate, undo."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination, representations
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, honours_key
from reliability.api.common.serializers import ProblemSerializer, ReasonRequest, StartedOperationSerializer, Strict
from reliability.api.common.views import PROBLEMS, View, caller_of, read
from reliability.bulk import operations
from reliability.errors import NotFound
from reliability.models import Operation

from .serializers import OperationPage, OperationQuery, OperationSerializer, RateRequest

CONTROLLED = {200: OperationSerializer, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS}


class Operations(View):
    scopes = {"GET": "operate"}

    @extend_schema(operation_id="list_batches", parameters=[OperationQuery], responses={200: OperationPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List bulk operations, newest first."""
        wanted = pagination.filters(request, OperationQuery).validated_data
        rows = Operation.objects.filter(caller_of(request).own("filter__tenant"), **wanted)
        return pagination.page(request, rows, representations.operation)


class OneOperation(View):
    scopes = {"GET": "operate"}

    @extend_schema(operation_id="get_batch", responses={200: OperationSerializer, 404: ProblemSerializer, **PROBLEMS})
    def get(self, request: Request, batch_id: UUID) -> Response:
        """Get a bulk operation with its progress."""
        return Response(representations.operation(find(batch_id, caller_of(request))))


class _Controlled(View):
    """Controls one operation, by the function `act`."""

    scopes = {"POST": "operate"}
    body: type[Strict] = ReasonRequest
    act: Any = None

    def _control(self, request: Request, batch_id: UUID) -> Any:
        caller = caller_of(request)
        values = dict(read(request, self.body))
        find(batch_id, caller)
        actor = caller.actor(values.pop("reason", ""))
        return type(self).act(operation_id=batch_id, actor=actor, now=caller.now, **values)


class Pause(_Controlled):
    act = staticmethod(operations.pause)

    @extend_schema(operation_id="pause_batch", request=ReasonRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Pause a bulk operation: it starts no more replays or purges until it resumes."""
        return Response(representations.operation(self._control(request, batch_id)))


class Resume(_Controlled):
    act = staticmethod(operations.resume)

    @extend_schema(operation_id="resume_batch", request=ReasonRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Resume a paused bulk operation."""
        return Response(representations.operation(self._control(request, batch_id)))


class Cancel(_Controlled):
    act = staticmethod(operations.cancel)

    @extend_schema(operation_id="cancel_batch", request=ReasonRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Cancel a bulk operation. Its replays that are not sent yet are withdrawn."""
        return Response(representations.operation(self._control(request, batch_id)))


class Rate(_Controlled):
    act = staticmethod(operations.set_rate)
    body = RateRequest

    @extend_schema(operation_id="set_batch_rate", request=RateRequest, responses=CONTROLLED)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Change the rate of a bulk operation."""
        return Response(representations.operation(self._control(request, batch_id)))


class Undo(_Controlled):
    act = staticmethod(operations.undo_purge)

    @extend_schema(
        operation_id="undo_batch",
        request=ReasonRequest,
        parameters=[KEY_HEADER],
        responses={202: StartedOperationSerializer, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    @honours_key
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Undo a bulk purge, in a new batch. Dead letters whose payload is deleted stay purged."""
        made = self._control(request, batch_id)
        return Response({"batch_id": made.pk, "count": made.matched}, status=202)


def find(batch_id: UUID, caller: Caller) -> Operation:
    """Return an operation that the caller may see. Raises `NotFound`."""
    found = Operation.objects.filter(caller.own("filter__tenant"), pk=batch_id).first()
    if found is None:
        raise NotFound("There is no such batch.")
    return found
