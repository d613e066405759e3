"""Breakers: list, reset, force open."""

from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination, shapes
from reliability.api.common.authentication import Caller
from reliability.api.common.serializers import (
    BreakerPage,
    BreakerQuery,
    BreakerShape,
    ForceOpenRequest,
    ProblemShape,
    ReasonRequest,
)
from reliability.api.common.views import PROBLEMS, View, caller, read
from reliability.errors import InvalidInput, NotFound
from reliability.lanes import breakers
from reliability.models import Breaker

ACTED = {200: BreakerShape, 404: ProblemShape, **PROBLEMS}


class Breakers(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_breakers", parameters=[BreakerQuery], responses={200: BreakerPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the breakers of the lanes and, for keys of all tenants, that of the n8n instance."""
        wanted = pagination.filters(request, BreakerQuery).validated_data
        who = caller(request)
        breakers.instance()
        return pagination.page(request, _matching(wanted, who), lambda one: _shape(one, who.now))


class Reset(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="reset_breaker", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, breaker_id: UUID) -> Response:
        """Close a breaker by hand; what waits behind it ramps up."""
        who = caller(request)
        actor = who.actor(read(request, ReasonRequest).get("reason", ""))
        _find(breaker_id, who)
        breakers.reset(breaker_id=breaker_id, actor=actor, now=who.now)
        return Response(_shape(_find(breaker_id, who), who.now))


class ForceOpen(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="force_open_breaker", request=ForceOpenRequest, responses=ACTED)
    def post(self, request: Request, breaker_id: UUID) -> Response:
        """Hold a breaker open, until it is reset or until a moment."""
        who = caller(request)
        values = read(request, ForceOpenRequest)
        until = values.get("until")
        if until is not None and until <= who.now:
            raise InvalidInput(errors={"until": ["It lies in the past."]})
        _find(breaker_id, who)
        breakers.force_open(breaker_id=breaker_id, actor=who.actor(values.get("reason", "")), now=who.now, until=until)
        return Response(_shape(_find(breaker_id, who), who.now))


def _visible(who: Caller) -> Any:
    return Breaker.objects.select_related("lane__workflow").filter(who.own("lane__tenant"))


def _matching(wanted: dict[str, Any], who: Caller) -> Any:
    """Narrow the visible breakers. Raises `Forbidden` where a tenant's key names another tenant."""
    rows = _visible(who)
    if "workflow" in wanted:
        rows = rows.filter(lane__workflow__slug=wanted["workflow"])
    if "tenant" in wanted:
        rows = rows.filter(lane__tenant=who.tenant_for(wanted["tenant"]))
    return rows.filter(**{name: wanted[name] for name in ("state", "scope") if name in wanted})


def _find(breaker_id: UUID, who: Caller) -> Breaker:
    found: Breaker | None = _visible(who).filter(pk=breaker_id).first()
    if found is None:
        raise NotFound("There is no such breaker.")
    return found


def _shape(one: Breaker, now: datetime) -> shapes.Shape:
    return shapes.breaker(one, waiting=breakers.waiting(breaker=one), now=now)
