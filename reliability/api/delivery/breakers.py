"""Circuit breakers: list, reset, force open."""

from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination, representations
from reliability.api.common.authentication import Caller
from reliability.api.common.serializers import (
    BreakerPage,
    BreakerQuery,
    BreakerSerializer,
    ForceOpenRequest,
    ProblemSerializer,
    ReasonRequest,
)
from reliability.api.common.views import PROBLEMS, View, caller_of, read
from reliability.errors import InvalidInput, NotFound
from reliability.lanes import breakers
from reliability.models import Breaker

ACTED = {200: BreakerSerializer, 404: ProblemSerializer, **PROBLEMS}


class Breakers(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_breakers", parameters=[BreakerQuery], responses={200: BreakerPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the breakers of lanes and, with a key for all tenants, the breaker of the n8n instance."""
        wanted = pagination.filters(request, BreakerQuery).validated_data
        caller = caller_of(request)
        breakers.instance()
        return pagination.page(request, _matching(wanted, caller), lambda one: _representation(one, caller.now))


class Reset(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="reset_breaker", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, breaker_id: UUID) -> Response:
        """Close a breaker. Waiting deliveries then ramp up: one in flight at first, one more with each success."""
        caller = caller_of(request)
        actor = caller.actor(read(request, ReasonRequest).get("reason", ""))
        _find(breaker_id, caller)
        breakers.reset(breaker_id=breaker_id, actor=actor, now=caller.now)
        return Response(_representation(_find(breaker_id, caller), caller.now))


class ForceOpen(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="force_open_breaker", request=ForceOpenRequest, responses=ACTED)
    def post(self, request: Request, breaker_id: UUID) -> Response:
        """Force a breaker open, until it is reset or until a time."""
        caller = caller_of(request)
        values = read(request, ForceOpenRequest)
        until = values.get("until")
        if until is not None and until <= caller.now:
            raise InvalidInput(errors={"until": ["This time is in the past."]})
        _find(breaker_id, caller)
        breakers.force_open(
            breaker_id=breaker_id, actor=caller.actor(values.get("reason", "")), now=caller.now, until=until
        )
        return Response(_representation(_find(breaker_id, caller), caller.now))


def _visible(caller: Caller) -> Any:
    return Breaker.objects.select_related("lane__workflow").filter(caller.own("lane__tenant"))


def _matching(wanted: dict[str, Any], caller: Caller) -> Any:
    """Filter the visible breakers. Raises `Forbidden` if a tenant's key names another tenant."""
    rows = _visible(caller)
    if "workflow" in wanted:
        rows = rows.filter(lane__workflow__slug=wanted["workflow"])
    if "tenant" in wanted:
        rows = rows.filter(lane__tenant=caller.tenant_for(wanted["tenant"]))
    return rows.filter(**{name: wanted[name] for name in ("state", "scope") if name in wanted})


def _find(breaker_id: UUID, caller: Caller) -> Breaker:
    found: Breaker | None = _visible(caller).filter(pk=breaker_id).first()
    if found is None:
        raise NotFound("There is no such breaker.")
    return found


def _representation(one: Breaker, now: datetime) -> representations.Representation:
    return representations.breaker(one, waiting=breakers.waiting(breaker=one), now=now)
