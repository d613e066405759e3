"""Permits, slots and claims of Stripe events, for workflows that Backstop does not start."""

from datetime import timedelta
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.idempotency import KEY_HEADER, honours_key, knows_repeats
from reliability.api.common.serializers import ProblemSerializer
from reliability.api.common.views import PROBLEMS, View, caller_of, read
from reliability.lanes import permits, slots
from reliability.models import Slot, StripeClaim
from reliability.stripe import claims

from .guard_serializers import (
    ClaimRequest,
    ClaimSerializer,
    CompleteRequest,
    FailRequest,
    LaneQuery,
    PermitSerializer,
    SlotRequest,
    SlotSerializer,
)

ENDED = {
    200: ClaimSerializer,
    404: ProblemSerializer,
    409: OpenApiResponse(ProblemSerializer, "The fencing token is outdated: another worker has the claim."),
    **PROBLEMS,
}


class Permit(View):
    scopes = {"GET": "read"}
    notes_use = True

    @extend_schema(
        operation_id="ask_permit",
        parameters=[LaneQuery],
        responses={
            200: PermitSerializer,
            **PROBLEMS,
            503: OpenApiResponse(ProblemSerializer, "The breaker is open; see `Retry-After`."),
        },
    )
    def get(self, request: Request) -> Response:
        """Ask the breaker whether a workflow may run. A half-open breaker permits one probe at a time."""
        caller = caller_of(request)
        wanted = pagination.filters(request, LaneQuery).validated_data
        tenant = caller.tenant_for(wanted.get("tenant"))
        found = permits.ask(workflow=wanted["workflow"], tenant=tenant, key_id=caller.key.pk)
        return Response({"permitted": True, "probe": found.probe})


class Slots(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="take_slot",
        request=SlotRequest,
        parameters=[KEY_HEADER],
        responses={
            201: SlotSerializer,
            200: OpenApiResponse(SlotSerializer, "A repeat: the slot of the first request."),
            409: OpenApiResponse(ProblemSerializer, "The key was used with another request."),
            429: OpenApiResponse(ProblemSerializer, "All slots are in use; see `Retry-After`."),
            **PROBLEMS,
        },
    )
    @honours_key
    def post(self, request: Request) -> Response:
        """Take a slot of a lane's concurrency limit, which deliveries share."""
        caller = caller_of(request)
        values = read(request, SlotRequest)
        tenant = caller.tenant_for(values.get("tenant"))
        lease = timedelta(seconds=values["lease_seconds"])
        taken = slots.acquire(request=slots.SlotRequest(values["workflow"], tenant, caller.actor().name, lease))
        return Response(_slot(taken), status=201)


class OneSlot(View):
    scopes = {"DELETE": "deliver"}

    @extend_schema(operation_id="give_slot_back", responses={204: None, 404: ProblemSerializer, **PROBLEMS})
    def delete(self, request: Request, slot_id: UUID) -> Response:
        """Release a slot."""
        slots.release(slot_id=slot_id, tenant=caller_of(request).key.tenant)
        return Response(status=204)


class Claim(View):
    scopes = {"POST": "report"}

    @extend_schema(
        operation_id="claim_stripe_event",
        request=ClaimRequest,
        responses={
            201: OpenApiResponse(ClaimSerializer, "Claimed: process the event, then call complete or fail."),
            200: OpenApiResponse(ClaimSerializer, "Already processed; `result` is what was stored."),
            409: OpenApiResponse(ProblemSerializer, "Another worker is processing it; see `Retry-After`."),
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Claim a Stripe event, so that it is processed once."""
        caller = caller_of(request)
        values = read(request, ClaimRequest)
        wanted = claims.ClaimRequest(
            event_id=values["event_id"],
            workflow=values.get("workflow", ""),
            tenant=caller.tenant_for(values.get("tenant")),
            account=values.get("account", ""),
            livemode=values["livemode"],
            holder=caller.actor().name,
            lease=timedelta(seconds=values["lease_seconds"]),
        )
        found, won = claims.claim(wanted=wanted, now=caller.now)
        return Response(_claim(found), status=201 if won else 200)


class Complete(View):
    scopes = {"POST": "report"}

    @extend_schema(operation_id="complete_stripe_event", request=CompleteRequest, responses=ENDED)
    @knows_repeats
    def post(self, request: Request, claim: str) -> Response:
        """Mark a claimed event as processed. `claim` is the id of the claim or of the event."""
        caller = caller_of(request)
        values = read(request, CompleteRequest)
        found = claims.find(name=claim, tenant=caller.key.tenant)
        token = values["fencing_token"]
        ended = claims.complete(claim_id=found.pk, fencing_token=token, result=values["result"], now=caller.now)
        return Response(_claim(ended))


class Fail(View):
    scopes = {"POST": "report"}

    @extend_schema(operation_id="fail_stripe_event", request=FailRequest, responses=ENDED)
    @knows_repeats
    def post(self, request: Request, claim: str) -> Response:
        """Release a claim after a failure: the next request can claim the event."""
        caller = caller_of(request)
        values = read(request, FailRequest)
        found = claims.find(name=claim, tenant=caller.key.tenant)
        token = values["fencing_token"]
        return Response(
            _claim(claims.fail(claim_id=found.pk, fencing_token=token, error=values["error"], now=caller.now))
        )


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
