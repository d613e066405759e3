"""For workflows that others than Backstop start: permits, slots, and claims of Stripe's events."""

from datetime import timedelta
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.idempotency import KEY_HEADER, honours_key, knows_repeats
from reliability.api.common.serializers import ProblemShape
from reliability.api.common.views import PROBLEMS, View, caller, read
from reliability.lanes import permits, slots
from reliability.models import Slot, StripeClaim
from reliability.stripe import claims

from .guard_serializers import (
    ClaimRequest,
    ClaimShape,
    CompleteRequest,
    FailRequest,
    LaneQuery,
    PermitShape,
    SlotRequest,
    SlotShape,
)

ENDED = {
    200: ClaimShape,
    404: ProblemShape,
    409: OpenApiResponse(ProblemShape, "The token is not the newest."),
    **PROBLEMS,
}


class Permit(View):
    scopes = {"GET": "read"}
    notes_use = True

    @extend_schema(
        operation_id="ask_permit",
        parameters=[LaneQuery],
        responses={200: PermitShape, **PROBLEMS, 503: OpenApiResponse(ProblemShape, "Not now; see `Retry-After`.")},
    )
    def get(self, request: Request) -> Response:
        """Ask whether a workflow may go, by its breaker. A half-open one lets one probe at a time through."""
        who = caller(request)
        wanted = pagination.filters(request, LaneQuery).validated_data
        tenant = who.tenant_for(wanted.get("tenant"))
        found = permits.ask(workflow=wanted["workflow"], tenant=tenant, key_id=who.key.pk)
        return Response({"permitted": True, "probe": found.probe})


class Slots(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="take_slot",
        request=SlotRequest,
        parameters=[KEY_HEADER],
        responses={
            201: SlotShape,
            200: OpenApiResponse(SlotShape, "A repeat: the place that was taken first."),
            409: OpenApiResponse(ProblemShape, "The key was used with another request."),
            429: OpenApiResponse(ProblemShape, "All are taken; see `Retry-After`."),
            **PROBLEMS,
        },
    )
    @honours_key
    def post(self, request: Request) -> Response:
        """Take a place within a lane's concurrency limit, which deliveries count within too."""
        who = caller(request)
        values = read(request, SlotRequest)
        tenant = who.tenant_for(values.get("tenant"))
        lease = timedelta(seconds=values["lease_seconds"])
        taken = slots.acquire(request=slots.SlotRequest(values["workflow"], tenant, who.actor().name, lease))
        return Response(_slot(taken), status=201)


class OneSlot(View):
    scopes = {"DELETE": "deliver"}

    @extend_schema(operation_id="give_slot_back", responses={204: None, 404: ProblemShape, **PROBLEMS})
    def delete(self, request: Request, slot_id: UUID) -> Response:
        """Give a place back."""
        slots.release(slot_id=slot_id, tenant=caller(request).key.tenant)
        return Response(status=204)


class Claim(View):
    scopes = {"POST": "report"}

    @extend_schema(
        operation_id="claim_stripe_event",
        request=ClaimRequest,
        responses={
            201: OpenApiResponse(ClaimShape, "Claimed: have the effect, then complete or fail."),
            200: OpenApiResponse(ClaimShape, "Already processed; `result` is what was stored."),
            409: OpenApiResponse(ProblemShape, "Another is processing it; see `Retry-After`."),
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Claim a Stripe event, so that its effect is had once."""
        who = caller(request)
        values = read(request, ClaimRequest)
        wanted = claims.ClaimRequest(
            event_id=values["event_id"],
            workflow=values.get("workflow", ""),
            tenant=who.tenant_for(values.get("tenant")),
            account=values.get("account", ""),
            livemode=values["livemode"],
            holder=who.actor().name,
            lease=timedelta(seconds=values["lease_seconds"]),
        )
        found, won = claims.claim(wanted=wanted, now=who.now)
        return Response(_claim(found), status=201 if won else 200)


class Complete(View):
    scopes = {"POST": "report"}

    @extend_schema(operation_id="complete_stripe_event", request=CompleteRequest, responses=ENDED)
    @knows_repeats
    def post(self, request: Request, claim: str) -> Response:
        """Say that the effect has been had. `claim` is the claim's id, or the event's."""
        who = caller(request)
        values = read(request, CompleteRequest)
        found = claims.find(name=claim, tenant=who.key.tenant)
        token = values["fencing_token"]
        ended = claims.complete(claim_id=found.pk, fencing_token=token, result=values["result"], now=who.now)
        return Response(_claim(ended))


class Fail(View):
    scopes = {"POST": "report"}

    @extend_schema(operation_id="fail_stripe_event", request=FailRequest, responses=ENDED)
    @knows_repeats
    def post(self, request: Request, claim: str) -> Response:
        """Give the claim up: whoever comes next may have it."""
        who = caller(request)
        values = read(request, FailRequest)
        found = claims.find(name=claim, tenant=who.key.tenant)
        token = values["fencing_token"]
        return Response(_claim(claims.fail(claim_id=found.pk, fencing_token=token, error=values["error"], now=who.now)))


def _slot(one: Slot) -> dict[str, object]:
    return {
        "id": one.id,
        "workflow": one.lane.workflow.slug,
        "tenant": one.lane.tenant,
        "expires_at": one.expires_at,
    }


def _claim(one: StripeClaim) -> dict[str, object]:
    return {
        "id": one.id,
        "event_id": one.event_id,
        "workflow": one.workflow,
        "tenant": one.tenant,
        "status": one.status,
        "fencing_token": one.fencing_token,
        "lease_until": one.lease_until,
        "result": one.result,
    }
