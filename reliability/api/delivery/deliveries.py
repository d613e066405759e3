"""Deliveries: accept one or many, list, show, cancel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import json_response, pagination, shapes
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, REPLAYED, claimed, knows_repeats
from reliability.api.common.serializers import (
    BatchRequest,
    BatchShape,
    DeliveryPage,
    DeliveryQuery,
    DeliveryRequest,
    DeliveryShape,
    ProblemShape,
    ReasonRequest,
    check_expiry,
    key_of,
)
from reliability.api.common.views import PROBLEMS, View, caller, read, text_of
from reliability.dead_letters import filters
from reliability.dead_letters.filters import lanes_of
from reliability.delivery import control, idempotency, intake
from reliability.delivery.intake import Accepted, Trigger
from reliability.errors import InvalidInput, NotFound
from reliability.formats import strict_json
from reliability.models import Delivery, digest_of
from reliability.models.ids import at_least, before

from . import quick


class Deliveries(View):
    scopes = {"POST": "deliver", "GET": "read"}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer what is usual at once; everything else goes through the steps."""
        answered = quick.answer(request, self) if request.method == "POST" else None
        if answered is None:
            return super().dispatch(request, *args, **kwargs)
        self.release()
        return answered

    @extend_schema(
        operation_id="create_delivery",
        request=DeliveryRequest,
        parameters=[KEY_HEADER],
        responses={
            201: DeliveryShape,
            200: OpenApiResponse(DeliveryShape, "A repeat: the first delivery, with `Idempotent-Replayed: true`."),
            409: OpenApiResponse(ProblemShape, "The key was used with another payload."),
            413: ProblemShape,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> Response:
        """Accept a delivery; a 2xx says that it is kept."""
        who = caller(request)
        values = read(request, DeliveryRequest)
        trigger = _trigger(values, text_of(request, "payload"), who, header=request.headers.get("Idempotency-Key"))
        _check_expiry(values, trigger, who)
        accepted = intake.accept(triggers=[trigger], now=who.now)[0]
        shape = _shape(accepted, trigger, values["payload"])
        if accepted.created:
            return Response(shape, status=201)
        return Response(shape, headers=REPLAYED)

    @extend_schema(
        operation_id="list_deliveries", parameters=[DeliveryQuery], responses={200: DeliveryPage, **PROBLEMS}
    )
    def get(self, request: Request) -> Response:
        """List deliveries, newest first."""
        wanted = pagination.filters(request, DeliveryQuery).validated_data
        return pagination.page(request, _matching(wanted, caller(request)), shapes.delivery_of)


class Batch(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="create_deliveries",
        request=BatchRequest,
        parameters=[KEY_HEADER],
        responses={
            201: BatchShape,
            200: OpenApiResponse(BatchShape, "All of them are repeats, with `Idempotent-Replayed: true`."),
            409: OpenApiResponse(ProblemShape, "A key was used with another payload, or with another batch."),
            413: ProblemShape,
            **PROBLEMS,
        },
    )
    @knows_repeats
    def post(self, request: Request) -> HttpResponse:
        """Accept up to 1,000 deliveries, all or none; 200 if every one of them is a repeat.

        The header's key is that of the whole batch, and a delivery's `idempotency_key` its own.
        """
        who = caller(request)
        values = read(request, BatchRequest)["deliveries"]
        texts = strict_json.items(text_of(request, "deliveries"))
        triggers = []
        for i, (one, text) in enumerate(zip(values, texts, strict=True)):
            with _numbered(i):
                triggers.append(_trigger(one, strict_json.members(text)["payload"], who))
        with claimed(request) as place:
            if place.first is None:
                for i, (one, trigger) in enumerate(zip(values, triggers, strict=True)):
                    with _numbered(i):
                        _check_expiry(one, trigger, who)
                accepted = intake.accept(triggers=triggers, now=who.now)
                place.keep(row_ids=[one.delivery.pk for one in accepted])
            else:
                accepted = [Accepted(one, created=False) for one in idempotency.deliveries_of(place.first)]
        made = zip(accepted, triggers, values, strict=True)
        found = (_shape(one, trigger, value["payload"]) for one, trigger, value in made)
        if any(one.created for one in accepted):
            return json_response.listed("deliveries", found, status=201)
        return json_response.listed("deliveries", found, status=200, headers=REPLAYED)


class OneDelivery(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="get_delivery", responses={200: DeliveryShape, 404: ProblemShape, **PROBLEMS})
    def get(self, request: Request, delivery_id: UUID) -> Response:
        """Show a delivery with its attempts."""
        found = find(delivery_id, caller(request))
        return Response(shapes.delivery_of(found, attempts=found.attempts.order_by("id")))


class Cancel(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="cancel_delivery",
        request=ReasonRequest,
        responses={200: DeliveryShape, 404: ProblemShape, 409: ProblemShape, **PROBLEMS},
    )
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Withdraw what is not yet sent."""
        who = caller(request)
        reason = read(request, ReasonRequest).get("reason", "")
        find(delivery_id, who)
        done = control.cancel(delivery_id=delivery_id, actor=who.actor(reason), now=who.now)
        return Response(shapes.delivery_of(done, attempts=done.attempts.order_by("id")))


class SendNow(View):
    scopes = {"POST": "deliver"}

    @extend_schema(
        operation_id="send_delivery_now",
        request=ReasonRequest,
        responses={200: DeliveryShape, 404: ProblemShape, 409: ProblemShape, **PROBLEMS},
    )
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Make a waiting delivery due at once; limits, pauses and breakers still hold."""
        who = caller(request)
        reason = read(request, ReasonRequest).get("reason", "")
        find(delivery_id, who)
        done = control.send_now(delivery_id=delivery_id, actor=who.actor(reason), now=who.now)
        return Response(shapes.delivery_of(done, attempts=done.attempts.order_by("id")))


def find(delivery_id: UUID, who: Caller) -> Delivery:
    """Return a delivery that the caller may see. Raises `NotFound`."""
    rows = Delivery.objects.select_related("lane__workflow").filter(who.own("lane__tenant"), pk=delivery_id)
    found = rows.first()
    if found is None:
        raise NotFound("There is no such delivery.")
    return found


@contextmanager
def _numbered(index: int) -> Iterator[None]:
    """Let an error name the delivery of a batch that it is about."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(error.detail, errors={f"deliveries.{index}": [error.detail]}) from None


def _check_expiry(values: dict[str, Any], trigger: Trigger, who: Caller) -> None:
    """Refuse what would expire before it could be sent, unless it is the repeat of a delivery that is there."""
    try:
        check_expiry(values, now=who.now)
    except ValidationError:
        key = {"lane__workflow__slug": trigger.workflow, "lane__tenant": trigger.tenant}
        if (
            not trigger.idempotency_key
            or not Delivery.objects.filter(**key, idempotency_key=trigger.idempotency_key).exists()
        ):
            raise


def _trigger(values: dict[str, Any], text: str, who: Caller, *, header: str | None = None) -> Trigger:
    return Trigger(
        workflow=values["workflow"],
        tenant=who.tenant_for(values.get("tenant")),
        payload=text,
        digest=digest_of(values["payload"]),
        idempotency_key=key_of(values.get("idempotency_key"), header),
        deliver_at=values.get("deliver_at"),
        expires_at=values.get("expires_at"),
    )


def _shape(accepted: Accepted, trigger: Trigger, document: Any) -> shapes.Shape:
    """Return what was accepted; `document` is the trigger's payload, which a first delivery has written otherwise."""
    one = accepted.delivery
    attempts = () if one.attempt_count == 0 else one.attempts.order_by("id")
    return shapes.delivery(
        one,
        workflow=trigger.workflow,
        tenant=trigger.tenant,
        attempts=attempts,
        document=document if accepted.created else None,
    )


def _matching(wanted: dict[str, Any], who: Caller) -> Any:
    rows = Delivery.objects.select_related("lane__workflow")
    tenant = who.tenant_for(wanted.get("tenant")) if wanted.get("tenant") or who.key.tenant else ""
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
