"""Wake-ups of lanes and of bulk operations, written in the transaction that makes them necessary."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

# The class of the advisory locks of lanes; the lane's id is their object.
LANE_LOCK = 1_112_757_840


def wake(*, lane_ids: Iterable[int]) -> None:
    """Have these lanes looked at as soon as the current transaction commits."""
    _call("SELECT backstop_wake(lane) FROM unnest(%s::int[]) AS lane", [sorted(set(lane_ids))])


def wake_at(*, lane_id: int, at: datetime) -> None:
    """Have the lane looked at at `at`, or earlier if that is planned already."""
    _call("SELECT backstop_wake_at(%s, %s)", [lane_id, at])


def wake_waiting(*, workflow_id: Any = None) -> None:
    """Wake every lane (of a workflow) that has a delivery not yet finished."""
    _call(
        "SELECT backstop_wake(waiting.id) FROM (SELECT lane.id FROM reliability_lane lane"
        " WHERE (%(workflow)s::uuid IS NULL OR lane.workflow_id = %(workflow)s::uuid)"
        " AND EXISTS (SELECT 1 FROM reliability_delivery"
        " WHERE lane_id = lane.id AND state IN ('pending', 'sending', 'awaiting_callback'))"
        " ORDER BY lane.id) AS waiting",
        {"workflow": workflow_id},
    )


def requeue(*, lane_id: int, wait: timedelta) -> None:
    """Have the lane looked at in `wait`, by whichever worker is free. Takes no lock of the lane.

    For a dispatcher that leaves the lane, outside a transaction: it has written nothing that this would be about.
    """
    _call("SELECT backstop_requeue(%s, %s)", [lane_id, wait])


def try_barrier(*, lane_id: int) -> bool:
    """Return whether every transaction that relied on a wake-up of this lane has ended. Never waits.

    If so, no new one can rely on anything until the current transaction ends; outside one, that is at once.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LANE_LOCK, lane_id])
        return bool(cursor.fetchone()[0])


def plan_operation_step(*, operation_id: UUID, at: datetime) -> None:
    """Have a bulk operation's next step done at `at`, and a look at it a little later, if a worker dies with it."""
    _call("SELECT backstop_operate(%s, %s)", [operation_id, at])


def plan_operation_fallback(*, operation_id: UUID, at: datetime) -> None:
    """Have a bulk operation looked at a little after `at`, when a step is due for which others will come."""
    _call("SELECT backstop_operate_stand_by(%s, %s)", [operation_id, at])


def delete_wakeups(*, lane_ids: Iterable[int]) -> None:
    """Take back the wake-ups of lanes that are to be no more."""
    _call(
        "DELETE FROM procrastinate_jobs WHERE status = 'todo' AND task_name = 'dispatch'"
        " AND (args ->> 'lane_id')::int = ANY(%s)",
        [list(lane_ids)],
    )


def _call(statement: str, parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
