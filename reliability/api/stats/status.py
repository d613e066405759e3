"""The status of the service, and the switches."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.serializers import NoFilters, ProblemSerializer
from reliability.api.common.views import PROBLEMS, View, caller_of, read
from reliability.api.delivery.guard_serializers import FlagRequest, FlagSerializer, StatusSerializer
from reliability.errors import Forbidden
from reliability.lanes import flags
from reliability.models import Flag
from reliability.stats import status

# The highest number of lanes in the answer.
LIST_LIMIT = 100


class Status(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="get_status", responses={200: StatusSerializer, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """Get the status: breakers, dead letters, backlog and its age, lanes at their limit, workers, switches."""
        pagination.filters(request, NoFilters)
        who = caller_of(request)
        found = status.load(now=who.now, tenant=who.key.tenant)
        more = {name: section(who.now, who.key.tenant) for name, section in status.SECTIONS.items()}
        return Response({**_representation(found), **more})


class Flags(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_flags", responses={200: FlagSerializer(many=True), **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the switches."""
        pagination.filters(request, NoFilters)
        return Response([flag_representation(one) for one in flags.all_flags()])


class OneFlag(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="switch_flag",
        request=FlagRequest,
        responses={200: FlagSerializer, 404: ProblemSerializer, **PROBLEMS},
    )
    def post(self, request: Request, name: str) -> Response:
        """Turn a part of the service off or on, for all tenants. Needs a key for all tenants."""
        caller = caller_of(request)
        if caller.key.tenant:
            raise Forbidden("This API key is limited to one tenant. Changing a switch needs a key for all tenants.")
        values = read(request, FlagRequest)
        actor = caller.actor(values.get("reason", ""))
        return Response(
            flag_representation(flags.switch(name=name, enabled=values["enabled"], actor=actor, now=caller.now))
        )


def flag_representation(one: Flag) -> dict[str, Any]:
    return {
        "name": one.name,
        "enabled": one.enabled,
        "reason": one.reason,
        "changed_at": one.changed_at,
        "changed_by": one.changed_by,
    }


def _representation(found: status.Status) -> dict[str, Any]:
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
        "flags": [flag_representation(one) for one in found.flags],
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
