"""Deliveries: accept one or many, list, get, cancel, send now."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import json_response, pagination, representations
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, REPLAYED, claimed, knows_repeats
from reliability.api.common.serializers import (
    BatchRequest,
    BatchSerializer,
    DeliveryPage,
    DeliveryQuery,
    DeliveryRequest,
    DeliverySerializer,
    ProblemSerializer,
    ReasonRequest,
)
from reliability.api.common.views import PROBLEMS, View, caller_of, read, text_of
from reliability.dead_letters import filters
from reliability.dead_letters.filters import lanes_of
from reliability.delivery import control, idempotency, intake
from reliability.delivery.intake import Accepted
from reliability.errors import InvalidInput, NotFound
from reliability.formats import strict_json
from reliability.models import Delivery
from reliability.models.ids import at_least, before

from . import accepting


class Deliveries(View):
    scopes = {"POST": "deliver", "GET": "read"}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Accept a delivery at once where that is possible; else use the framework's steps."""
        answered = accepting.at_once(request, self) if request.method == "POST" else None
        if answered is None:
            return super().dispatch(request, *args, **kwargs)
        self.release()
        return answered

    @extend_schema(
        operation_id="create_delivery",
        request=DeliveryRequest,
        parameters=[KEY_HEADER],
        responses={
            201: DeliverySerializer,
            200: OpenApiResponse(DeliverySerializer, "A repeat: the first delivery, with `Idempotent-Replayed: true`."),
            409: OpenApiResponse(ProblemSerializer, "The key was used with another payload."),
            413: ProblemSerializer,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Accept a delivery. A 2xx means that Backstop has stored it."""
        return accepting.checked(request)

    @extend_schema(
        operation_id="list_deliveries", parameters=[DeliveryQuery], responses={200: DeliveryPage, **PROBLEMS}
    )
    def get(self, request: Request) -> Response:
        """List deliveries, newest first."""
        wanted = pagination.filters(request, DeliveryQuery).validated_data
        return pagination.page(request, _matching(wanted, caller_of(request)), representations.delivery_of)


class Batch(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="create_deliveries",
        request=BatchRequest,
        parameters=[KEY_HEADER],
        responses={
            201: BatchSerializer,
            200: OpenApiResponse(BatchSerializer, "All deliveries are repeats, with `Idempotent-Replayed: true`."),
            409: OpenApiResponse(ProblemSerializer, "A key was used with another payload, or with another batch."),
            413: ProblemSerializer,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> HttpResponse:
        """Accept up to 1,000 deliveries, all or none; 200 if all of them are repeats.

        The header `Idempotency-Key` is the key of the whole batch, and `idempotency_key` that of a single delivery.
        """
        caller = caller_of(request)
        values = read(request, BatchRequest)["deliveries"]
        texts = strict_json.items(text_of(request, "deliveries"))
        triggers = []
        for i, (one, text) in enumerate(zip(values, texts, strict=True)):
            with _numbered(i):
                tenant = caller.tenant_for(one.get("tenant"))
                triggers.append(accepting.trigger_of(one, strict_json.members(text)["payload"], tenant=tenant))
        with claimed(request) as place:
            if place.first is None:
                for i, (one, trigger) in enumerate(zip(values, triggers, strict=True)):
                    with _numbered(i):
                        accepting.refuse_expired(one, trigger, caller)
                accepted = intake.accept(triggers=triggers, now=caller.now)
                place.keep(row_ids=[one.delivery.pk for one in accepted])
            else:
                accepted = [Accepted(one, created=False) for one in idempotency.deliveries_of(place.first)]
        made = zip(accepted, triggers, values, strict=True)
        found = (accepting.representation_of(one, trigger, value["payload"]) for one, trigger, value in made)
        if any(one.created for one in accepted):
            return json_response.listed("deliveries", found, status=201)
        return json_response.listed("deliveries", found, status=200, headers=REPLAYED)


class OneDelivery(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="get_delivery", responses={200: DeliverySerializer, 404: ProblemSerializer, **PROBLEMS})
    def get(self, request: Request, delivery_id: UUID) -> Response:
        """Get a delivery with its attempts."""
        found = find(delivery_id, caller_of(request))
        return Response(representations.delivery_of(found, attempts=found.attempts.order_by("id")))


class Cancel(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="cancel_delivery",
        request=ReasonRequest,
        responses={200: DeliverySerializer, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Cancel a delivery that is not sent yet."""
        caller = caller_of(request)
        reason = read(request, ReasonRequest).get("reason", "")
        find(delivery_id, caller)
        done = control.cancel(delivery_id=delivery_id, actor=caller.actor(reason), now=caller.now)
        return Response(representations.delivery_of(done, attempts=done.attempts.order_by("id")))


class SendNow(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="send_delivery_now",
        request=ReasonRequest,
        responses={200: DeliverySerializer, 404: ProblemSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Make a waiting delivery due now. Limits, pauses and breakers still apply."""
        caller = caller_of(request)
        reason = read(request, ReasonRequest).get("reason", "")
        find(delivery_id, caller)
        done = control.send_now(delivery_id=delivery_id, actor=caller.actor(reason), now=caller.now)
        return Response(representations.delivery_of(done, attempts=done.attempts.order_by("id")))


def find(delivery_id: UUID, caller: Caller) -> Delivery:
    """Return a delivery that the caller may see. Raises `NotFound`."""
    rows = Delivery.objects.select_related("lane__workflow").filter(caller.own("lane__tenant"), pk=delivery_id)
    found = rows.first()
    if found is None:
        raise NotFound("There is no such delivery.")
    return found


@contextmanager
def _numbered(index: int) -> Iterator[None]:
    """Add the index of the delivery in its batch to an error."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(error.detail, errors={f"deliveries.{index}": [error.detail]}) from None


def _matching(wanted: dict[str, Any], caller: Caller) -> Any:
    rows = Delivery.objects.select_related("lane__workflow")
    tenant = caller.tenant_for(wanted.get("tenant")) if wanted.get("tenant") or caller.key.tenant else ""
    if tenant or "workflow" in wanted:
        rows = rows.filter(lane_id__in=lanes_of(workflow=wanted.get("workflow", ""), tenant=tenant))
    if "state" in wanted:
        rows = rows.filter(state=wanted["state"])
    if "request_id" in wanted:
        rows = rows.filter(filters.requested_by(request_id=wanted["request_id"]))
    if after := wanted.get("created_after"):
        rows = rows.filter(created_at__gte=after, id__gte=at_least(after))
    if limit := wanted.get("created_before"):
        rows = rows.filter(created_at__lt=limit, id__lt=before(limit))
    return rows
