"""Dead letters: list, get, report, replay, purge, undo a purge."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.bulk.serializers import BulkReplayRequest, BulkRequest, DryRunSerializer
from reliability.api.common import pagination, representations
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, REPLAYED, claimed, honours_key, knows_repeats
from reliability.api.common.parsers import FailureParser
from reliability.api.common.serializers import (
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterRequest,
    DeadLetterSerializer,
    ProblemSerializer,
    ReasonRequest,
    ReplayRequest,
    StartedOperationSerializer,
)
from reliability.api.common.views import PROBLEMS, View, caller_of, read, text_of
from reliability.bulk import operations
from reliability.bulk.replay_one import replay_one
from reliability.dead_letters import create, purge
from reliability.dead_letters.create import Report
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.delivery import idempotency
from reliability.errors import NotFound
from reliability.models import DeadLetter, OperationKind

STARTED = {
    202: StartedOperationSerializer,
    409: ProblemSerializer,
    200: OpenApiResponse(DryRunSerializer, "A dry run."),
    **PROBLEMS,
}


class DeadLetters(View):
    scopes = {"GET": "read", "POST": "report"}
    parser_classes = [FailureParser]

    @extend_schema(
        operation_id="list_dead_letters",
        parameters=[DeadLetterQuery],
        responses={200: DeadLetterPage, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        """List dead letters, newest first."""
        wanted = DeadLetterFilter(**pagination.filters(request, DeadLetterQuery).validated_data)
        wanted = _within(wanted, caller_of(request))
        found = wanted.found()
        answer = pagination.page(request, found.rows.select_related("lane__workflow"), representations.dead_letter)
        if wanted.search:
            answer.data["search_cut"] = found.is_truncated
        return answer

    @extend_schema(
        operation_id="report_dead_letter",
        request=DeadLetterRequest,
        parameters=[KEY_HEADER],
        responses={
            201: DeadLetterSerializer,
            200: OpenApiResponse(
                DeadLetterSerializer, "A repeat: the first dead letter, with `Idempotent-Replayed: true`."
            ),
            409: OpenApiResponse(ProblemSerializer, "The key was used with another request."),
            413: ProblemSerializer,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Report work that failed for good in another system; it becomes a dead letter."""
        caller = caller_of(request)
        values = read(request, DeadLetterRequest)
        report = Report(
            workflow=values["workflow"],
            tenant=caller.tenant_for(values.get("tenant")),
            payload=text_of(request, "payload"),
            error_code=values.get("error_code", ""),
            error_message=values["error_message"],
        )
        with claimed(request) as place:
            if place.first is None:
                kept = create.from_api(report=report, now=caller.now)
                place.keep(row_ids=[kept.pk])
                return Response(representations.dead_letter(kept), status=201)
            return Response(representations.dead_letter(idempotency.dead_letter_of(place.first)), headers=REPLAYED)


class OneDeadLetter(View):
    scopes = {"GET": "read", "DELETE": "operate"}

    @extend_schema(
        operation_id="get_dead_letter", responses={200: DeadLetterSerializer, 404: ProblemSerializer, **PROBLEMS}
    )
    def get(self, request: Request, dead_letter_id: UUID) -> Response:
        """Get a dead letter."""
        return Response(representations.dead_letter(find(dead_letter_id, caller_of(request))))

    @extend_schema(
        operation_id="purge_dead_letter",
        request=ReasonRequest,
        responses={204: None, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    def delete(self, request: Request, dead_letter_id: UUID) -> Response:
        """Purge a dead letter; it keeps the status `purged`."""
        caller = caller_of(request)
        find(dead_letter_id, caller)
        actor = caller.actor(read(request, ReasonRequest).get("reason", ""))
        purge.purge(dead_letter_id=dead_letter_id, actor=actor, now=caller.now)
        return Response(status=204)


class Replay(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="replay_dead_letter",
        request=ReplayRequest,
        parameters=[KEY_HEADER],
        responses={202: StartedOperationSerializer, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    @honours_key
    def post(self, request: Request, dead_letter_id: UUID) -> Response:
        """Replay a dead letter, with its own payload or an edited one, or let n8n retry its execution."""
        caller = caller_of(request)
        values = read(request, ReplayRequest)
        find(dead_letter_id, caller)
        edited = text_of(request, "payload") if "payload" in values else None
        actor = caller.actor(values.get("reason", ""))
        delivery_id, batch_id = replay_one(
            dead_letter_id=dead_letter_id,
            actor=actor,
            now=caller.now,
            payload=edited,
            via=values.get("via", ""),
            load_workflow=values["load_workflow"],
        )
        representation = {"batch_id": batch_id, "count": 1}
        return Response(
            representation if delivery_id is None else {**representation, "delivery": delivery_id}, status=202
        )


class ReplayMany(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="replay_dead_letters", request=BulkReplayRequest, parameters=[KEY_HEADER], responses=STARTED
    )
    @honours_key
    def post(self, request: Request) -> Response:
        """Replay all dead letters that a filter matches, at a limited rate."""
        return _submit(request, BulkReplayRequest, OperationKind.REPLAY)


class PurgeMany(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="purge_dead_letters", request=BulkRequest, parameters=[KEY_HEADER], responses=STARTED)
    @honours_key
    def post(self, request: Request) -> Response:
        """Purge all dead letters that a filter matches."""
        return _submit(request, BulkRequest, OperationKind.PURGE)


class UndoPurge(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="undo_purge",
        request=ReasonRequest,
        responses={200: DeadLetterSerializer, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    def post(self, request: Request, dead_letter_id: UUID) -> Response:
        """Undo the purge of a dead letter, while its payload still exists."""
        caller = caller_of(request)
        find(dead_letter_id, caller)
        actor = caller.actor(read(request, ReasonRequest).get("reason", ""))
        operations.undo_purge(dead_letter_id=dead_letter_id, actor=actor, now=caller.now)
        return Response(representations.dead_letter(find(dead_letter_id, caller)))


def find(dead_letter_id: UUID, caller: Caller) -> DeadLetter:
    """Return a dead letter that the caller may see. Raises `NotFound`."""
    rows = DeadLetter.objects.select_related("lane__workflow")
    found = rows.filter(caller.own("lane__tenant"), pk=dead_letter_id).first()
    if found is None:
        raise NotFound("There is no such dead letter.")
    return found


def _within(wanted: DeadLetterFilter, caller: Caller) -> DeadLetterFilter:
    """Limit a filter to the key's tenant. Raises `Forbidden` if it names another tenant."""
    if not wanted.tenant and not caller.key.tenant:
        return wanted
    return wanted.for_tenant(caller.tenant_for(wanted.tenant))


def _submit(request: Request, kind: type[BulkRequest], action: OperationKind) -> Response:
    caller = caller_of(request)
    values: dict[str, Any] = read(request, kind)
    selection = _within(DeadLetterFilter(**values["filter"]), caller)
    rate = values.get("rate_per_second", operations.DEFAULT_RATE)
    if values["dry_run"]:
        preview = operations.preview(kind=action, selection=selection, now=caller.now, rate_per_second=rate)
        return Response(representations.dry_run(preview))
    started = operations.submit(
        kind=action,
        selection=selection,
        actor=caller.actor(values.get("reason", "")),
        now=caller.now,
        rate_per_second=rate,
        canary=values.get("canary", False),
        stop_failure_rate=values.get("stop_failure_rate"),
    )
    return Response({"batch_id": started.pk, "count": started.matched}, status=202)
