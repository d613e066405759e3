"""The status, and the switches."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.serializers import ProblemShape, Strict
from reliability.api.common.views import PROBLEMS, View, caller, read
from reliability.api.delivery.guard_serializers import FlagRequest, FlagShape, StatusShape
from reliability.errors import Forbidden
from reliability.lanes import flags
from reliability.models import Flag
from reliability.stats import status

# Lanes listed at the most.
LIST_LIMIT = 100


class NoFilters(Strict):
    """A call without filters."""


class Status(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="get_status", responses={200: StatusShape, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """One look: breakers, dead letters, backlog and its age, lanes at their limit, workers, switches, callers."""
        pagination.filters(request, NoFilters)
        who = caller(request)
        found = status.take(now=who.now, tenant=who.key.tenant)
        more = {name: section(who.now, who.key.tenant) for name, section in status.SECTIONS.items()}
        return Response({**_shape(found), **more})


class Flags(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_flags", responses={200: FlagShape(many=True), **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List what can be switched off and on."""
        pagination.filters(request, NoFilters)
        return Response([flag_shape(one) for one in flags.all_of_them()])


class OneFlag(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="switch_flag", request=FlagRequest, responses={200: FlagShape, 404: ProblemShape, **PROBLEMS}
    )
    def post(self, request: Request, name: str) -> Response:
        """Switch a part of the service off or on. It concerns all tenants, and needs a key for all of them."""
        who = caller(request)
        if who.key.tenant:
            raise Forbidden("A tenant's key cannot switch what all tenants share.")
        values = read(request, FlagRequest)
        actor = who.actor(values.get("reason", ""))
        return Response(flag_shape(flags.switch(name=name, enabled=values["enabled"], actor=actor, now=who.now)))


def flag_shape(one: Flag) -> dict[str, Any]:
    return {
        "name": one.name,
        "enabled": one.enabled,
        "reason": one.reason,
        "changed_at": one.changed_at,
        "changed_by": one.changed_by,
    }


def _shape(found: status.Status) -> dict[str, Any]:
    dead, lanes, oldest = found.dead, found.lanes, found.oldest
    return {
        "at": found.now,
        "breakers": found.breakers,
        "dead_letters": {
            "total": sum(one.count for one in dead),
            "oldest_at": min((one.oldest_at for one in dead), default=None),
            "by_workflow": [{"workflow": one.workflow, "count": one.count, "oldest_at": one.oldest_at} for one in dead],
        },
        "backlog": {
            "waiting": sum(lane.waiting for lane in lanes),
            "in_flight": sum(lane.in_flight for lane in lanes),
            "oldest_seconds": oldest.total_seconds() if oldest is not None else None,
        },
        "lanes_at_limit": [_lane(one) for one in lanes if one.is_full][:LIST_LIMIT],
        "workers_alive": found.workers_alive,
        "flags": [flag_shape(one) for one in found.flags],
        "stripe": {
            "last_event_at": found.stripe.last_event_at,
            "refused_last_hour": found.stripe.refused_last_hour,
        },
    }


def _lane(one: status.LaneLoad) -> dict[str, Any]:
    return {
        "workflow": one.workflow,
        "tenant": one.tenant,
        "in_flight": one.in_flight,
        "limit": one.limit,
        "waiting": one.waiting,
    }
