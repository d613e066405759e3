"""Dead letters: list, show, report, replay, purge."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.bulk.serializers import BulkReplayRequest, BulkRequest, DryRunShape
from reliability.api.common import pagination, shapes
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, REPLAYED, claimed, honours_key, knows_repeats
from reliability.api.common.parsers import FailureParser
from reliability.api.common.serializers import (
    BulkShape,
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterRequest,
    DeadLetterShape,
    ProblemShape,
    ReasonRequest,
    ReplayRequest,
)
from reliability.api.common.views import PROBLEMS, View, caller, read, text_of
from reliability.bulk import operations
from reliability.bulk.replay_one import replay_one
from reliability.dead_letters import create, purge
from reliability.dead_letters.create import Report
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.delivery import idempotency
from reliability.errors import NotFound
from reliability.models import DeadLetter, OperationKind

STARTED = {202: BulkShape, 409: ProblemShape, 200: OpenApiResponse(DryRunShape, "A dry run."), **PROBLEMS}


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
        wanted = _within(wanted, caller(request))
        found = wanted.found()
        answer = pagination.page(request, found.rows.select_related("lane__workflow"), shapes.dead_letter)
        if wanted.search:
            answer.data["search_cut"] = found.is_truncated
        return answer

    @extend_schema(
        operation_id="report_dead_letter",
        request=DeadLetterRequest,
        parameters=[KEY_HEADER],
        responses={
            201: DeadLetterShape,
            200: OpenApiResponse(DeadLetterShape, "A repeat: the first dead letter, with `Idempotent-Replayed: true`."),
            409: OpenApiResponse(ProblemShape, "The key was used with another request."),
            413: ProblemShape,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Keep what failed for good elsewhere."""
        who = caller(request)
        values = read(request, DeadLetterRequest)
        report = Report(
            workflow=values["workflow"],
            tenant=who.tenant_for(values.get("tenant")),
            payload=text_of(request, "payload"),
            error_code=values.get("error_code", ""),
            error_message=values["error_message"],
        )
        with claimed(request) as place:
            if place.first is None:
                kept = create.from_api(report=report, now=who.now)
                place.keep(row_ids=[kept.pk])
                return Response(shapes.dead_letter(kept), status=201)
            return Response(shapes.dead_letter(idempotency.dead_letter_of(place.first)), headers=REPLAYED)


class OneDeadLetter(View):
    scopes = {"GET": "read", "DELETE": "operate"}

    @extend_schema(operation_id="get_dead_letter", responses={200: DeadLetterShape, 404: ProblemShape, **PROBLEMS})
    def get(self, request: Request, dead_letter_id: UUID) -> Response:
        """Show a dead letter."""
        return Response(shapes.dead_letter(find(dead_letter_id, caller(request))))

    @extend_schema(
        operation_id="purge_dead_letter",
        request=ReasonRequest,
        responses={204: None, 404: ProblemShape, 409: ProblemShape, **PROBLEMS},
    )
    def delete(self, request: Request, dead_letter_id: UUID) -> Response:
        """Purge a dead letter; it stays on record as purged."""
        who = caller(request)
        find(dead_letter_id, who)
        actor = who.actor(read(request, ReasonRequest).get("reason", ""))
        purge.purge(dead_letter_id=dead_letter_id, actor=actor, now=who.now)
        return Response(status=204)


class Replay(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="replay_dead_letter",
        request=ReplayRequest,
        parameters=[KEY_HEADER],
        responses={202: BulkShape, 404: ProblemShape, 409: ProblemShape, **PROBLEMS},
    )
    @honours_key
    def post(self, request: Request, dead_letter_id: UUID) -> Response:
        """Send a dead letter again, with its own payload or an edited one, or have n8n retry its execution."""
        who = caller(request)
        values = read(request, ReplayRequest)
        find(dead_letter_id, who)
        edited = text_of(request, "payload") if "payload" in values else None
        actor = who.actor(values.get("reason", ""))
        delivery_id, batch_id = replay_one(
            dead_letter_id=dead_letter_id,
            actor=actor,
            now=who.now,
            payload=edited,
            via=values.get("via", ""),
            load_workflow=values["load_workflow"],
        )
        shape = {"batch_id": batch_id, "count": 1}
        return Response(shape if delivery_id is None else {**shape, "delivery": delivery_id}, status=202)


class ReplayMany(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="replay_dead_letters", request=BulkReplayRequest, parameters=[KEY_HEADER], responses=STARTED
    )
    @honours_key
    def post(self, request: Request) -> Response:
        """Send all that a filter matches again, at a rate."""
        return _submit(request, BulkReplayRequest, OperationKind.REPLAY)


class PurgeMany(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="purge_dead_letters", request=BulkRequest, parameters=[KEY_HEADER], responses=STARTED)
    @honours_key
    def post(self, request: Request) -> Response:
        """Purge all that a filter matches."""
        return _submit(request, BulkRequest, OperationKind.PURGE)


class UndoPurge(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="undo_purge",
        request=ReasonRequest,
        responses={200: DeadLetterShape, 404: ProblemShape, 409: ProblemShape, **PROBLEMS},
    )
    def post(self, request: Request, dead_letter_id: UUID) -> Response:
        """Bring back a dead letter that was purged, as long as its payload is there."""
        who = caller(request)
        find(dead_letter_id, who)
        actor = who.actor(read(request, ReasonRequest).get("reason", ""))
        operations.undo_purge(dead_letter_id=dead_letter_id, actor=actor, now=who.now)
        return Response(shapes.dead_letter(find(dead_letter_id, who)))


def find(dead_letter_id: UUID, who: Caller) -> DeadLetter:
    """Return a dead letter that the caller may see. Raises `NotFound`."""
    rows = DeadLetter.objects.select_related("lane__workflow")
    found = rows.filter(who.own("lane__tenant"), pk=dead_letter_id).first()
    if found is None:
        raise NotFound("There is no such dead letter.")
    return found


def _within(wanted: DeadLetterFilter, who: Caller) -> DeadLetterFilter:
    """Narrow a filter to the key's tenant. Raises `Forbidden` where it names another."""
    if not wanted.tenant and not who.key.tenant:
        return wanted
    return wanted.for_tenant(who.tenant_for(wanted.tenant))


def _submit(request: Request, kind: type[BulkRequest], action: OperationKind) -> Response:
    who = caller(request)
    values: dict[str, Any] = read(request, kind)
    selection = _within(DeadLetterFilter(**values["filter"]), who)
    rate = values.get("rate_per_second", operations.DEFAULT_RATE)
    if values["dry_run"]:
        looked = operations.preview(kind=action, selection=selection, now=who.now, rate_per_second=rate)
        return Response(shapes.dry_run(looked))
    started = operations.submit(
        kind=action,
        selection=selection,
        actor=who.actor(values.get("reason", "")),
        now=who.now,
        rate_per_second=rate,
        canary=values.get("canary", False),
        stop_failure_rate=values.get("stop_failure_rate"),
    )
    return Response({"batch_id": started.pk, "count": started.matched}, status=202)
